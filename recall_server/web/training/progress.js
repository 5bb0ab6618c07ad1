// The progress of a training: live, through lost connections, and after the page was reloaded.

import { $, complain, number } from "../shared/dom.js";
import { follow } from "./events.js";
import { ask, json, sentence } from "../shared/server.js";

const IN_ADDRESS = "#classifier=";
const ADDRESSED = new RegExp(`^${IN_ADDRESS}([0-9a-z-]+)$`);
const WORDS = {
  queued: "Waiting in the queue…",
  running: "Training…",
  succeeded: "Trained.",
  failed: "The training failed.",
  cancelled: "Stopped.",
};
const LOST = "The connection is lost. The training continues without this page; reconnecting…";
let running = null;
let stopped = false;

/** Show this text while a training is prepared, which can be stopped. Throws if it was. */
export function preparing(text) {
  if (stopped) throw new Error("Stopped before anything was sent.");
  starting(text);
  $("cancel").hidden = false;
}

/** Show this text while a request is sent. */
export function starting(text) {
  $("train").disabled = true;
  $("cancel").hidden = true;
  $("progress").hidden = false;
  $("loss").hidden = true;
  $("bar").removeAttribute("value"); // indeterminate
  $("progress-text").textContent = text;
}

/** Reset the controls after a training. */
export function quiet() {
  $("train").disabled = false;
  $("cancel").hidden = true;
  if (!$("bar").hasAttribute("value")) $("progress").hidden = true; // it did not start
  running = null;
  stopped = false;
}

/**
 * Follow a training to its end. `show` is called with its record at the beginning and at the end. Throws an Error if it
 * failed.
 */
export async function watch(record, show) {
  const losses = [];
  running = record.id;
  // So that a reloaded page finds the training again.
  history.replaceState(null, "", IN_ADDRESS + encodeURIComponent(record.id));
  say(record.status, record.progress);
  const seen = (event) => {
    if (event.progress?.loss != null) losses.push(event.progress);
    say(event.status, event.progress);
    draw(losses);
  };
  if (!record.is_terminal) {
    show(record);
    await follow(record.id, seen, () => tell(LOST));
  }
  const end = await json(`/classifier/${encodeURIComponent(record.id)}`);
  say(end.status, end.progress);
  if (end.addressing === "prototypes") tell("Ready: no training was needed.");
  show(end);
  if (end.status === "failed") {
    throw new Error(`The training failed. ${sentence(end.error?.detail ?? "the server gave no reason")}`);
  }
}

/** Continue to follow the training in the page's address, if there is one. */
export async function resume(show) {
  const [, identifier] = ADDRESSED.exec(location.hash) ?? [];
  if (!identifier) return;
  try {
    const record = await json(`/classifier/${identifier}`);
    if (record.status === "succeeded") return show(record, { quietly: true });
    starting("");
    await watch(record, show);
  } catch (error) {
    complain("train-error", error);
  } finally {
    quiet();
  }
}

function say(status, progress) {
  const steps = status === "running" && progress ? ` Step ${number(progress.done)} of ${number(progress.total)}.` : "";
  tell((WORDS[status] ?? status) + steps, WORDS[status] ?? status);
  if (status === "succeeded") $("bar").value = 1;
  else if (progress) $("bar").value = progress.done / progress.total;
  else if (status !== "queued" && status !== "running") $("bar").value = 0;
  $("cancel").hidden = !["queued", "running"].includes(status);
}

/** The visible text changes with every step; the announced text changes only with the state. */
function tell(shown, heard = shown) {
  $("progress-text").textContent = shown;
  if ($("progress-heard").textContent !== heard) $("progress-heard").textContent = heard;
}

/** Draw the loss over the steps, scaled to its maximum. */
function draw(losses) {
  $("loss").hidden = losses.length < 2;
  if (losses.length < 2) return;
  const top = Math.max(...losses.map((each) => each.loss)) || 1;
  const { done, loss, total } = losses.at(-1);
  const points = losses.map((each) => `${(300 * each.done) / total},${58 - (54 * each.loss) / top}`);
  $("curve").firstElementChild.setAttribute("points", points.join(" "));
  const [now, before] = [loss, losses[0].loss].map((each) => (each < 0.001 ? "below 0.001" : each.toPrecision(2)));
  $("loss-text").textContent = `Loss ${now} after ${number(done)} of ${number(total)} steps; ${before} at the start.`;
}

$("cancel").addEventListener("click", () => {
  stopped = true;
  if (!running) return;
  const path = `/classifier/${encodeURIComponent(running)}/cancel`;
  ask(path, { method: "POST" }).catch((error) => complain("train-error", error));
});
