// The contents of the chosen memory: recalled images, bases, and the similarity of its names.

import { useBases } from "./bases.js";
import { classMap } from "./class_map.js";
import { $, complain, make } from "../shared/dom.js";
import { postJson } from "../shared/server.js";
import { useSimilarity } from "./similarity.js";

const SHOWN = 12;
const LARGE = { width: 960, height: 600, size: 13 }; // of the map
let chosen = null;
let shown = null; // the chosen memory, if its contents were asked for
let asking = null;
let waiting = 0;

/** Show this memory once the part is opened. `prepareInside.again()` repeats the requests that failed. */
export function prepareInside(memory) {
  chosen = memory;
  $("inside-title").textContent = `Inside ${memory.name}`;
  if ($("inside").open) show(memory);
  else shown = null;
}

function show(memory) {
  shown = memory;
  const [named, features] = [memory.queries === "labels", memory.space === "features"];
  $("look").hidden = !named || features;
  $("map").hidden = !features;
  $("no-names").hidden = named;
  useBases(memory);
  useSimilarity(memory);
  if (features) return showMap(memory);
  if (!named) return;
  const names = () => memory.labels.map((label) => make("option", { value: label, textContent: label }));
  $("first").replaceChildren(...names());
  $("second").replaceChildren(make("option", { value: "", textContent: "none" }), ...names());
  $("mix").value = 0;
  recall();
}

async function showMap(memory) {
  complain("map-error", null);
  $("map-place").replaceChildren();
  try {
    const map = await classMap(memory, LARGE);
    if (shown === memory) $("map-place").replaceChildren(map);
  } catch (error) {
    if (shown === memory) complain("map-error", error);
  }
}

prepareInside.again = () => {
  if (!shown) return;
  if (!$("look-error").hidden) recall();
  if (!$("map-error").hidden) showMap(shown);
  if (!$("bases-error").hidden) useBases(chosen);
  if (!$("similarity-error").hidden) useSimilarity(chosen);
};

/** Request the mixture that the controls show; a newer request replaces a pending one. */
function recall() {
  const [first, second] = [$("first").value, $("second").value];
  const mixed = Boolean(second) && second !== first;
  const part = mixed ? Number($("mix").value) / 100 : 0;
  const words = `${Math.round(100 - 100 * part)} % ${first}, ${Math.round(100 * part)} % ${second}`;
  $("mix").disabled = !mixed;
  $("mix").setAttribute("aria-valuetext", mixed ? words : "no mixture");
  $("mix-label").textContent = mixed ? words : "Mixture";
  clearTimeout(waiting);
  waiting = setTimeout(() => fetchRecalled(first, second, part, mixed ? words : first), 60);
}

async function fetchRecalled(first, second, part, words) {
  asking?.abort();
  asking = new AbortController();
  const mixture = part > 0 ? { [first]: 1 - part, [second]: part } : { [first]: 1 };
  if (part === 1) delete mixture[first];
  const parameters = new URLSearchParams({ bundle: chosen.name, per_label: Math.min(SHOWN, chosen.memory.rows) });
  try {
    const headers = { Accept: "application/json" };
    const answer = await postJson(`/recall?${parameters}`, { mixtures: [mixture] }, { headers, signal: asking.signal });
    const { images } = answer.recalled[0];
    $("recalled").replaceChildren(...images.map((source) => make("img", { src: source, alt: "" })));
    $("recalled").setAttribute("aria-label", `${images.length} images recalled for ${words}`);
    complain("look-error", null);
  } catch (error) {
    if (error.name !== "AbortError") complain("look-error", error);
  }
}

$("inside").addEventListener("toggle", () => { if ($("inside").open && shown !== chosen) show(chosen); });
for (const id of ["first", "second"]) {
  $(id).addEventListener("change", () => {
    if (id === "second") $("mix").value = 50;
    recall();
  });
}
$("mix").addEventListener("input", recall);
