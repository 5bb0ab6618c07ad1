// The server's estimate of a classifier's accuracy, overall and for each class, as intervals.

import { bar } from "../shared/bars.js";
import { make, number } from "../shared/dom.js";
import { interval, wilson } from "../shared/interval.js";
import { isMixed } from "./pictures_used.js";

const FEW = 3; // minimum number of pictures per class for an estimate
const SHOWN = 0.005; // seconds; shorter stages are not shown
const STAGES = {
  encoding: "encoded the pictures",
  recalling: "recalled",
  queued: "waited",
  training: "trained",
  transferring: "stored",
};

/** The elements that show the estimate, or the reason why there is none. */
export function estimate(record) {
  const title = make("h3", { textContent: "Estimated accuracy" });
  const { quality } = record;
  if (!quality) return [title, make("p", { className: "note", textContent: missing(record) })];
  const pictures = Object.values(quality.counts).reduce((sum, count) => sum + count, 0);
  const bounds = record.ways?.[record.addressing] ?? wilson(quality.accuracy, pictures); // the server's, if it has one
  const value = make("p", { className: "figure", textContent: interval(bounds) });
  const basis = `A 95 % interval from ${number(pictures)} pictures. `;
  const explanation = make("p", { className: "note", textContent: basis + quality.explanation });
  return [title, value, explanation, perLabel(record.labels, quality)];
}

function missing(record) {
  if (record.bundles.length > 1) return `There is no estimate. ${record.notes[0]}`;
  if (isMixed(record)) {
    return "There is no estimate: names and pictures were never measured together. Test it on pictures below.";
  }
  const fewest = Math.min(...Object.values(record.pictures ?? {}));
  const tooFew = record.queries === "images" && fewest < FEW;
  const unknown = "there is no measurement that it could be based on";
  const reason = tooFew ? `it needs ${FEW} or more pictures of each class` : unknown;
  return `There is no estimate: ${reason}. Test the classifier on pictures below.`;
}

function perLabel(labels, quality) {
  const rows = labels.filter((label) => label in quality.per_label).map((label) => {
    const value = quality.per_label[label];
    const counted = quality.counts[label];
    return make(
      "tr",
      {},
      make("th", { scope: "row", textContent: label }),
      make("td", { className: "bar" }, bar(value)),
      make("td", { textContent: interval(wilson(value, counted)) }),
      make("td", { textContent: number(counted) }),
    );
  });
  const heads = ["Class", "", "Accuracy", "Pictures"].map((text) => make(text ? "th" : "td", { textContent: text }));
  const head = make("thead", {}, make("tr", {}, ...heads));
  const table = make("table", { className: "estimate" }, head, make("tbody", {}, ...rows));
  return make("details", {}, make("summary", { textContent: "By class" }), table);
}

/** "Waited 0.1 s, recalled 0.2 s, trained 2.1 s."; stages that are short or not known are left out. */
export function stages(record) {
  const each = ([stage, seconds]) => `${STAGES[stage] ?? stage} ${time(seconds)}`;
  const text = Object.entries(record.stages ?? {}).filter(([, seconds]) => seconds >= SHOWN).map(each).join(", ");
  return text && `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function time(seconds) {
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
}
