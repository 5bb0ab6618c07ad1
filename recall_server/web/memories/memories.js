// The loaded memories, one sheet each: names, size, accuracy.

import { showCard } from "../shared/card.js";
import { $, bytes, complain, make, network, number, percent } from "../shared/dom.js";
import { json } from "../shared/server.js";

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

/** Fill the list. `choose` is called with the chosen memory, at first the largest that is addressed by names. */
export function showMemories(memories, choose) {
  const pick = (memory, item) => {
    for (const other of $("cards").children) {
      other.firstChild.classList.toggle("chosen", other === item);
      other.querySelector(".use").setAttribute("aria-pressed", String(other === item));
    }
    choose(memory);
  };
  const items = memories.map((memory) => sheet(memory, pick));
  $("cards").replaceChildren(...items);
  const named = memories.filter((memory) => memory.queries === "labels" && memory.space !== "features");
  const [first] = (named.length ? named : memories).toSorted((one, other) => other.file_bytes - one.file_bytes);
  $("inside").hidden = !first;
  if (first) pick(first, items[memories.indexOf(first)]);
}

function sheet(memory, pick) {
  const facts = [
    ["Classes", memory.queries === "images" ? "those of your pictures" : `${memory.labels.length} names`],
    ["Size", size(memory)],
    ["Accuracy", accuracy(memory)],
    ["Made from", memory.dataset],
    ["Addressed by", memory.queries === "images" ? "pictures" : "names"],
    ...(memory.space === "features" ? [["Holds", "features of a pre-trained encoder, which are no images"]] : []),
  ];
  const terms = make("dl");
  for (const [name, value] of facts) terms.append(make("dt", { textContent: name }), make("dd", {}, value));
  const use = make("button", { type: "button", className: "use", textContent: "Use this memory" });
  const buttons = make("div", { className: "row" }, use);
  const title = make("h3", { textContent: memory.name });
  const item = make("li", {}, make("div", { className: "card" }, title, ornament(memory), terms, buttons));
  use.addEventListener("click", () => pick(memory, item));
  if (memory.links.card) {
    const card = make("button", { type: "button", textContent: "Card" });
    card.setAttribute("aria-label", `Card of ${memory.name}`);
    card.addEventListener("click", () => showCard(memory.links.card, memory.name));
    buttons.append(card);
  }
  return item;
}

function size(memory) {
  const original = memory.dataset_bytes;
  if (!original) return bytes(memory.file_bytes);
  const times = original / memory.file_bytes;
  const rounded = times < 10 ? times.toFixed(1) : number(Math.round(times));
  const compared = times < 1.05 ? "no smaller" : `${rounded} times smaller`;
  return `${bytes(memory.file_bytes)}, ${compared} than the ${bytes(original)} of its data`;
}

/** The last measurement, because later ones are more careful or use a newer schedule. */
function accuracy(memory) {
  const measured = memory.accuracy.at(-1);
  if (!measured) return "not measured";
  const runs = measured.runs === 1 ? "one fresh network" : `mean of ${measured.runs} fresh networks`;
  const how = `${runs} (${network(measured.network)}) on ${measured.data}`;
  const spread = measured.runs === 1 ? "" : ` ± ${(100 * measured.spread).toFixed(1)}`;
  return make("span", {}, percent(measured.mean) + spread, make("span", { className: "note how", textContent: how }));
}

/** A strip of one recalled image for each of the first ten names, or of the first ten bases. */
function ornament(memory) {
  const strip = make("div", { className: "strip" });
  const show = (sources) => strip.append(...sources.map((src) => make("img", { src, alt: "" })));
  sources(memory).then(show, () => {}); // decoration: errors are ignored
  return strip;
}

async function sources(memory) {
  if (memory.space === "features") return []; // vectors: there is nothing to look at
  if (memory.queries === "images") return memory.links.bases ? (await json(memory.links.bases)).bases.slice(0, 10) : [];
  const parameters = new URLSearchParams({ bundle: memory.name, per_label: 1, format: "json" });
  for (const label of memory.labels.slice(0, 10)) parameters.append("labels", label);
  const { recalled } = await json(`/recall?${parameters}`);
  return recalled.map((each) => each.images[0]);
}
