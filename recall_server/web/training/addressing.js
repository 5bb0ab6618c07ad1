// The choice of how pictures are used, which is automatic by default.

import { $, make } from "../shared/dom.js";

const KINDS = { images: ["images"], prototypes: ["images"], classify: ["labels"] }; // memories that each needs
let memories = [];
let preferred = []; // the memories chosen above, the last one first

/** Offer what these memories support. */
export function prepareWays(loaded) {
  memories = loaded.toSorted((one, other) => other.file_bytes - one.file_bytes);
  for (const radio of radios()) radio.disabled = !able(radio.value).length;
  $("way-missing").hidden = !radios().some((radio) => radio.disabled);
  if (radios().some((radio) => radio.checked && radio.disabled)) radios()[0].checked = true;
  show();
}

/** Prefer this memory, which was chosen above, for everything that it supports. */
export function preferMemory(memory) {
  preferred = [memory.name, ...preferred.filter((name) => name !== memory.name)];
  show();
}

/** The chosen addressing mode and its memory; none where photographs are compared in the features of an encoder. */
export function chosenWay() {
  const { value } = radios().find((radio) => radio.checked);
  const memory = inFeatures(value) ? undefined : able(value).find((each) => each.name === $("way-memory").value);
  return { addressing: value, memory };
}

/** Whether photographs are compared in features: if there are memories of features, and none of images is preferred. */
function inFeatures(way) {
  const imagesPreferred = memories.some((each) => each.name === preferred[0] && each.space !== "features");
  return way === "auto" && !imagesPreferred && memories.some((each) => each.space === "features");
}

const radios = () => [...document.querySelectorAll('input[name="way"]')];

/** The memories that this mode can use, the preferred ones first. */
function able(way) {
  const takesPictures = memories.some((each) => each.queries === "images");
  const kinds = KINDS[way] ?? (takesPictures ? ["images"] : ["labels"]);
  const rank = ({ name }) => (preferred.includes(name) ? preferred.indexOf(name) : preferred.length);
  return memories.filter((each) => kinds.includes(each.queries)).toSorted((one, other) => rank(one) - rank(other));
}

function show() {
  const { value } = radios().find((radio) => radio.checked);
  const some = able(value);
  $("way-memory").replaceChildren(...some.map(({ name }) => make("option", { value: name, textContent: name })));
  $("way-memory-line").hidden = some.length < 2 || inFeatures(value);
}

for (const radio of radios()) radio.addEventListener("change", show);
