// The form that makes a classifier, from names, from pictures, or from both.

import { $, complain, counted, list, number } from "../shared/dom.js";
import { json, postJson } from "../shared/server.js";
import { form, prepared } from "../shared/upload.js";
import { chosenWay, prepareWays } from "./addressing.js";
import { addClass, filledCards, prepareCards } from "./class_cards.js";
import { folded, meaningOf, prepareKnown } from "./known_names.js";
import { prepareNames } from "./names.js";
import { preparing, quiet, starting, watch } from "./progress.js";

const ENCODER_SIDE = 224; // pixels: photographs are sent four times as large as encoders usually take them

/** Prepare the form for the loaded memories; `show` is called with the record of each classifier and its changes. */
export function prepareTraining(loaded, show) {
  prepareKnown(loaded, addClass);
  prepareCards();
  prepareNames(loaded.bundles, loaded.aliases);
  prepareWays(loaded.bundles);
  $("train-form").onsubmit = (event) => { event.preventDefault(); train(show); };
}

async function train(show) {
  complain("train-error", null);
  try {
    await watch(await request(), show);
  } catch (error) {
    complain("train-error", error);
  } finally {
    quiet();
  }
}

/** Send the classes; returns the record of the classifier. */
async function request() {
  const cards = filledCards();
  const [pictured, named] = [cards.filter((card) => card.files.length), cards.filter((card) => !card.files.length)];
  check(cards, named, pictured);
  const labels = cards.filter((card) => card.isNamed).map((card) => card.typed);
  if (pictured.length) return trainPictures(pictured, labels);
  starting("Sending…");
  return postJson("/classifier", { labels });
}

function check(cards, named, pictured) {
  const several = named.some((card) => meaningOf(card.typed)?.several);
  if (cards.length < 2 && !several) {
    throw new Error("Give two or more classes a name or pictures: a classifier needs at least two.");
  }
  const unknown = named.filter((card) => !meaningOf(card.typed)).map((card) => `“${card.typed}”`);
  if (unknown.length && pictured.length) {
    throw new Error(
      `There are no pictures of ${list(unknown)}, and no memory knows the name: add pictures, or remove the class.`,
    );
  }
  const names = cards.map((card) => card.label);
  const odd = names.find((name) => name.endsWith("\\")); // form parsers would read an escape
  if (odd) throw new Error(`The name “${odd}” ends in a backslash: remove it.`);
  const encoded = names.find((name) => /%(22|0A|0D)/.test(name)); // forms encode quotes and line breaks like this
  if (encoded) throw new Error(`The name “${encoded}” contains ${/%../.exec(encoded)[0]}: remove it.`);
  const same = (name, index) => names.findIndex((other) => folded(other) === folded(name)) !== index;
  const twice = names.find(same);
  if (twice) throw new Error(`Two classes are called “${twice}”: give them different names.`);
}

/** Train from the pictures of these cards; `labels` are the names that memories know and that are used, too. */
async function trainPictures(cards, labels) {
  const { addressing, memory } = labels.length ? {} : chosenWay();
  const parts = cards.flatMap((card) => card.files.map((file) => [card.label, file]));
  const came = (count) => preparing(`Preparing pictures: ${number(count)} of ${number(parts.length)}…`);
  const side = memory ? Math.max(memory.image.height, memory.image.width) : ENCODER_SIDE;
  const ready = await prepared(parts, side, came);
  starting(`Sending ${counted(ready.length, "picture")}…`);
  const asked = new URLSearchParams(labels.map((label) => ["labels", label]));
  if (addressing) asked.set("addressing", addressing);
  if (memory) asked.set("bundle", memory.name);
  return json(`/classifier?${asked}`, form(ready));
}
