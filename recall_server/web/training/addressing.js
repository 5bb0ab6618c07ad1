// The choice of how pictures are used, which is automatic by default.

import { $, make } from "../shared/dom.js";

const KINDS = { images: ["images"], prototypes: ["images"], classify: ["labels"] }; // memories that each needs
let memories = [];

/** Offer what these memories support. */
export function prepareWays(loaded) {
  memories = loaded.toSorted((one, other) => other.file_bytes - one.file_bytes);
  for (const radio of radios()) radio.disabled = !able(radio.value).length;
  $("way-missing").hidden = !radios().some((radio) => radio.disabled);
  if (radios().some((radio) => radio.checked && radio.disabled)) radios()[0].checked = true;
  show();
}

/** The chosen addressing mode and its memory; no memory if the server chooses the encoder to compare pictures in. */
export function chosenWay() {
  const { value } = radios().find((radio) => radio.checked);
  return { addressing: value, memory: memories.find((each) => each.name === $("way-memory").value) };
}

const radios = () => [...document.querySelectorAll('input[name="way"]')];

/** The memories that this mode can use, the largest first. */
function able(way) {
  const takesPictures = memories.some((each) => each.queries === "images");
  const kinds = KINDS[way] ?? (takesPictures ? ["images"] : ["labels"]);
  return memories.filter((each) => kinds.includes(each.queries));
}

/** Offer the memories of the chosen mode. Without a choice, pictures are compared in features if there are any. */
function show() {
  const { value } = radios().find((radio) => radio.checked);
  const inFeatures = value === "auto" && memories.some((each) => each.space === "features");
  const option = (name, text = name) => make("option", { value: name, textContent: text });
  const automatic = inFeatures ? [option("", "none: the features of a pre-trained encoder")] : [];
  $("way-memory").replaceChildren(...automatic, ...able(value).map(({ name }) => option(name)));
  $("way-memory-line").hidden = $("way-memory").length < 2;
}

for (const radio of radios()) radio.addEventListener("change", show);
