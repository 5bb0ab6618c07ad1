// Predictions for pictures that are given to the shown classifier, or to its prototypes until it is trained.

import { $, complain, counted, list, number } from "../shared/dom.js";
import { PictureBox } from "../shared/picture_box.js";
import { json } from "../shared/server.js";
import { form, prepared } from "../shared/upload.js";
import { stopLive, useLive } from "./live.js";
import { isNone, offerThreshold, onThreshold } from "./none.js";
import { entry } from "./prediction.js";
import { forgetTest, prelabel, showTest } from "./tested.js";

const AT_ONCE = 50;
const SHOWN = 48;
const INTERIM = " These predictions compare with your pictures; the network repeats them once it is trained.";
let current = null; // { record, seen, shown }; replaced when the pictures are cleared or another classifier is made
let queue = Promise.resolve();
const box = new PictureBox("Pictures to classify", {
  added: (files) => look(files),
  cleared: () => {
    forgetTest();
    begin(current.record);
  },
});
$("predict-box").append(box.element);

/** Whether there are pictures in the box. */
export const previewing = () => box.files.length > 0;

/** Predict by the classifier of this record from now on. Pictures in the box are classified again. */
export function previewClassifier(record, { again }) {
  if (!again) stopLive();
  useLive(record);
  begin(record, again ? current.shown : SHOWN);
  if (box.files.length) look(box.files);
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
  const { id, image, labels } = mine.record;
  for (let start = 0; start < files.length && current === mine; start += AT_ONCE) {
    const some = files.slice(start, start + AT_ONCE);
    if (!start) complain("predict-error", null);
    $("predict-text").textContent = `Classifying ${counted(files.length, "picture")}: ${number(start)} done…`;
    try {
      const parts = await prepared(some.map((file) => ["images", file]), Math.max(image.height, image.width));
      const { predictions } = await json(`/classifier/${encodeURIComponent(id)}/predict`, form(parts));
      for (const file of some) prelabel(file, labels);
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
  const { record, seen, shown } = current;
  const counts = new Map();
  for (const [, { label }] of seen) counts.set(label, (counts.get(label) ?? 0) + 1);
  const none = seen.filter(([, prediction]) => isNone(prediction)).length;
  const unlike = none ? `; ${number(none)} may show none of these` : "";
  const ranked = [...counts].sort((one, other) => other[1] - one[1]);
  const words = list(ranked.map(([label, count]) => `${number(count)} × ${label}`));
  const waits = record.status !== "succeeded" && seen.some(([, { by }]) => by === "prototypes");
  const text = `${counted(seen.length, "picture")} classified: ${words}${unlike}.${waits ? INTERIM : ""}`;
  $("predict-text").textContent = seen.length ? text : "";
  const count = () => showTest(seen);
  offerThreshold(seen.map(([, prediction]) => prediction));
  const entries = seen.slice($("predictions").children.length, shown);
  $("predictions").append(...entries.map(([file, prediction]) => entry(file, prediction, record, count)));
  $("more-predictions").hidden = seen.length <= shown;
  count();
}

onThreshold(() => {
  $("predictions").replaceChildren();
  showPredictions();
});
$("more-predictions").addEventListener("click", () => { current.shown += SHOWN; showPredictions(); });
