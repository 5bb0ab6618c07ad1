// The loaded memories, one sheet each: the names with what is recalled for them, accuracy, size.

import { showCard } from "../shared/card.js";
import { $, bytes, complain, counted, make, number } from "../shared/dom.js";
import { json, postJson } from "../shared/server.js";
import { classMap } from "./class_map.js";

const FACES = 10; // names of a memory that are shown at first
const SMALL = { width: 300, height: 200, size: 11 }; // of a map on a card

/**
 * All loaded memories and the aliases of their names, as { bundles, aliases }; null, with an error on the page, if the
 * request fails.
 */
export async function fetchMemories() {
  try {
    const loaded = await json("/bundles");
    const nothing = "No memory is loaded. Put a bundle into the server's folder; it is loaded without a restart.";
    complain("memories-error", loaded.bundles.length ? null : nothing);
    return loaded;
  } catch (error) {
    complain("memories-error", error);
    return null;
  }
}

/**
 * Fill the list. `choose` is called with the memory to look inside, at first the largest one of images that has names.
 * `add` is called with a name that was pressed.
 */
export function showMemories(memories, { choose, add }) {
  const pick = (memory, item) => {
    for (const other of $("cards").children) {
      other.firstChild.classList.toggle("chosen", other === item);
      other.querySelector(".use").setAttribute("aria-pressed", String(other === item));
    }
    choose(memory);
  };
  const inOrder = memories.toSorted((one, other) => rank(one) - rank(other));
  const items = inOrder.map((memory) => sheet(memory, { pick, add }));
  $("cards").replaceChildren(...items);
  const named = memories.filter((memory) => memory.queries === "labels" && memory.space !== "features");
  const [first] = (named.length ? named : memories).toSorted((one, other) => other.file_bytes - one.file_bytes);
  $("inside").hidden = !first;
  if (first) pick(first, items[inOrder.indexOf(first)]);
}

/** Memories of features come first, because names are taken from them first; those without names come last. */
function rank({ queries, space }) {
  return queries === "images" ? 2 : space === "features" ? 0 : 1;
}

function sheet(memory, { pick, add }) {
  const use = make("button", { type: "button", className: "use", textContent: "Look inside" });
  use.setAttribute("aria-label", `Look inside ${memory.name}`);
  const buttons = make("div", { className: "row" }, use);
  const title = make("h3", { textContent: memory.name });
  const contents = memory.queries === "labels" ? faces(memory, add) : strip(memory);
  const drawn = memory.space === "features" ? [later(memory)] : [];
  const facts = [holds(memory), accuracy(memory), size(memory)];
  const lines = facts.map((text) => make("p", { className: "note", textContent: text }));
  const item = make("li", {}, make("div", { className: "card" }, title, ...drawn, contents, ...lines, buttons));
  use.addEventListener("click", () => {
    pick(memory, item);
    $("inside").open = true;
    $("inside").scrollIntoView();
    $("inside-title").focus();
  });
  if (memory.links.card) {
    const card = make("button", { type: "button", textContent: "Card" });
    card.setAttribute("aria-label", `Card of ${memory.name}`);
    card.addEventListener("click", () => showCard(memory.links.card, memory.name));
    buttons.append(card);
  }
  return item;
}

function holds(memory) {
  if (memory.queries === "images") return `For classes that you show by pictures. Made from ${memory.dataset}.`;
  const what = memory.space === "features" ? "In the features of a pre-trained encoder" : "As images";
  return `${counted(memory.labels.length, "name")}. ${what}. Made from ${memory.dataset}.`;
}

function size(memory) {
  const original = memory.dataset_bytes;
  if (!original) return `${bytes(memory.file_bytes)}.`;
  const times = original / memory.file_bytes;
  const rounded = times < 10 ? times.toFixed(1) : number(Math.round(times));
  const compared = times < 1.05 ? "no smaller" : `${rounded} times smaller`;
  return `${bytes(memory.file_bytes)}, ${compared} than the ${bytes(original)} of its data.`;
}

function accuracy(memory) {
  const stated = memory.stated_accuracy;
  return stated ? `Accuracy ${stated.sentence}` : "Accuracy not measured.";
}

/** The names of a memory as buttons, with a recalled image each if the memory recalls images; at first only some. */
function faces(memory, add) {
  const place = make("div", { className: "faces" });
  const more = make("button", { type: "button", className: "more" });
  const show = async (labels) => {
    const made = labels.map((label) => face(label, add));
    place.append(...made);
    more.hidden = place.children.length >= memory.labels.length;
    more.textContent = `Show all ${number(memory.labels.length)} names`;
    if (memory.space === "features") return;
    const images = await portraits(memory, labels).catch(() => []); // decoration: errors are ignored
    images.forEach((src, index) => made[index].prepend(make("img", { src, alt: "" })));
  };
  more.addEventListener("click", () => {
    const next = place.children.length;
    show(memory.labels.slice(next));
    place.children[next].focus(); // the focused button was removed
  });
  show(memory.labels.slice(0, FACES));
  return make("div", {}, place, more);
}

function face(label, add) {
  const words = label.split(/(?<=[_/-])/).flatMap((word) => [make("wbr"), word]); // a line may end after each
  const button = make("button", { type: "button", className: "face" }, make("span", {}, ...words));
  button.setAttribute("aria-label", `Add the class ${label}`);
  button.addEventListener("click", () => add(label));
  return button;
}

/** One recalled image of each label. */
async function portraits(memory, labels) {
  const query = new URLSearchParams({ bundle: memory.name, per_label: 1 });
  const mixtures = labels.map((label) => ({ [label]: 1 }));
  const headers = { Accept: "application/json" };
  const { recalled } = await postJson(`/recall?${query}`, { mixtures }, { headers });
  return recalled.map((each) => each.images[0]);
}

/** A map of the classes, which is drawn once it comes into view. */
function later(memory) {
  const place = make("div", { className: "map-place" });
  new IntersectionObserver(async (seen, observer) => {
    if (!seen.some((each) => each.isIntersecting)) return;
    observer.disconnect();
    const map = await classMap(memory, SMALL).catch(() => null); // decoration: errors are ignored
    if (map) place.replaceChildren(map);
  }).observe(place);
  return place;
}

/** A strip of the first bases, for a memory that has no names. */
function strip(memory) {
  const place = make("div", { className: "strip" });
  const show = ({ bases }) => place.append(...bases.slice(0, FACES).map((src) => make("img", { src, alt: "" })));
  if (memory.links.bases) json(memory.links.bases).then(show, () => {}); // decoration: errors are ignored
  return place;
}
