// Why a picture was classified so: the recalled items that spoke for and against the most probable class.

import { bar } from "../shared/bars.js";
import { make, percent } from "../shared/dom.js";
import { json } from "../shared/server.js";
import { form, prepared } from "../shared/upload.js";

const MEANING = "The log-odds of the class, less those of a head that was trained without this item";

/** A button and the place for its answer; nothing for a classifier that cannot be explained. */
export function why(file, prediction, record) {
  if (record.queries !== "labels" || record.network !== "linear" || record.status !== "succeeded") return [];
  const button = make("button", { type: "button", textContent: "Why?" });
  button.setAttribute("aria-label", `Why ${file.name} is classified as ${prediction.label}`);
  const place = make("div", { className: "why" });
  place.setAttribute("role", "status");
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      const parts = await prepared([["images", file]], Math.max(record.image.height, record.image.width));
      place.replaceChildren(...sides(await json(record.links.explain, form(parts))));
      button.hidden = true;
    } catch (error) {
      place.replaceChildren(make("p", { className: "error", textContent: error.message }));
      button.disabled = false;
    }
  });
  return [button, place];
}

/** What spoke for the class, and what spoke against it. */
function sides({ label, supporting, opposing, items }) {
  const largest = Math.max(...[...supporting, ...opposing].map(({ influence }) => Math.abs(influence)));
  return [
    ...side(`For ${label}`, supporting, largest, items),
    ...side(`Against ${label}`, opposing, largest, items),
  ];
}

function side(title, listed, largest, items) {
  if (!listed.length) return [];
  const rows = listed.map((each) => make(
    "tr",
    { title: `${MEANING}: ${each.influence.toFixed(2)}. Without it: ${percent(each.probability_without, 0)}` },
    make("th", { scope: "row", textContent: named(each) }),
    make("td", { className: "bar" }, bar(Math.abs(each.influence) / largest)),
    make("td", { textContent: `${each.influence > 0 ? "+" : "−"}${Math.abs(each.influence).toFixed(1)}` }),
  ));
  const caption = make("caption", { textContent: title, title: `Of ${items} recalled items` });
  return [make("table", { className: "bars" }, caption, make("tbody", {}, ...rows))];
}

/** The class, the memory and the number of an item. */
const named = ({ label, bundle, row }) => `${label} of ${bundle}${row ? `, item ${row + 1}` : ""}`;
