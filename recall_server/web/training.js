// Making a classifier: what it is made from.

import { ClassBox } from "./boxes.js";
import { $, complain, counted, make, number } from "./dom.js";
import { preparing, quiet, starting, watch } from "./progress.js";
import { json, postJson } from "./server.js";
import { form, prepared } from "./upload.js";

const FINDABLE = 24; // names from which on one can search among them
let memory = null;
let boxes = [];
let numbered = 0;

/** `memories` are all that are loaded; `finished` hears of each classifier that came out of a training. */
export function prepareTraining(memories, finished) {
  const byPictures = memories.some((each) => each.queries === "images");
  $("no-pictures").hidden = byPictures;
  document.querySelector('input[value="pictures"]').disabled = !byPictures;
  document.querySelector('input[value="labels"]').disabled = !memories.some((each) => each.queries === "labels");
  while (boxes.length < 2) addBox();
  $("train-form").onsubmit = (event) => { event.preventDefault(); train(memories, finished); };
}

/** Names come from this memory; one that pictures address turns the form to pictures. */
export function useMemory(bundle) {
  memory = bundle;
  const byName = bundle.queries === "labels";
  document.querySelector(`input[value="${byName ? "labels" : "pictures"}"]`).checked = true;
  if (byName) {
    $("chips").replaceChildren(...bundle.labels.map(chip));
    $("find-line").hidden = bundle.labels.length < FINDABLE;
    $("find").value = $("found").textContent = "";
  }
  showSource();
}

function chip(label) {
  return make("label", {}, make("input", { type: "checkbox", name: "label", value: label }), ` ${label}`);
}

/** Leave the names that hold what is searched for, and those that are chosen already. */
function find() {
  const wanted = $("find").value.trim().toLowerCase();
  let left = 0;
  for (const item of $("chips").children) {
    const matches = item.textContent.toLowerCase().includes(wanted);
    left += matches;
    item.hidden = !matches && !item.firstChild.checked;
  }
  $("found").textContent = wanted ? counted(left, "name") : "";
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
  const box = new ClassBox(++numbered, (gone) => {
    boxes = boxes.filter((each) => each !== gone);
    gone.clear();
    gone.item.remove();
    $("add-box").focus();
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
    complain("train-error", error);
  } finally {
    quiet();
  }
}

async function trainLabels() {
  const labels = [...document.querySelectorAll('input[name="label"]:checked')].map((each) => each.value);
  if (labels.length < 2) throw new Error("Choose two names or more: a classifier tells classes apart.");
  starting("Sending…");
  return postJson("/classifier", { labels, bundle: memory.name });
}

async function trainPictures(memories) {
  const filled = boxes.filter((box) => box.files.length);
  if (filled.length < 2) throw new Error("Give pictures to two classes or more: a classifier tells classes apart.");
  const names = filled.map((box) => box.label);
  const odd = names.find((name) => name.endsWith("\\")); // what reads forms takes it for a part of the name's end
  if (odd) throw new Error(`The name “${odd}” ends in a backslash: leave that out.`);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice) throw new Error(`Two classes are called “${twice}”: give each a name of its own.`);
  const able = memory?.queries === "images" ? memory : memories.find((each) => each.queries === "images");
  const parts = filled.flatMap((box) => box.files.map((file) => [box.label, file]));
  const came = (count) => preparing(`Making pictures ready: ${number(count)} of ${number(parts.length)}…`);
  const ready = await prepared(parts, Math.max(able.image.height, able.image.width), came);
  starting(`Sending ${counted(ready.length, "picture")}…`);
  return json(`/classifier?${new URLSearchParams({ bundle: able.name })}`, form(ready));
}

$("add-box").addEventListener("click", () => { addBox(); boxes.at(-1).name.focus(); });
$("find").addEventListener("input", find);
for (const radio of document.querySelectorAll('input[name="from"]')) radio.addEventListener("change", showSource);
