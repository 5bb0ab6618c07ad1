// The form that makes a classifier, from names or from pictures.

import { ClassBox } from "../shared/picture_box.js";
import { $, complain, counted, list, make, number } from "../shared/dom.js";
import { chosenNames, openNames, prepareNames } from "./names.js";
import { preparing, quiet, starting, watch } from "./progress.js";
import { json, postJson } from "../shared/server.js";
import { form, prepared } from "../shared/upload.js";
import { chosenWay, preferMemory, prepareWays } from "./addressing.js";

const ENCODER_SIDE = 224; // pixels: photographs are sent four times as large as encoders usually take them

let boxes = [];
let numbered = 0;

/** Prepare the form for the loaded memories; `show` is called with the record of each classifier and its changes. */
export function prepareTraining({ bundles, aliases }, show) {
  prepareNames(bundles, aliases);
  prepareWays(bundles);
  radio("pictures").disabled = !bundles.length;
  radio("labels").disabled = !bundles.some((each) => each.queries === "labels");
  while (boxes.length < 2) addBox();
  $("train-form").onsubmit = (event) => { event.preventDefault(); train(show); };
}

/** Prefer this memory; one that is addressed by pictures switches the form to pictures. */
export function useMemory(memory) {
  const byName = memory.queries === "labels";
  radio(byName ? "labels" : "pictures").checked = true;
  if (byName) openNames(memory);
  preferMemory(memory);
  showSource();
}

const radio = (value) => document.querySelector(`input[name="from"][value="${value}"]`);

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

async function train(show) {
  complain("train-error", null);
  try {
    const record = source() === "labels" ? await trainLabels() : await trainPictures();
    await watch(record, show);
  } catch (error) {
    complain("train-error", error);
  } finally {
    quiet();
  }
}

async function trainLabels() {
  const labels = chosenNames();
  if (labels.length < 2) throw new Error("Choose two or more names: a classifier needs at least two classes.");
  starting("Sending…");
  return postJson("/classifier", { labels });
}

async function trainPictures() {
  const filled = boxes.filter((box) => box.files.length);
  if (filled.length < 2) throw new Error("Add pictures to two or more classes: a classifier needs at least two.");
  const empty = boxes.filter((box) => !box.files.length && box.name.value.trim()).map((box) => `“${box.label}”`);
  if (empty.length) throw new Error(`There are no pictures of ${list(empty)}: add some, or remove the class.`);
  const names = filled.map((box) => box.label);
  const odd = names.find((name) => name.endsWith("\\")); // form parsers would read an escape
  if (odd) throw new Error(`The name “${odd}” ends in a backslash: remove it.`);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice) throw new Error(`Two classes are called “${twice}”: give them different names.`);
  const { addressing, memory } = chosenWay();
  const parts = filled.flatMap((box) => box.files.map((file) => [box.label, file]));
  const came = (count) => preparing(`Preparing pictures: ${number(count)} of ${number(parts.length)}…`);
  const side = memory ? Math.max(memory.image.height, memory.image.width) : ENCODER_SIDE;
  const ready = await prepared(parts, side, came);
  starting(`Sending ${counted(ready.length, "picture")}…`);
  const asked = memory ? { bundle: memory.name, addressing } : { addressing };
  return json(`/classifier?${new URLSearchParams(asked)}`, form(ready));
}

$("add-box").addEventListener("click", () => { addBox(); boxes.at(-1).name.focus(); });
for (const value of ["labels", "pictures"]) radio(value).addEventListener("change", showSource);
