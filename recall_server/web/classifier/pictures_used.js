// How the user's pictures were used, how familiar they are to the memory, and warnings.

import { bar } from "../shared/bars.js";
import { make, percent } from "../shared/dom.js";
import { interval } from "../shared/interval.js";

// Shares of the memory's own pictures that are nearer; from STRANGE on, the server warns.
const [UNUSUAL, STRANGE] = [0.8, 0.95];

/** The warnings about this classifier, as elements: classes that are strange to the memory. */
export function cautions(record) {
  return split(record).warnings.map((textContent) => make("p", { className: "caution", textContent }));
}

/** How the pictures were used, as elements; none for a classifier of names. */
export function used(record) {
  if (!record.addressing) return [];
  const title = make("h3", { textContent: "How your pictures were used" });
  const then = record.addressing === "images" ? " The network is trained on images recalled for your pictures." : "";
  const why = make("p", { textContent: split(record).why + then });
  return [title, why, ...(inFeatures(record) ? compared(record) : familiarity(record))];
}

/** What else the server says of this classifier, as elements. */
export function remarks(record) {
  return split(record).others.map((textContent) => make("p", { className: "note", textContent }));
}

/** Whether the classifier is a head in the features of an encoder, made from pictures. */
export function inFeatures({ addressing, network }) {
  return Boolean(addressing) && network === "linear";
}

/** Whether memories and pictures say together what the classes look like. */
export function isMixed({ addressing, pictures, ways }) {
  return pictures != null && addressing === "recalled" && !ways;
}

/** How each way to use the pictures did on those that were left out, the best one first. */
function compared({ ways, addressing }) {
  if (!ways) return [];
  const ranked = Object.entries(ways).sort(([, one], [, other]) => other.accuracy - one.accuracy);
  const rows = ranked.map(([way, { accuracy, low, high }]) =>
    make(
      "tr",
      {},
      make("th", { scope: "row", textContent: way === addressing ? `${way} (chosen)` : way }),
      make("td", { textContent: percent(accuracy, 0) }),
      make("td", { textContent: interval({ low, high }) }),
    ));
  const heads = ["Way", "Right", "95 % interval"].map((text) => make("th", { scope: "col", textContent: text }));
  const head = make("thead", {}, make("tr", {}, ...heads));
  return [make("table", { className: "estimate" }, head, make("tbody", {}, ...rows))];
}

/** The notes by kind: warnings come last, one for each strange class; what was done with the pictures comes before. */
function split({ addressing, notes, out_of_set: scores }) {
  const strange = Object.values(scores ?? {}).filter((score) => score >= STRANGE).length;
  const told = notes.slice(0, notes.length - strange);
  const why = addressing ? told.pop() ?? "" : "";
  return { why, warnings: notes.slice(notes.length - strange), others: told };
}

function familiarity({ out_of_set: scores }) {
  if (!scores) {
    const textContent = "How familiar they are to the memory is not known: the memory has no novelty scorer.";
    return [make("p", { className: "note", textContent })];
  }
  const rows = Object.entries(scores).map(([label, score]) =>
    make(
      "tr",
      {},
      make("th", { scope: "row", textContent: label }),
      make("td", { className: "bar" }, bar(1 - score)),
      make("td", { textContent: `${percent(1 - score, 0)}, ${word(score)}` }),
    ));
  const heads = ["Class", "", "Familiar"].map((text) => make(text ? "th" : "td", { textContent: text }));
  const head = make("thead", {}, make("tr", {}, ...heads));
  const textContent =
    "How familiar your pictures are to the memory: the share of its own pictures that are less like its data. Half " +
    "is typical; almost none means that the memory has seen nothing similar.";
  return [
    make("table", { className: "estimate" }, head, make("tbody", {}, ...rows)),
    make("p", { className: "note", textContent }),
  ];
}

function word(score) {
  return score >= STRANGE ? "strange" : score >= UNUSUAL ? "unusual" : "familiar";
}
