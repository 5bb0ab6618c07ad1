// Assembles the page: connects to the server, loads the memories, and connects the parts.

import { useClassifier } from "./classifier/classifier.js";
import { listEarlier } from "./classifier/earlier.js";
import { $ } from "./shared/dom.js";
import { prepareInside } from "./memories/inside.js";
import { fetchMemories, showMemories } from "./memories/memories.js";
import { addClass } from "./training/class_cards.js";
import { resume } from "./training/progress.js";
import { connection, key, readiness } from "./shared/server.js";
import { prepareTraining } from "./training/training.js";

const [SOON, LATER] = [1000, 8000];
let looking = false;
let shown = null;

/** Poll the server until it is ready, and show its memories as soon as there are any. */
async function look() {
  if (looking) return;
  looking = true;
  for (let wait = SOON, gone = false; ; wait = Math.min(2 * wait, LATER)) {
    try {
      const ready = await readiness();
      const done = ready.status === "ready";
      const news = gone ? "The server is back." : "The server is ready.";
      if (done) state(news, "good");
      else state(`The server is ${ready.status}: ${ready.reasons.join("; ")}.`);
      await refresh();
      if (done) break;
    } catch (error) {
      gone = true;
      state(`${error.message} Trying again…`, "error");
    }
    await new Promise((resolve) => { setTimeout(resolve, wait); });
  }
  looking = false;
}

function state(text, kind = "") {
  if ($("state").textContent !== text) $("state").textContent = text; // a screen reader announces every assignment
  $("state").className = kind;
}

/** Show the memories, unless the same ones are shown already: the user's choices would be lost. */
async function refresh() {
  const loaded = await fetchMemories();
  if (!loaded) return;
  const digests = JSON.stringify([loaded.bundles.map((each) => each.sha256), loaded.aliases]);
  if (digests === shown) return prepareInside.again();
  const first = shown === null;
  shown = digests;
  prepareTraining(loaded, useClassifier);
  showMemories(loaded.bundles, { choose: prepareInside, add: addClass });
  listEarlier(useClassifier);
  if (first) resume(useClassifier);
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set($("key").value.trim());
  shown = null;
  refresh();
});
connection.addEventListener("locked", () => { $("key-box").open = true; });
connection.addEventListener("lost", look);
// A file that is dropped outside a box would replace the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
$("key").value = key.get();
look();
