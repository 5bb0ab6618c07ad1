// Making a classifier: what it is made from, how its training goes, and how it is stopped.

import { ClassBox } from "./boxes.js";
import { $, complain, make } from "./dom.js";
import { ask, follow, json, postJson } from "./server.js";

let memory = null;
let boxes = [];
let running = null;

/** `memories` are all that are loaded; `finished` hears of each classifier that came out of a training. */
export function prepareTraining(memories, finished) {
  const byPictures = memories.some((each) => each.queries === "images");
  const radio = document.querySelector('input[value="pictures"]');
  radio.disabled = !byPictures;
  if (!byPictures) radio.parentElement.title = "No memory that pictures address is loaded";
  if (!boxes.length) [1, 2].forEach(addBox);
  $("train-form").onsubmit = (event) => { event.preventDefault(); train(memories, finished); };
}

/** Names come from this memory; one that pictures address turns the form to pictures. */
export function useMemory(bundle) {
  memory = bundle;
  const byName = bundle.queries === "labels";
  document.querySelector(`input[value="${byName ? "labels" : "pictures"}"]`).checked = true;
  if (byName) $("chips").replaceChildren(...bundle.labels.map(chip));
  showSource();
}

function chip(label) {
  return make("label", {}, make("input", { type: "checkbox", name: "label", value: label }), ` ${label}`);
}

function source() {
  return document.querySelector('input[name="from"]:checked').value;
}

function showSource() {
  const pictures = source() === "pictures";
  $("names").hidden = pictures;
  $("boxes-area").hidden = !pictures;
}

function addBox() {
  const box = new ClassBox(boxes.length + 1, (gone) => {
    boxes = boxes.filter((each) => each !== gone);
    gone.item.remove();
  });
  box.item = make("li", {}, box.element);
  boxes.push(box);
  $("boxes").append(box.item);
}

async function train(memories, finished) {
  complain("train-error", null);
  try {
    const record = source() === "labels" ? await trainLabels() : await trainPictures(memories);
    await watch(record, finished);
  } catch (error) {
    if (error.name !== "AbortError") complain("train-error", error);
  } finally {
    busy(false);
  }
}

async function trainLabels() {
  const labels = [...document.querySelectorAll('input[name="label"]:checked')].map((each) => each.value);
  if (labels.length < 2) throw new Error("Choose two names or more: a classifier tells classes apart.");
  busy(true, "Sending…");
  return postJson("/classifier", { labels, bundle: memory.name });
}

async function trainPictures(memories) {
  const filled = boxes.filter((box) => box.files.length);
  if (filled.length < 2) throw new Error("Give pictures to two classes or more: a classifier tells classes apart.");
  const names = filled.map((box) => box.label);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice) throw new Error(`Two classes are called “${twice}”: give each a name of its own.`);
  const form = new FormData();
  for (const box of filled) for (const file of box.files) form.append(box.label, file);
  const able = memory?.queries === "images" ? memory : memories.find((each) => each.queries === "images");
  busy(true, "Sending the pictures…");
  return json(`/classifier?${new URLSearchParams({ bundle: able.name })}`, { method: "POST", body: form });
}

async function watch(record, finished) {
  const losses = [];
  running = record.id;
  say(record.status, record.progress);
  await follow(record.id, (event) => {
    if (event.progress?.loss != null) losses.push(event.progress);
    say(event.status, event.progress);
    draw(losses);
  });
  const end = await json(`/classifier/${record.id}`);
  say(end.status, end.progress);
  if (end.status === "failed") throw new Error(`The training failed: ${end.error?.detail ?? "no reason was given"}.`);
  if (end.status === "succeeded") finished(end);
}

function say(status, progress) {
  const words = { queued: "Waiting for its turn…", running: "Training…", succeeded: "Trained.", failed: "Failed.", cancelled: "Stopped." };
  const steps = status === "running" && progress ? ` Step ${progress.done} of ${progress.total}.` : "";
  $("progress-text").textContent = (words[status] ?? status) + steps;
  $("bar").value = status === "succeeded" ? 1 : progress ? progress.done / progress.total : 0;
  $("cancel").hidden = !["queued", "running"].includes(status);
}

function draw(losses) {
  if (losses.length < 2) return;
  const top = Math.max(...losses.map((each) => each.loss)) || 1;
  const total = losses[0].total;
  const points = losses.map(({ done, loss }) => `${(300 * done) / total},${58 - (54 * loss) / top}`);
  $("curve").firstElementChild.setAttribute("points", points.join(" "));
}

function busy(yes, text = "") {
  $("train").disabled = yes;
  if (yes) {
    $("progress").hidden = false;
    $("progress-text").textContent = text;
    $("bar").value = 0;
    $("curve").firstElementChild.setAttribute("points", "");
  } else {
    $("cancel").hidden = true;
    running = null;
  }
}

$("add-box").addEventListener("click", () => { addBox(); boxes.at(-1).name.focus(); });
$("cancel").addEventListener("click", () => {
  if (running) ask(`/classifier/${running}/cancel`, { method: "POST" }).catch((error) => complain("train-error", error));
});
for (const radio of document.querySelectorAll('input[name="from"]')) radio.addEventListener("change", showSource);
