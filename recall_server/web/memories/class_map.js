// A map of the classes of a memory of features: what it recalls for them, along the two directions in which they differ
// most. Similar classes are near each other.

import { ask, read } from "../shared/server.js";
import { rowsOf } from "./safetensors.js";
import { principalCoordinates } from "./principal.js";

const SVG = "http://www.w3.org/2000/svg";
const [LETTER, MARGIN] = [0.58, 14]; // width of a letter in sizes of the font; space around the map

/** The map as an SVG element `width` units wide, with as many names as fit, in letters of `size` units. */
export async function classMap(memory, { width, height, size }) {
  const vectors = await recalled(memory);
  const points = placed(principalCoordinates(vectors), width, height);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, class: "map", role: "img" });
  svg.setAttribute("aria-label", `Map of the classes of ${memory.name}: similar classes are near each other`);
  const taken = [];
  memory.labels.forEach((label, index) => {
    const [x, y] = points[index];
    const dot = draw("circle", { cx: x, cy: y, r: size / 4 });
    dot.append(Object.assign(draw("title", {}), { textContent: label }));
    svg.append(dot);
    const box = name(label, x, y, size, width);
    if (taken.some((other) => overlap(box, other))) return;
    taken.push(box);
    const text = draw("text", { x: box.left, y: box.bottom - size / 4, "font-size": size });
    svg.append(Object.assign(text, { textContent: label }));
  });
  return svg;
}

/** One recalled vector of each label, as arrays of numbers. */
async function recalled(memory) {
  const query = new URLSearchParams({ bundle: memory.name, per_label: 1, format: "safetensors" });
  const body = JSON.stringify({ mixtures: memory.labels.map((label) => ({ [label]: 1 })) });
  const headers = { "Content-Type": "application/json" };
  const answer = await ask(`/recall?${query}`, { method: "POST", headers, body });
  return rowsOf(await read(answer, () => answer.arrayBuffer()), "features");
}

/** Coordinates [n][2] scaled to fit into a map of this size. */
function placed(coordinates, width, height) {
  const [across, down] = [0, 1].map((axis) => {
    const values = coordinates.map((point) => point[axis]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const extent = [width, height][axis] - 2 * MARGIN;
    return (value) => MARGIN + (extent * (value - low)) / (high - low || 1);
  });
  return coordinates.map(([x, y]) => [across(x), down(y)]);
}

/** The rectangle of a name beside its dot, on the side where it fits. */
function name(label, x, y, size, width) {
  const long = LETTER * size * label.length;
  const left = x + size / 2 + long < width ? x + size / 2 : Math.max(0, x - size / 2 - long);
  return { left, right: left + long, top: y - size / 2, bottom: y + size / 2 };
}

function overlap(one, other) {
  return one.left < other.right && other.left < one.right && one.top < other.bottom && other.top < one.bottom;
}

function draw(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
