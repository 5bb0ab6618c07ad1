// "None of these": pictures that are less familiar than a threshold, which can be moved.

import { $ } from "../shared/dom.js";

/** Whether a prediction is of a picture that shows none of the classes; false if its familiarity is not known. */
export function isNone({ familiarity }) {
  return familiarity != null && familiarity < threshold();
}

/** Show the threshold if these predictions have a familiarity. */
export function offerThreshold(predictions) {
  $("none-line").hidden = !predictions.some(({ familiarity }) => familiarity != null);
}

/** Call this function whenever the threshold is moved. */
export function onThreshold(moved) {
  $("none-below").addEventListener("input", () => {
    $("none-value").textContent = `${$("none-below").value} %`;
    moved();
  });
}

const threshold = () => Number($("none-below").value) / 100;
