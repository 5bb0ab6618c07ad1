// The classifier that is shown: what it is, warnings, its estimated accuracy; preview and export are in other files.

import { $, list, network } from "../shared/dom.js";
import { showExport } from "./export.js";
import { listEarlier } from "./earlier.js";
import { cautions, inFeatures, isMixed, remarks, used } from "./pictures_used.js";
import { previewClassifier, previewing } from "./preview.js";
import { estimate, stages } from "./quality.js";

let current = null; // the record that is shown
let last = null; // the record of the last trained classifier

/**
 * Show the classifier of this record or, until it is trained, its prototypes. With `quietly`, neither the view nor the
 * focus moves to it.
 */
export function useClassifier(record, { quietly = false } = {}) {
  const trained = record.status === "succeeded";
  const usable = trained || (!record.is_terminal && record.addressing === "images");
  const busy = !$("try").hidden && (previewing() || $("try").contains(document.activeElement));
  const again = current?.id === record.id;
  if (!usable) return again && withdraw();
  if (trained) last = record;
  current = record;
  $("try").hidden = false;
  $("made").textContent = made(record, trained);
  $("cautions").replaceChildren(...cautions(record));
  $("quality").replaceChildren(...estimate(record));
  $("stages").textContent = stages(record);
  $("used").replaceChildren(...used(record), ...remarks(record));
  showExport(record);
  previewClassifier(record, { again });
  listEarlier(useClassifier, record);
  if (trained && !quietly && !(again && busy)) comeIntoView();
}

/** Move the view and the focus to the classifier. */
function comeIntoView() {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  $("try-title").focus({ preventScroll: true });
  $("try").scrollIntoView({ behavior: still ? "auto" : "smooth", block: "start" });
}

/** The current training failed or was stopped: return to the previous classifier, if there is one. */
function withdraw() {
  if (last) useClassifier(last, { quietly: true });
  else $("try").hidden = true;
}

/** A description of the classifier: its classes, its memories, and the time of its training. */
function made(record, trained) {
  const { addressing, bundles, labels, network: spec, seconds } = record;
  const memories = list(bundles.map(({ name }) => name));
  if (isMixed(record)) {
    return `A classifier of ${list(labels)}, made from ${memories} and your pictures.`;
  }
  if (inFeatures(record)) {
    return `A classifier of ${list(labels)}, made from your pictures in the features of an encoder (${memories}).`;
  }
  if (addressing === "prototypes") {
    return `A classifier of ${list(labels)} that compares pictures with yours, by the encoder of ${memories}.`;
  }
  const fresh = spec === "linear" ? "linear head in the features of an encoder" : `fresh network (${network(spec)})`;
  if (!trained) {
    return (
      `A ${fresh} is being trained to classify ${list(labels)} on images recalled from ${memories}. You can try it ` +
      "already: until it is trained, a picture is assigned to the class with the nearest pictures."
    );
  }
  const time = seconds == null ? "" : ` in ${seconds < 0.05 ? "less than 0.1" : seconds.toFixed(1)} s`;
  const what = spec === "linear" ? "what is" : "images";
  return `A ${fresh} that classifies ${list(labels)}, trained${time} on ${what} recalled from ${memories}.`;
}
