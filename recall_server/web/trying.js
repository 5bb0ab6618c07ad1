// Using a classifier that was just trained: predictions for dropped pictures, its files and its card.

import { PictureBox } from "./boxes.js";
import { showCard } from "./card.js";
import { $, complain, counted, list, make, network, number, percent, save } from "./dom.js";
import { estimate, stages } from "./quality.js";
import { ask, json, read } from "./server.js";
import { form, prepared } from "./upload.js";

const AT_ONCE = 50;
const SHOWN = 48;
const SHOWN_LABELS = 5;
let current = null; // { record, seen, shown }: another one once the pictures are cleared, or another classifier made
let box = null;
let queue = Promise.resolve();

/** Show this classifier. `quietly`: it was there before, so nobody is taken to it. */
export function useClassifier(record, { quietly = false } = {}) {
  const time = record.seconds == null ? "" : ` in ${record.seconds.toFixed(1)} s`;
  $("made").textContent =
    `A fresh network (${network(record.network)}) that tells ${list(record.labels)} apart, trained${time} from what ` +
    `${record.bundles.map(({ name }) => name).join(" and ")} recalled.`;
  $("stages").textContent = stages(record);
  $("quality").replaceChildren(...estimate(record));
  $("classifier-card").hidden = !record.links.card;
  complain("download-error", null);
  box?.clear();
  box = new PictureBox("Pictures to look at", {
    added: (files) => {
      const mine = current;
      queue = queue.then(() => predict(mine, files));
    },
    cleared: () => begin(record),
  });
  $("predict-box").replaceChildren(box.element);
  begin(record);
  $("try").hidden = false;
  if (!quietly) $("try-title").focus();
}

function begin(record) {
  current = { record, seen: [], shown: SHOWN };
  complain("predict-error", null);
  $("predictions").replaceChildren();
  showPredictions();
}

/** Look at these files, some at a time, until all are seen or they are wanted no longer. */
async function predict(mine, files) {
  const { id, image } = mine.record;
  for (let start = 0; start < files.length && current === mine; start += AT_ONCE) {
    const some = files.slice(start, start + AT_ONCE);
    if (!start) complain("predict-error", null);
    $("predict-text").textContent = `Looking at ${counted(files.length, "picture")}: ${number(start)} done…`;
    try {
      const parts = await prepared(some.map((file) => ["images", file]), Math.max(image.height, image.width));
      const { predictions } = await json(`/classifier/${encodeURIComponent(id)}/predict`, form(parts));
      mine.seen.push(...predictions.map((prediction, index) => [some[index], prediction]));
    } catch (error) {
      if (current !== mine) return;
      const left = files.length - start;
      complain("predict-error", left > 1 ? `${error.message} ${counted(left, "picture")} not looked at.` : error);
      start = files.length;
    }
    if (current === mine) showPredictions();
  }
}

/** How many of each, and the pictures themselves as far as anybody would look at them. */
function showPredictions() {
  const { seen, shown } = current;
  const counts = new Map();
  for (const [, { label }] of seen) counts.set(label, (counts.get(label) ?? 0) + 1);
  const ranked = [...counts].sort((one, other) => other[1] - one[1]);
  const words = list(ranked.map(([label, count]) => `${number(count)} × ${label}`));
  $("predict-text").textContent = seen.length ? `${counted(seen.length, "picture")} seen: ${words}.` : "";
  const entries = seen.slice($("predictions").children.length, shown);
  $("predictions").append(...entries.map(([file, prediction]) => entry(file, prediction)));
  $("more-predictions").hidden = seen.length <= shown;
}

function entry(file, { label, probabilities }) {
  const ranked = Object.entries(probabilities).sort((one, other) => other[1] - one[1]).slice(0, SHOWN_LABELS);
  const rows = ranked.map(([name, value]) => {
    const meter = make("meter", { value });
    meter.setAttribute("aria-hidden", "true"); // the number beside it says the same
    return make(
      "tr",
      {},
      make("th", { scope: "row", textContent: name }),
      make("td", {}, meter),
      make("td", { textContent: percent(value, 0) }),
    );
  });
  const src = URL.createObjectURL(file);
  const picture = make("img", { src, alt: `${file.name}, seen as ${label}`, decoding: "async" });
  for (const kind of ["load", "error"]) picture.addEventListener(kind, () => URL.revokeObjectURL(src), { once: true });
  return make("li", {}, picture, make("table", {}, make("tbody", {}, ...rows)));
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
