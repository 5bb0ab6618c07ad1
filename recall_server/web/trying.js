// Using a classifier that was just trained: predictions for dropped pictures, and its files.

import { PictureBox } from "./boxes.js";
import { $, complain, make, network, percent } from "./dom.js";
import { ask, json } from "./server.js";

const AT_ONCE = 50;
const SHOWN_LABELS = 5;
let classifier = null;

export function useClassifier(record) {
  classifier = record;
  const seconds = record.seconds == null ? "" : ` in ${record.seconds.toFixed(1)} s`;
  $("made").textContent = `A fresh network (${network(record.network)}) that tells ${list(record.labels)} apart, trained${seconds} from what ${record.bundle.name} recalled.`;
  const box = new PictureBox("Pictures to look at", predict);
  $("predict-box").replaceChildren(box.element);
  $("predictions").replaceChildren();
  $("try").hidden = false;
  $("try-title").tabIndex = -1;
  $("try-title").focus({ preventScroll: false });
}

function list(labels) {
  const shown = labels.slice(0, 6);
  const rest = labels.length - shown.length;
  return rest ? `${shown.join(", ")} and ${rest} more` : `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}`;
}

async function predict(files) {
  complain("predict-error", null);
  const mine = classifier;  // another one may be trained before the last picture is seen
  for (let start = 0; start < files.length; start += AT_ONCE) {
    const some = files.slice(start, start + AT_ONCE);
    const form = new FormData();
    for (const file of some) form.append("images", file);
    try {
      const { predictions } = await json(`/classifier/${mine.id}/predict`, { method: "POST", body: form });
      $("predictions").prepend(...predictions.map((prediction, index) => entry(some[index], prediction)));
    } catch (error) {
      complain("predict-error", error);
      return;
    }
  }
}

function entry(file, { label, probabilities }) {
  const ranked = Object.entries(probabilities).sort((one, other) => other[1] - one[1]).slice(0, SHOWN_LABELS);
  const rows = ranked.map(([name, value]) => {
    const meter = make("meter", { value, textContent: percent(value) });
    meter.setAttribute("aria-label", `${name}: ${percent(value)}`);
    return make("tr", {}, make("th", { scope: "row", textContent: name }), make("td", {}, meter), make("td", { textContent: percent(value, 0) }));
  });
  const picture = make("img", { src: URL.createObjectURL(file), alt: `${file.name}, seen as ${label}` });
  picture.addEventListener("load", () => URL.revokeObjectURL(picture.src), { once: true });
  return make("li", {}, picture, make("table", {}, make("tbody", {}, ...rows)));
}

async function download(format) {
  complain("download-error", null);
  try {
    const answer = await ask(`/classifier/${classifier.id}/download?format=${format}`);
    const address = URL.createObjectURL(await answer.blob());
    make("a", { href: address, download: `classifier-${classifier.id.slice(0, 8)}.${format}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
  } catch (error) {
    complain("download-error", error);
  }
}

for (const button of document.querySelectorAll("[data-download]")) {
  button.addEventListener("click", () => download(button.dataset.download));
}
