// The similarity of a memory's names: a coloured table of cosines, accessible by pointer, keyboard and screen reader.

import { $, complain, make, number } from "../shared/dom.js";
import { json } from "../shared/server.js";

const MOST = 24; // names in one table; of more names, those most similar to a chosen one, on request
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
let latest = null;

/** Show the similarity of this memory's names, or nothing if it has none. */
export async function useSimilarity(memory) {
  latest = memory;
  complain("similarity-error", null);
  const known = Boolean(memory.links.similarity) && memory.labels.length > 1;
  $("alike").hidden = !known;
  $("similarity").replaceChildren();
  $("similarity-pair").textContent = "";
  $("around-line").hidden = true;
  $("compare").hidden = !known || memory.labels.length <= MOST;
  $("compare").textContent = `Compare ${number(memory.labels.length)} names`;
  $("compare").onclick = async () => {
    await fetchAndShow(memory);
    if ($("compare").hidden) $("around").focus(); // the focused button was removed
  };
  if (known && $("compare").hidden) await fetchAndShow(memory);
}

async function fetchAndShow(memory) {
  complain("similarity-error", null);
  try {
    const answer = await json(memory.links.similarity);
    if (latest === memory) show(answer);
  } catch (error) {
    if (latest === memory) complain("similarity-error", error);
  }
}

function show({ labels, similarity }) {
  $("compare").hidden = true;
  $("around-line").hidden = labels.length <= MOST;
  $("around").replaceChildren(...labels.map((label, index) => make("option", { value: index, textContent: label })));
  const around = () => {
    const row = similarity[Number($("around").value)];
    const nearest = labels.map((_, index) => index).sort((one, other) => row[other] - row[one]);
    draw(labels, similarity, nearest.slice(0, MOST));
  };
  $("around").onchange = around;
  if (labels.length > MOST) around();
  else draw(labels, similarity, labels.map((_, index) => index));
}

/** Draw the rows and columns of the matrix [C, C] with these indices, as a table with a single tab stop. */
function draw(labels, similarity, indices) {
  const upright = (index) => make("th", { scope: "col" }, make("span", { textContent: labels[index] }));
  const head = make("tr", {}, make("td"), ...indices.map(upright));
  const rows = indices.map((row) => {
    const cells = indices.map((column) => cell(labels[row], labels[column], similarity[row][column]));
    return make("tr", {}, make("th", { scope: "row", textContent: labels[row] }), ...cells);
  });
  const table = make("table", { className: "matrix" }, make("thead", {}, head), make("tbody", {}, ...rows));
  table.setAttribute("aria-labelledby", "alike-title");
  table.setAttribute("aria-describedby", "similarity-note");
  $("similarity").replaceChildren(table);
  const first = table.querySelector("tbody td");
  first.tabIndex = 0;
  listen(table);
  $("similarity-pair").textContent = hint();
}

function hint() {
  const pointer = matchMedia("(hover: hover)").matches;
  return pointer ? "Point at a cell, or move to it with the arrow keys." : "Touch a cell to read it.";
}

function cell(row, column, value) {
  const rounded = value.toFixed(2).replace(/^-0\.00$/, "0.00");
  const element = make("td", {}, make("span", { textContent: rounded }));
  element.dataset.pair = row === column ? `${row} with itself: ${rounded}` : `${row} and ${column}: ${rounded}`;
  element.className = value < 0 ? "apart" : "alike";
  element.style.setProperty("--share", `${Math.round(Math.min(Math.abs(value), 1) * 70)}%`);
  return element;
}

function listen(table) {
  const tell = (event) => {
    const pair = event.target.closest("td[data-pair]")?.dataset.pair;
    if (pair) $("similarity-pair").textContent = pair;
  };
  for (const kind of ["mouseover", "focusin", "click"]) table.addEventListener(kind, tell);
  table.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    const from = event.target.closest("td[data-pair]");
    if (!step || !from) return;
    event.preventDefault();
    const row = table.tBodies[0].rows[from.parentElement.sectionRowIndex + step[0]];
    const to = row?.cells[from.cellIndex + step[1]];
    if (!to?.dataset.pair) return;
    from.removeAttribute("tabindex");
    to.tabIndex = 0;
    to.focus();
  });
}
