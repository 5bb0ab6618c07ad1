// Test pictures: the right class of each, from its folder or chosen, and how many predictions are right.

import { $, counted, number, percent } from "../shared/dom.js";
import { foldersOf } from "../shared/dropped.js";
import { interval, wilson } from "../shared/interval.js";
import { isNone } from "./none.js";

export const NONE = "\0none of these"; // no class has such a name
let right = new WeakMap(); // file -> its class, NONE, or "" if that was taken back

/** The right class of a file; "" if it is not known. */
export const rightClass = (file) => right.get(file) ?? "";

export function setRightClass(file, label) {
  right.set(file, label);
}

/** Forget the right classes of all files. */
export function forgetTest() {
  right = new WeakMap();
}

/** A file that lies in a folder named like a class shows that class, unless something else was chosen. */
export function prelabel(file, labels) {
  const label = foldersOf(file).find((folder) => labels.includes(folder.normalize("NFC")));
  if (label && !right.has(file)) right.set(file, label.normalize("NFC"));
}

/**
 * Count the marked pictures among [file, prediction] pairs, and show how many predictions are right: the most probable
 * class of a picture of a class, and "none of these" of any other picture.
 */
export function showTest(seen) {
  const marked = seen.filter(([file]) => rightClass(file));
  const isRight = ([file, prediction]) =>
    rightClass(file) === NONE ? isNone(prediction) : rightClass(file) === prediction.label;
  const count = marked.filter(isRight).length;
  const hint = seen.length
    ? "To test the classifier, choose the right class of each picture, or drop a folder with a folder for each class."
    : "";
  $("tested").textContent = marked.length ? verdict(count, marked.length) : hint;
}

function verdict(count, pictures) {
  const share = count / pictures;
  return (
    `${number(count)} of ${counted(pictures, "marked picture")} right: ${percent(share, 0)}, ` +
    `95 % interval ${interval(wilson(share, pictures))}.`
  );
}
