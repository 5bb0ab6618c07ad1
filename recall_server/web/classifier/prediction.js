// The prediction for one picture: the picture, as the network sees it, a bar for each class, and the right class.

import { bar, bars } from "../shared/bars.js";
import { make, percent } from "../shared/dom.js";
import { isNone } from "./none.js";
import { NONE, rightClass, setRightClass } from "./tested.js";
import { why } from "./why.js";

const SHOWN_LABELS = 5;

/** The element for a file and its prediction; `marked` is called when its right class was chosen. */
export function entry(file, prediction, record, marked) {
  const src = URL.createObjectURL(file);
  const picture = make("img", { src, alt: `${file.name}, classified as ${prediction.label}`, decoding: "async" });
  for (const kind of ["load", "error"]) picture.addEventListener(kind, () => URL.revokeObjectURL(src), { once: true });
  const pictures = make("div", { className: "views" }, picture, seen(file, record.image));
  const said = [table(prediction), ...familiar(prediction), ...why(file, prediction, record)];
  return make("li", {}, pictures, make("div", {}, ...said, truth(file, record.labels, marked)));
}

/** The most probable classes. */
export function table({ probabilities }) {
  return bars(Object.entries(probabilities).sort((one, other) => other[1] - one[1]).slice(0, SHOWN_LABELS));
}

/** How familiar the picture is, if the classifier knows; more is more like the classes. */
export function familiar(prediction) {
  const { familiarity } = prediction;
  if (familiarity == null) return [];
  const none = isNone(prediction);
  const text = `${none ? "None of these? " : ""}Familiar: ${percent(familiarity, 0)}`;
  return [make("p", { className: none ? "caution" : "note", title: "The chance that it shows one of the classes" },
    text, " ", bar(familiarity))];
}

/** The picture as the network gets it: cut around the centre, small, and grey for a network of grey images. */
function seen(file, { channels, height, width }) {
  const canvas = make("canvas", { width, height, className: height < 64 ? "coarse" : "" });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${file.name} as the network sees it, ${width}×${height} pixels`);
  canvas.title = `As the network sees it: ${width}×${height} pixels`;
  draw(file, canvas, channels === 1).catch(() => { canvas.hidden = true; }); // the server reads more formats
  return canvas;
}

async function draw(file, canvas, grey) {
  const picture = await createImageBitmap(file);
  const brush = canvas.getContext("2d");
  const scale = Math.max(canvas.width / picture.width, canvas.height / picture.height);
  const [width, height] = [canvas.width / scale, canvas.height / scale]; // of the part that is used
  const [left, top] = [(picture.width - width) / 2, (picture.height - height) / 2];
  brush.fillStyle = "#fff"; // behind transparent areas, as in the server
  brush.fillRect(0, 0, canvas.width, canvas.height);
  brush.filter = grey ? "grayscale(1)" : "none";
  brush.imageSmoothingQuality = "high";
  brush.drawImage(picture, left, top, width, height, 0, 0, canvas.width, canvas.height);
  picture.close();
}

/** The choice of the right class, by which the classifier is tested. */
function truth(file, labels, marked) {
  const option = (value, textContent = value) => make("option", { value, textContent });
  const choice = make("select", {}, option("", "not marked"), ...labels.map((each) => option(each)));
  choice.append(option(NONE, "none of these"));
  choice.value = rightClass(file);
  choice.setAttribute("aria-label", `Right class of ${file.name}`);
  choice.addEventListener("change", () => { setRightClass(file, choice.value); marked(); });
  return make("label", { className: "truth note" }, "Right class ", choice);
}
