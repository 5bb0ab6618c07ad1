// Puts the page together: is the server there, which memories are loaded, and who hears of what.

import { $, complain } from "./dom.js";
import { showMemories } from "./memories.js";
import { key, json, ServerError } from "./server.js";
import { prepareTraining, useMemory } from "./training.js";
import { useClassifier } from "./trying.js";

async function start() {
  try {
    const ready = await readiness();
    $("state").textContent = ready.status === "ready" ? "The server is ready." : `The server is ${ready.status}: ${ready.reasons.join("; ")}.`;
    $("state").classList.toggle("good", ready.status === "ready");
    if (ready.status === "starting") setTimeout(start, 1500);
  } catch (error) {
    $("state").textContent = error.message;
    setTimeout(start, 5000);
    return;
  }
  if (!$("cards").children.length) prepareTraining(await showMemories(useMemory), useClassifier);
}

async function readiness() {
  try {
    return await json("/health/ready");
  } catch (error) {
    if (!(error instanceof ServerError) || error.status !== 503) throw error;
    return (await fetch("/health/ready")).json();
  }
}

$("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  key.set($("key").value.trim());
  complain("memories-error", null);
  prepareTraining(await showMemories(useMemory), useClassifier);
});
$("key").value = key.get();
start();
