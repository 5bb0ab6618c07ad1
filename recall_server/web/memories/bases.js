// The bases: the small images that are all that a memory holds, beside the weights that mix them.

import { $, complain, counted, make } from "../shared/dom.js";
import { json } from "../shared/server.js";

const SHOWN = 64;
let latest = null;

/** Show the bases of this memory, or nothing where it has none. */
export async function useBases(memory) {
  latest = memory;
  complain("bases-error", null);
  $("held").hidden = !memory.links.bases;
  $("bases").replaceChildren();
  $("bases-note").textContent = "";
  $("all-bases").hidden = true;
  if (!memory.links.bases) return;
  try {
    const answer = await json(memory.links.bases);
    if (latest === memory) show(answer, memory.image);
  } catch (error) {
    if (latest === memory) complain("bases-error", error);
  }
}

function show({ bases, image }, recalled) {
  const size = `${image.width}×${image.height}`;
  $("bases-note").textContent =
    `${counted(bases.length, "base")} of ${size} pixels, each drawn from its darkest value to its brightest. ` +
    "Every image that this memory recalls is a weighted sum of them, brought to " +
    `${recalled.width}×${recalled.height} pixels; the weights are all that it stores besides.`;
  const some = (count) => {
    const images = bases.slice(0, count).map((source) => make("img", { src: source, alt: "" }));
    $("bases").replaceChildren(...images);
    $("bases").setAttribute("aria-label", `${images.length} of ${counted(bases.length, "base")}, ${size} pixels each`);
    $("all-bases").hidden = count >= bases.length;
  };
  $("all-bases").textContent = `Show all ${bases.length}`;
  $("all-bases").onclick = () => some(bases.length);
  some(SHOWN);
}
