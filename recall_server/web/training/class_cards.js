// The cards of the classes that the classifier will have.

import { $, make } from "../shared/dom.js";
import { byClassFolder, dropped } from "../shared/dropped.js";
import { ClassBox } from "./class_box.js";
import { folded, meaningOf } from "./known_names.js";

const FEWEST = 2;
let cards = [];
let numbered = 0;
const listeners = [];

/** The cards that have a name or pictures, in their order. */
export const filledCards = () => cards.filter((card) => !card.isEmpty);

/** Call this function whenever a class is named, added or removed. */
export function onClasses(listener) {
  listeners.push(listener);
}

/** Prepare two empty cards, and show on all cards what the memories now know of their names. */
export function prepareCards() {
  while (cards.length < FEWEST) addCard();
  for (const card of cards) card.show();
}

/** Whether a card has this name. */
export function hasClass(name) {
  return cards.some((card) => folded(card.typed) === folded(name));
}

/** Add a class of this name, in the first empty card if there is one, with these pictures. */
export function addClass(name, files = []) {
  const same = cards.find((card) => folded(card.typed) === folded(name));
  const card = same ?? cards.find((each) => each.isEmpty) ?? addCard();
  card.name.value = same ? card.name.value : name;
  card.add(files);
  changed();
}

/** Remove the class of this name, unless it has pictures. */
export function removeClass(name) {
  for (const card of cards.filter((each) => folded(each.typed) === folded(name) && !each.files.length)) remove(card);
  changed();
}

function addCard() {
  const card = new ClassBox(++numbered, {
    removed: (gone) => {
      remove(gone);
      $("add-box").focus(); // the focused button was removed
    },
    named,
    entered: (last) => (cards.slice(cards.indexOf(last) + 1).find((each) => each.isEmpty)?.name ?? $("train")).focus(),
  });
  card.item = make("li", {}, card.element);
  cards.push(card);
  $("boxes").append(card.item);
  return card;
}

function remove(card) {
  cards = cards.filter((each) => each !== card);
  card.clear();
  card.item.remove();
  while (cards.length < FEWEST) addCard();
  changed();
}

/** Several names that were entered with commas become a card each. */
function named(card) {
  const names = card.typed.split(",").map((name) => name.trim()).filter(Boolean);
  if (names.length > 1 && !card.files.length && !meaningOf(card.typed)) {
    card.name.value = names[0];
    for (const name of names.slice(1)) addClass(name);
  }
  changed();
}

function changed() {
  for (const listener of listeners) listener();
}

function addFolders(files) {
  for (const [name, pictures] of byClassFolder(files)) addClass(name, pictures);
}

$("add-box").addEventListener("click", () => addCard().name.focus());
$("folders").addEventListener("change", () => {
  addFolders([...$("folders").files]);
  $("folders").value = "";
});
$("add-line").addEventListener("drop", async (event) => addFolders(await dropped(event.dataTransfer)));
