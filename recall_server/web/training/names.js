// Choosing names of all memories: ticked, searched, or typed and looked up by the server.

import { $, complain, counted, list, make } from "../shared/dom.js";
import { json } from "../shared/server.js";

const FINDABLE = 24; // minimum number of names for a search field, which is also shown for two or more memories
let known = []; // { memory, box, chips, groups } for each memory that is addressed by names

/** Fill the list with the names of these memories and the aliases; names that still exist stay ticked. */
export function prepareNames(memories, aliases) {
  const ticked = chosenNames();
  known = memories.filter((memory) => memory.queries === "labels").map(section);
  for (const chip of chips()) chip.firstChild.checked = ticked.includes(qualified(chip));
  $("chips").replaceChildren(...known.map((each) => each.box));
  const others = Object.entries(aliases).map(([name, meanings]) => shortcut(name, meanings, () => lookUp(name)));
  $("aliases").replaceChildren(...(others.length ? ["Other names: ", ...others] : []));
  $("aliases").hidden = !others.length;
  $("find-line").hidden = known.length < 2 && chips().length < FINDABLE;
  $("find").value = "";
  complain("find-error", null);
  find();
}

/** Move this memory's names to the top and open them. */
export function openNames(memory) {
  const chosen = known.find((each) => each.memory.name === memory.name);
  for (const each of known) each.box.open = each === chosen;
  if (chosen) $("chips").prepend(chosen.box);
}

/** The ticked names as `memory:label`, which is unambiguous whatever else is loaded. */
export function chosenNames() {
  return chips().filter((chip) => chip.firstChild.checked).map(qualified);
}

function section(memory) {
  const items = memory.labels.map((label) => {
    const box = make("input", { type: "checkbox", name: "label", value: label });
    return Object.assign(make("label", {}, box, ` ${label}`), { memory: memory.name });
  });
  const named = (members) => items.filter((chip) => members.includes(chip.firstChild.value));
  const groups = Object.entries(memory.groups).map(([name, members]) =>
    shortcut(name, members, () => tick(named(members))));
  const line = make("p", { className: "shortcuts", hidden: !groups.length }, "Groups: ", ...groups);
  const count = make("span", { className: "note", textContent: ` ${counted(items.length, "name")}` });
  const held = make("div", { className: "chips" }, ...items);
  held.setAttribute("role", "group");
  held.setAttribute("aria-label", `Names of ${memory.name}`);
  return { memory, chips: items, box: make("details", {}, make("summary", {}, memory.name, count), held, line) };
}

/** A button that ticks all members of a group or alias. */
function shortcut(name, members, pressed) {
  const button = make("button", { type: "button", textContent: name, title: list(members) });
  button.addEventListener("click", pressed);
  return button;
}

const chips = () => known.flatMap((each) => each.chips);
const label = (chip) => chip.firstChild.value;
const qualified = (chip) => `${chip.memory}:${label(chip)}`;

function tick(some) {
  for (const chip of some) {
    chip.firstChild.checked = true;
    chip.closest("details").open = true;
  }
  $("find").value = "";
  complain("find-error", null);
  find();
}

/** Show only the names that match the search, and those that are ticked. */
function find() {
  const wanted = $("find").value.trim().toLowerCase();
  let left = 0;
  for (const { box, chips: some } of known) {
    const before = left;
    for (const chip of some) {
      const matches = qualified(chip).toLowerCase().includes(wanted);
      left += matches;
      chip.hidden = !matches && !chip.firstChild.checked;
    }
    box.hidden = some.every((chip) => chip.hidden);
    if (wanted && left > before) box.open = true;
  }
  $("found").textContent = wanted ? counted(left, "name") : "";
  complain("find-error", null);
  tell();
}

function tell() {
  const parts = known.map(({ memory, chips: some }) => {
    const ticked = some.filter((chip) => chip.firstChild.checked).map(label);
    return ticked.length ? `${list(ticked)} of ${memory.name}` : "";
  });
  const text = parts.filter(Boolean).join("; ");
  $("chosen").textContent = text && `Chosen: ${text}.`;
  $("none").hidden = !text;
}

/** Tick the typed name if it is on the page, or else look it up with the server. */
async function add() {
  const wanted = $("find").value.trim();
  if (!wanted) return;
  const folded = wanted.toLowerCase();
  const same = chips().filter((chip) => [label(chip), qualified(chip)].some((each) => each.toLowerCase() === folded));
  const found = same.length ? same : chips().filter((chip) => label(chip).toLowerCase().includes(folded));
  if (found.length === 1) return tick(found);
  if (found.length) {
    return complain("find-error", `“${wanted}” may be ${list(found.map(qualified))}: tick the one you mean.`);
  }
  await lookUp(wanted);
}

/** Tick the labels that the server resolves this text to: groups, aliases, and comma-separated names. */
async function lookUp(text) {
  try {
    const labels = text.replaceAll(/\s*,\s*/g, ",");
    const { recalled } = await json(`/recall?${new URLSearchParams({ labels, per_label: 1, format: "json" })}`);
    const meant = recalled.map(({ name, bundle }) => (name.includes(":") ? name : `${bundle}:${name}`));
    tick(chips().filter((chip) => meant.includes(qualified(chip))));
  } catch (error) {
    complain("find-error", error);
  }
}

$("find").addEventListener("input", find);
$("find").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault(); // or it would start the training
  add();
});
$("chips").addEventListener("change", tell);
$("none").addEventListener("click", () => {
  for (const chip of chips()) chip.firstChild.checked = false;
  find();
  $("chips").querySelector("summary").focus(); // the focused button was removed
});
