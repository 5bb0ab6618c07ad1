// The bases: the small images that a memory stores, besides the weights that mix them.

import { $, complain, make } from "../shared/dom.js";
import { json } from "../shared/server.js";

const SHOWN = 64;
let latest = null;

/** Show the bases of this memory, or nothing if it has none. */
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
    `The memory stores ${bases.length} bases of ${size} pixels, each shown with its own range of brightness. ` +
    "Every recalled image is a weighted sum of them, enlarged to " +
    `${recalled.width}×${recalled.height} pixels. Besides the bases, the memory stores only the weights.`;
  const some = (count) => {
    const images = bases.slice(0, count).map((source) => make("img", { src: source, alt: "" }));
    $("bases").replaceChildren(...images);
    $("bases").setAttribute("aria-label", `${images.length} of ${bases.length} bases, ${size} pixels each`);
    $("all-bases").hidden = count >= bases.length;
  };
  $("all-bases").textContent = `Show all ${bases.length}`;
  $("all-bases").onclick = () => some(bases.length);
  some(SHOWN);
}
