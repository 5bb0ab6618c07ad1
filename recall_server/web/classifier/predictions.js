// Using a classifier, or its prototypes until it is trained: predictions for pictures, its files and its card.

import { PictureBox } from "../shared/picture_box.js";
import { showCard } from "../shared/card.js";
import { $, complain, counted, list, make, network, number, percent, save } from "../shared/dom.js";
import { estimate, stages } from "./quality.js";
import { ask, json, read } from "../shared/server.js";
import { form, prepared } from "../shared/upload.js";
import { cautions, inFeatures, used } from "./pictures_used.js";

const AT_ONCE = 50;
const SHOWN = 48;
const SHOWN_LABELS = 5;
const INTERIM = " These predictions compare with your pictures; the network repeats them once it is trained.";
let current = null; // { record, seen, shown }; replaced when the pictures are cleared or another classifier is made
let last = null; // the record of the last trained classifier
let queue = Promise.resolve();
const box = new PictureBox("Pictures to classify", {
  added: (files) => look(files),
  cleared: () => begin(current.record),
});
$("predict-box").append(box.element);

/**
 * Show the classifier of this record or, until it is trained, its prototypes. Pictures in the box are classified again.
 * With `quietly`, the focus does not move to it.
 */
export function useClassifier(record, { quietly = false } = {}) {
  const trained = record.status === "succeeded";
  const usable = trained || (!record.is_terminal && record.addressing === "images");
  const busy = !$("try").hidden && (box.files.length || $("try").contains(document.activeElement));
  const again = current?.record.id === record.id;
  if (!usable) return again && withdraw();
  if (trained) last = record;
  $("try").hidden = false;
  $("made").textContent = made(record, trained);
  $("stages").textContent = stages(record);
  $("cautions").replaceChildren(...cautions(record));
  $("quality").replaceChildren(...estimate(record));
  $("used").replaceChildren(...used(record));
  $("take").hidden = !trained;
  $("classifier-card").hidden = !record.links.card;
  complain("download-error", null);
  begin(record, again ? current.shown : SHOWN);
  if (box.files.length) look(box.files);
  if (trained && !quietly && !(again && busy)) $("try-title").focus();
}

/** The current training failed or was stopped: return to the previous classifier, if there is one. */
function withdraw() {
  if (last) useClassifier(last, { quietly: true });
  else $("try").hidden = true;
}

/** A description of the classifier: its classes, its memories, and the time of its training. */
function made(record, trained) {
  const { addressing, bundles, labels, network: spec, seconds } = record;
  const memories = list(bundles.map(({ name }) => name));
  if (inFeatures(record)) {
    return `A classifier of ${list(labels)}, made from your pictures in the features of an encoder (${memories}).`;
  }
  if (addressing === "prototypes") {
    return `A classifier of ${list(labels)} that compares pictures with yours, by the encoder of ${memories}.`;
  }
  const fresh = `fresh network (${network(spec)})`;
  if (!trained) {
    return (
      `A ${fresh} is being trained to classify ${list(labels)} on images recalled from ${memories}. You can try it ` +
      "already: until it is trained, a picture is assigned to the class with the nearest pictures."
    );
  }
  const time = seconds == null ? "" : ` in ${seconds.toFixed(1)} s`;
  return `A ${fresh} that classifies ${list(labels)}, trained${time} on images recalled from ${memories}.`;
}

function begin(record, shown = SHOWN) {
  current = { record, seen: [], shown };
  complain("predict-error", null);
  $("predictions").replaceChildren();
  showPredictions();
}

function look(files) {
  const mine = current;
  queue = queue.then(() => predict(mine, [...files]));
}

/** Classify these files in batches, until all are done or the session was replaced. */
async function predict(mine, files) {
  const { id, image } = mine.record;
  for (let start = 0; start < files.length && current === mine; start += AT_ONCE) {
    const some = files.slice(start, start + AT_ONCE);
    if (!start) complain("predict-error", null);
    $("predict-text").textContent = `Classifying ${counted(files.length, "picture")}: ${number(start)} done…`;
    try {
      const parts = await prepared(some.map((file) => ["images", file]), Math.max(image.height, image.width));
      const { predictions } = await json(`/classifier/${encodeURIComponent(id)}/predict`, form(parts));
      mine.seen.push(...predictions.map((prediction, index) => [some[index], prediction]));
    } catch (error) {
      if (current !== mine) return;
      const left = files.length - start;
      complain("predict-error", left > 1 ? `${error.message} ${counted(left, "picture")} not classified.` : error);
      start = files.length;
    }
    if (current === mine) showPredictions();
  }
}

/** Show the number of pictures per class, and the first pictures with their probabilities. */
function showPredictions() {
  const { seen, shown } = current;
  const counts = new Map();
  for (const [, { label, none_of_these: none }] of seen) {
    const said = none ? "none of these" : label;
    counts.set(said, (counts.get(said) ?? 0) + 1);
  }
  const ranked = [...counts].sort((one, other) => other[1] - one[1]);
  const words = list(ranked.map(([label, count]) => `${number(count)} × ${label}`));
  const waits = current.record.status !== "succeeded" && seen.some(([, { by }]) => by === "prototypes");
  const text = `${counted(seen.length, "picture")} classified: ${words}.${waits ? INTERIM : ""}`;
  $("predict-text").textContent = seen.length ? text : "";
  const entries = seen.slice($("predictions").children.length, shown);
  $("predictions").append(...entries.map(([file, prediction]) => entry(file, prediction)));
  $("more-predictions").hidden = seen.length <= shown;
}

function entry(file, { label, probabilities, familiarity, none_of_these: none }) {
  const ranked = Object.entries(probabilities).sort((one, other) => other[1] - one[1]).slice(0, SHOWN_LABELS);
  const rows = ranked.map(([name, value]) => {
    const meter = make("meter", { value });
    meter.setAttribute("aria-hidden", "true"); // redundant with the number beside it
    return make(
      "tr",
      {},
      make("th", { scope: "row", textContent: name }),
      make("td", {}, meter),
      make("td", { textContent: percent(value, 0) }),
    );
  });
  const src = URL.createObjectURL(file);
  const said = none ? "none of these" : label;
  const picture = make("img", { src, alt: `${file.name}, classified as ${said}`, decoding: "async" });
  for (const kind of ["load", "error"]) picture.addEventListener(kind, () => URL.revokeObjectURL(src), { once: true });
  const parts = [picture, make("table", {}, make("tbody", {}, ...rows))];
  if (familiarity != null) {
    const textContent = `${none ? "None of these? " : ""}Familiar: ${percent(familiarity, 0)}`;
    parts.push(make("p", { className: none ? "caution" : "note", textContent }));
  }
  return make("li", {}, ...parts);
}

async function download(format) {
  const { id } = current.record;
  complain("download-error", null);
  try {
    const answer = await ask(`/classifier/${encodeURIComponent(id)}/download?format=${format}`);
    save(await read(answer, () => answer.blob()), `${fileName(id)}.${format}`);
  } catch (error) {
    complain("download-error", error);
  }
}

const fileName = (id) => `classifier-${id.slice(0, 8)}`;

for (const button of document.querySelectorAll("[data-download]")) {
  button.addEventListener("click", () => download(button.dataset.download));
}
$("more-predictions").addEventListener("click", () => { current.shown += SHOWN; showPredictions(); });
$("classifier-card").addEventListener("click", () => showCard(current.record.links.card, fileName(current.record.id)));
