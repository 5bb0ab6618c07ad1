// The classifiers that the server holds, the newest first, to be opened again.

import { $, complain, list, make } from "../shared/dom.js";
import { json } from "../shared/server.js";

const PAGE = 10;
let use = null; // shows the classifier of a record
let current = null; // the record that is shown
let next = null; // the cursor of the next page
let asked = 0; // lists so far

/** List the newest classifiers, each to be opened by `useClassifier`, and mark the one that is shown, if any. */
export async function listEarlier(useClassifier, shown = current) {
  [use, current] = [useClassifier, shown];
  const mine = (asked += 1);
  const entries = await page(null);
  if (mine !== asked) return; // a newer list was asked for
  $("earlier-list").replaceChildren(...entries);
  $("earlier").hidden = !$("earlier-list").children.length;
}

/** The entries of a page, none if the request fails. */
async function page(cursor) {
  try {
    const answer = await json(`/classifier?${new URLSearchParams({ limit: PAGE, ...(cursor && { cursor }) })}`);
    next = answer.next;
    $("more-earlier").hidden = !next;
    complain("earlier-error", null);
    return answer.classifiers.map(entry);
  } catch (error) {
    complain("earlier-error", error);
    return [];
  }
}

function entry(record) {
  const from = record.queries === "images" ? "your pictures" : list(record.bundles.map(({ name }) => name));
  const when = new Date(record.created_at).toLocaleString();
  const note = (words) => make("span", { className: "note", textContent: words });
  const text = make("span", {}, list(record.labels), note(` ${when}, from ${from}`));
  if (record.status !== "succeeded") {
    text.append(note(` (${record.status})`));
    return make("li", {}, text);
  }
  const open = make("button", { type: "button", textContent: "Open" });
  open.setAttribute("aria-label", `Open the classifier of ${list(record.labels)}`);
  if (record.id === current?.id) open.setAttribute("aria-current", "true");
  open.addEventListener("click", () => {
    history.replaceState(null, "", `#classifier=${encodeURIComponent(record.id)}`);
    use(record);
  });
  return make("li", {}, open, text);
}

$("more-earlier").addEventListener("click", async () => {
  const entries = await page(next);
  $("earlier-list").append(...entries);
  entries[0]?.querySelector("button")?.focus(); // the focused button may have been removed
});
