// How the pictures that somebody sent were used, how near they are to what the memory knows, and what to beware of.

import { make, percent } from "../shared/dom.js";

const [UNUSUAL, STRANGE] = [0.8, 0.95]; // of the memory's own pictures are nearer; from the latter on the server warns

/** What whoever relies on this classifier must not overlook, as elements; none where there is nothing. */
export function cautions(record) {
  return split(record).warnings.map((textContent) => make("p", { className: "caution", textContent }));
}

/** What became of the pictures, as elements; none for a classifier of names. */
export function used(record) {
  if (!record.addressing) return [];
  const title = make("h3", { textContent: "How your pictures were used" });
  const then = record.addressing === "images" ? " The network learns what it recalls for yours." : "";
  return [title, make("p", { textContent: split(record).why + then }), ...familiarity(record)];
}

/** The first note on pictures says how they were used and why; all others are warnings. */
function split({ addressing, notes }) {
  const [why, ...warnings] = addressing ? notes : ["", ...notes];
  return { why: why ?? "", warnings };
}

function familiarity({ out_of_set: scores }) {
  if (!scores) {
    const textContent = "How near they are to what the memory knows is not known: nothing was measured that says so.";
    return [make("p", { className: "note", textContent })];
  }
  const rows = Object.entries(scores).map(([label, score]) =>
    make(
      "tr",
      {},
      make("th", { scope: "row", textContent: label }),
      make("td", { textContent: word(score) }),
      make("td", { textContent: percent(1 - score, 0) }),
    ));
  const named = (textContent) => make("th", { scope: "col", textContent });
  const heads = ["Class", "To the memory", "Nearer than"].map(named);
  const head = make("thead", {}, make("tr", {}, ...heads));
  const textContent =
    "How near they are to what the memory knows: nearer than so many of the pictures of its own data. Half of them " +
    "is usual; next to none means something that it has never seen.";
  return [
    make("table", { className: "estimate" }, head, make("tbody", {}, ...rows)),
    make("p", { className: "note", textContent }),
  ];
}

function word(score) {
  return score >= STRANGE ? "strange" : score >= UNUSUAL ? "unusual" : "familiar";
}
