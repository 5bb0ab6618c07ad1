// How the pictures that somebody gives are used: chosen for them, unless they want to choose.

import { $, make } from "../shared/dom.js";

const KINDS = { images: ["images"], prototypes: ["images"], classify: ["labels"] }; // of memories that a way needs
let memories = [];
let liked = []; // memories that were picked above, the last one first

/** Offer what these memories can do. */
export function prepareWays(loaded) {
  memories = loaded.toSorted((one, other) => other.file_bytes - one.file_bytes);
  for (const radio of radios()) radio.disabled = !able(radio.value).length;
  $("way-missing").hidden = !radios().some((radio) => radio.disabled);
  if (radios().some((radio) => radio.checked && radio.disabled)) radios()[0].checked = true;
  show();
}

/** A memory that was picked above is the first choice for whatever it can do. */
export function preferMemory(memory) {
  liked = [memory.name, ...liked.filter((name) => name !== memory.name)];
  show();
}

/** The way that is chosen, and the memory that it goes by. */
export function chosenWay() {
  const { value } = radios().find((radio) => radio.checked);
  return { addressing: value, memory: able(value).find((each) => each.name === $("way-memory").value) };
}

const radios = () => [...document.querySelectorAll('input[name="way"]')];

/** The memories that this way may go by, the best guess first. */
function able(way) {
  const takesPictures = memories.some((each) => each.queries === "images");
  const kinds = KINDS[way] ?? (takesPictures ? ["images"] : ["labels"]);
  const rank = ({ name }) => (liked.includes(name) ? liked.indexOf(name) : liked.length);
  return memories.filter((each) => kinds.includes(each.queries)).toSorted((one, other) => rank(one) - rank(other));
}

function show() {
  const { value } = radios().find((radio) => radio.checked);
  const some = able(value);
  $("way-memory").replaceChildren(...some.map(({ name }) => make("option", { value: name, textContent: name })));
  $("way-memory-line").hidden = some.length < 2;
}

for (const radio of radios()) radio.addEventListener("change", show);
