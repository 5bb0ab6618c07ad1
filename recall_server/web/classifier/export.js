// Taking the classifier away: its files, its card, and code that uses it.

import { showCard } from "../shared/card.js";
import { $, complain, save } from "../shared/dom.js";
import { ask, key, read } from "../shared/server.js";

const SNIPPETS = { curl, python, onnx };
let record = null;
let chosen = "curl";

/** Offer the files of this record, once it is trained. */
export function showExport(shown) {
  record = shown;
  $("take").hidden = record.status !== "succeeded";
  $("classifier-card").hidden = !record.links.card;
  complain("download-error", null);
  snippet();
}

function snippet() {
  $("snippet").textContent = SNIPPETS[chosen]();
  $("copied").textContent = "";
  for (const button of buttons()) button.setAttribute("aria-pressed", String(button.dataset.snippet === chosen));
}

const buttons = () => document.querySelectorAll("[data-snippet]");
const server = () => new URL(".", document.baseURI).href;
const fileName = () => `classifier-${record.id.slice(0, 8)}`;

function curl() {
  const authorised = key.get() ? ' -H "Authorization: Bearer $RECALL_API_KEY"' : "";
  const address = `${server()}classifier/${record.id}`;
  return [
    `curl -s '${address}/predict'${authorised} -F images=@picture.jpg`,
    `curl -s '${address}/download?format=onnx'${authorised} -o ${fileName()}.onnx`,
  ].join("\n");
}

function python() {
  return [
    "from recall_client import RecallClient",
    "",
    `with RecallClient("${server().replace(/\/$/, "")}") as client:`,
    `    classifier = client.classifier("${record.id}")`,
    '    for prediction in classifier.predict(["picture.jpg"]):',
    "        print(prediction.label, prediction.probabilities)",
  ].join("\n");
}

function onnx() {
  const { channels, height, width } = record.image;
  return [
    "import json",
    "import numpy, onnxruntime",
    "from PIL import Image, ImageOps",
    "",
    `session = onnxruntime.InferenceSession("${fileName()}.onnx")`,
    'labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])',
    `picture = ImageOps.exif_transpose(Image.open("picture.jpg")).convert("${channels === 1 ? "L" : "RGB"}")`,
    `picture = ImageOps.fit(picture, (${width}, ${height}), Image.Resampling.BILINEAR)`,
    `pixels = numpy.asarray(picture, numpy.float32).reshape(${height}, ${width}, ${channels}) / 255`,
    '(probabilities,) = session.run(["probabilities"], {"images": pixels.transpose(2, 0, 1)[None]})',
    "print(labels[probabilities[0].argmax()], probabilities[0])",
  ].join("\n");
}

async function copy() {
  try {
    await navigator.clipboard.writeText($("snippet").textContent);
    $("copied").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren($("snippet"));
    $("copied").textContent = "Selected: copy it with the keyboard.";
  }
}

async function download(format) {
  complain("download-error", null);
  try {
    const name = `${fileName()}.${format}`;
    const answer = await ask(`/classifier/${encodeURIComponent(record.id)}/download?format=${format}`);
    save(await read(answer, () => answer.blob()), name);
  } catch (error) {
    complain("download-error", error);
  }
}

for (const button of document.querySelectorAll("[data-download]")) {
  button.addEventListener("click", () => download(button.dataset.download));
}
for (const button of buttons()) {
  button.addEventListener("click", () => { chosen = button.dataset.snippet; snippet(); });
}
$("copy").addEventListener("click", copy);
$("classifier-card").addEventListener("click", () => showCard(record.links.card, fileName()));
