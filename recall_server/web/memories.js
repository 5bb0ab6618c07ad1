// The loaded memories, and what one of them recalls for a name or between two.

import { $, bytes, complain, make, network, percent } from "./dom.js";
import { json, postJson } from "./server.js";

const SHOWN = 12;
let chosen = null;
let asking = null;
let waiting = 0;

/** Fill the cards; `choose` hears of the memory that was picked, which at first is the first one. */
export async function showMemories(choose) {
  complain("memories-error", null);
  let bundles;
  try {
    ({ bundles } = await json("/bundles"));
  } catch (error) {
    complain("memories-error", error);
    return [];
  }
  if (!bundles.length) complain("memories-error", "No memory is loaded: put a bundle into the server's folder.");
  const details = await Promise.all(bundles.map((bundle) => json(bundle.links.self).catch(() => bundle)));
  const pick = (bundle, card) => {
    chosen = bundle;
    for (const other of $("cards").children) {
      other.firstChild.classList.toggle("chosen", other === card);
      other.querySelector("button").setAttribute("aria-pressed", String(other === card));
    }
    explore(bundle);
    choose(bundle);
  };
  const cards = details.map((bundle) => card(bundle, pick));
  $("cards").replaceChildren(...cards);
  const first = details.findIndex((bundle) => bundle.file_bytes === Math.max(...details.filter(byName).map((each) => each.file_bytes)));
  if (cards.length) pick(details[Math.max(first, 0)], cards[Math.max(first, 0)]);
  return details;
}

const byName = (bundle) => bundle.queries === "labels";

function card(bundle, pick) {
  const facts = [["Data", bundle.dataset], ["Classes", String(bundle.labels.length)], ["Size", size(bundle)]];
  const best = [...bundle.accuracy].pop();
  if (best) facts.push(["Accuracy", `${percent(best.mean)} ± ${(100 * best.spread).toFixed(1)} (${network(best.network)})`]);
  facts.push(["Addressed by", bundle.queries === "images" ? "pictures" : "names"]);
  const list = make("dl");
  for (const [name, value] of facts) list.append(make("dt", { textContent: name }), make("dd", { textContent: value }));
  const button = make("button", { type: "button", textContent: "Use this memory" });
  const item = make("li", {}, make("div", { className: "card" }, make("h3", { textContent: bundle.name }), list, button));
  if (byName(bundle)) strip(bundle).then((images) => list.before(images), () => {});  // an ornament: no image, no complaint
  button.addEventListener("click", () => pick(bundle, item));
  return item;
}

/** One recalled image of each of the first ten labels. */
async function strip(bundle) {
  const parameters = new URLSearchParams({ bundle: bundle.name, per_label: 1, format: "json" });
  for (const label of bundle.labels.slice(0, 10)) parameters.append("labels", label);
  const { recalled } = await json(`/recall?${parameters}`);
  const images = recalled.map((each) => make("img", { src: each.images[0], alt: "", title: each.name }));
  return make("div", { className: "strip" }, ...images);
}

function size(bundle) {
  const original = bundle.manifest?.budget?.dataset_bytes;
  const share = original ? `, ${Math.round(original / bundle.file_bytes).toLocaleString("en")} times smaller than the data` : "";
  return `${bytes(bundle.file_bytes)}${share}`;
}

function explore(bundle) {
  $("look").hidden = !byName(bundle);
  if (!byName(bundle)) return;
  const names = () => bundle.labels.map((label) => make("option", { value: label, textContent: label }));
  $("first").replaceChildren(...names());
  $("second").replaceChildren(make("option", { value: "", textContent: "nothing else" }), ...names());
  $("mix").value = 0;
  recall();
}

/** Ask for the mixture that the controls show; a newer wish replaces one that is under way. */
function recall() {
  const [first, second] = [$("first").value, $("second").value];
  const mixed = Boolean(second) && second !== first;
  $("mix").disabled = !mixed;
  const part = mixed ? Number($("mix").value) / 100 : 0;
  $("mix-label").textContent = mixed ? `${Math.round(100 - 100 * part)} % ${first}, ${Math.round(100 * part)} % ${second}` : "Mixture";
  clearTimeout(waiting);
  waiting = setTimeout(() => fetchRecalled(first, second, part), 60);
}

async function fetchRecalled(first, second, part) {
  asking?.abort();
  asking = new AbortController();
  const mixture = part > 0 ? { [first]: 1 - part, [second]: part } : { [first]: 1 };
  if (part === 1) delete mixture[first];
  const parameters = new URLSearchParams({ bundle: chosen.name, per_label: Math.min(SHOWN, chosen.memory.rows) });
  try {
    const headers = { Accept: "application/json" };
    const answer = await postJson(`/recall?${parameters}`, { mixtures: [mixture] }, { headers, signal: asking.signal });
    const images = answer.recalled[0].images.map((source) => make("img", { src: source, alt: "" }));
    $("recalled").replaceChildren(...images);
    $("recalled").setAttribute("aria-label", `${images.length} images recalled for ${$("mix-label").textContent === "Mixture" ? first : $("mix-label").textContent}`);
    complain("look-error", null);
  } catch (error) {
    if (error.name !== "AbortError") complain("look-error", error);
  }
}

for (const id of ["first", "second"]) $(id).addEventListener("change", () => { $("mix").value = id === "second" ? 50 : $("mix").value; recall(); });
$("mix").addEventListener("input", recall);
