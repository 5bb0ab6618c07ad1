// The names that the loaded memories know: what each means, and suggestions while one types.

import { $, list, make } from "../shared/dom.js";
import { postJson } from "../shared/server.js";

const EXAMPLES = ["bear", "deer"]; // used if they are known
const SHOWN = 10; // recalled images of a name
let meanings = new Map(); // folded name -> { labels: [{ memory, label }], groups: [{ memory, members }], alias }

/** Prepare the suggestions for the names of these memories and the aliases; `add` is called with a pressed example. */
export function prepareKnown({ bundles, aliases }, add) {
  meanings = new Map();
  const spelled = new Set();
  const entry = (name) => {
    spelled.add(name);
    const key = folded(name);
    if (!meanings.has(key)) meanings.set(key, { labels: [], groups: [], alias: null });
    return meanings.get(key);
  };
  for (const memory of bundles.filter((each) => each.queries === "labels")) {
    for (const label of memory.labels) entry(label).labels.push({ memory, label });
    for (const [group, members] of Object.entries(memory.groups)) entry(group).groups.push({ memory, members });
  }
  for (const [name, names] of Object.entries(aliases)) entry(name).alias = names;
  const options = [...spelled].sort().map((value) => make("option", { value }));
  $("known-names").replaceChildren(...options);
  const examples = EXAMPLES.every((name) => find(name)) ? EXAMPLES : [...spelled].slice(0, 2);
  const buttons = examples.map((name) => {
    const button = make("button", { type: "button", className: "example", textContent: name });
    button.addEventListener("click", () => add(name));
    return button;
  });
  const [first, ...others] = buttons.flatMap((button) => [" or ", button]).slice(1);
  $("examples").replaceChildren(...(first ? [", such as ", first, ...others, ","] : []));
}

/**
 * What the memories know of this name, as { text, source, several, joins }: a sentence, a label of a memory of images
 * that can be shown (or null), whether the name stands for several classes, and whether a memory of features knows it,
 * so that pictures can be added to what it knows. Null for a name that no memory knows.
 */
export function meaningOf(name) {
  const found = find(name);
  if (!found) return null;
  const { labels, groups, alias } = found;
  if (labels.length) {
    const source = labels.find(({ memory }) => memory.space !== "features") ?? null;
    const memories = list(labels.map(({ memory }) => memory.name));
    const joins = labels.some(({ memory }) => memory.space === "features");
    return { text: `Known to ${memories}. It needs no pictures.`, source, several: false, joins };
  }
  const members = groups.length ? groups[0].members : alias;
  return { text: `Stands for ${list(members)}.`, source: null, several: members.length > 1, joins: false };
}

/** Images that a memory recalls for one of its labels, as data URIs. */
export async function recalledFor({ memory, label }, most = SHOWN) {
  const query = new URLSearchParams({ bundle: memory.name, per_label: Math.min(most, memory.memory.rows) });
  const options = { headers: { Accept: "application/json" } };
  const { recalled } = await postJson(`/recall?${query}`, { mixtures: [{ [label]: 1 }] }, options);
  return recalled[0].images;
}

/** Names compare by composed Unicode, without regard to case. */
export function folded(name) {
  return name.normalize("NFC").trim().toLowerCase();
}

/** The entry of a name, which may be written `memory:name`. */
function find(name) {
  const found = meanings.get(folded(name));
  const [, prefix, rest] = /^([^:]+):(.+)$/s.exec(name) ?? [];
  if (found || !prefix) return found ?? null;
  const other = meanings.get(folded(rest));
  const inside = (each) => folded(each.memory.name) === folded(prefix);
  const narrowed = other && { labels: other.labels.filter(inside), groups: other.groups.filter(inside), alias: null };
  return narrowed && (narrowed.labels.length || narrowed.groups.length) ? narrowed : null;
}
