// The names of all memories, to be ticked: each ticked name is a class.

import { $, complain, counted, list, make } from "../shared/dom.js";
import { addClass, hasClass, onClasses, removeClass } from "./class_cards.js";

const FINDABLE = 24; // minimum number of names for a search field, which is also shown for two or more memories
let known = []; // { memory, box, chips } for each memory that is addressed by names

/** Fill the list with the names of these memories and the aliases. */
export function prepareNames(memories, aliases) {
  const named = memories.filter((memory) => memory.queries === "labels");
  const labels = named.flatMap((memory) => memory.labels);
  known = named.map((memory) => section(memory, (label) => labels.filter((each) => each === label).length === 1));
  $("chips").replaceChildren(...known.map((each) => each.box));
  const others = Object.entries(aliases).map(([name, meanings]) => shortcut(name, meanings, () => addClass(name)));
  $("aliases").replaceChildren(...(others.length ? ["Other names: ", ...others] : []));
  $("aliases").hidden = !others.length;
  $("browse").hidden = !known.length;
  $("find-line").hidden = known.length < 2 && chips().length < FINDABLE;
  $("find").value = "";
  find();
  follow();
}

function section(memory, isUnique) {
  const items = memory.labels.map((label) => {
    const box = make("input", { type: "checkbox", name: "label", value: label });
    const qualified = `${memory.name}:${label}`;
    const short = isUnique(label) ? label : qualified;
    return Object.assign(make("label", {}, box, ` ${label}`), { qualified, short });
  });
  const groups = Object.entries(memory.groups).map(([name, members]) =>
    shortcut(name, members, () => {
      for (const chip of items) if (members.includes(label(chip)) && !box(chip).checked) box(chip).click();
    }));
  const line = make("p", { className: "shortcuts", hidden: !groups.length }, "Groups: ", ...groups);
  const count = make("span", { className: "note", textContent: ` ${counted(items.length, "name")}` });
  const held = make("div", { className: "chips" }, ...items);
  held.setAttribute("role", "group");
  held.setAttribute("aria-label", `Names of ${memory.name}`);
  return { memory, chips: items, box: make("details", {}, make("summary", {}, memory.name, count), held, line) };
}

/** A button that adds all members of a group, or an alias. */
function shortcut(name, members, pressed) {
  const button = make("button", { type: "button", textContent: name, title: list(members) });
  button.addEventListener("click", pressed);
  return button;
}

const chips = () => known.flatMap((each) => each.chips);
const box = (chip) => chip.firstChild;
const label = (chip) => box(chip).value;

/** Tick the names that are classes. */
function follow() {
  for (const chip of chips()) box(chip).checked = hasClass(chip.short) || hasClass(chip.qualified);
}

/** Show only the names that match the search, and those that are ticked. */
function find() {
  const wanted = $("find").value.trim().toLowerCase();
  let left = 0;
  for (const { box: part, chips: some } of known) {
    const before = left;
    for (const chip of some) {
      const matches = chip.qualified.toLowerCase().includes(wanted);
      left += matches;
      chip.hidden = !matches && !box(chip).checked;
    }
    part.hidden = some.every((chip) => chip.hidden);
    if (wanted && left > before) part.open = true;
  }
  $("found").textContent = wanted ? counted(left, "name") : "";
  complain("find-error", null);
}

/** Tick the one name that matches the search. */
function tick() {
  const wanted = $("find").value.trim().toLowerCase();
  if (!wanted) return;
  const same = chips().filter((chip) => [label(chip), chip.qualified].some((each) => each.toLowerCase() === wanted));
  const found = same.length ? same : chips().filter((chip) => label(chip).toLowerCase().includes(wanted));
  if (!found.length) return complain("find-error", `No memory knows “${wanted}”.`);
  if (found.length > 1) {
    const names = list(found.map((chip) => chip.qualified));
    return complain("find-error", `“${wanted}” may be ${names}: tick the one you mean.`);
  }
  if (!box(found[0]).checked) box(found[0]).click();
  $("find").value = "";
  find();
}

$("find").addEventListener("input", find);
$("find").addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  event.preventDefault(); // or it would start the training
  tick();
});
$("chips").addEventListener("change", ({ target }) => {
  const chip = target.parentElement;
  if (target.checked) return addClass(chip.short);
  removeClass(chip.short);
  removeClass(chip.qualified);
});
onClasses(follow);
