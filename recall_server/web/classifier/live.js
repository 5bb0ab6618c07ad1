// The live camera: frames are classified one after another, and bars show the latest answer.

import { closeCamera, frameOf, hasCamera, openCamera, pictureFile } from "../shared/camera.js";
import { $, complain } from "../shared/dom.js";
import { json } from "../shared/server.js";
import { form } from "../shared/upload.js";
import { familiar, table } from "./prediction.js";

const SIDE = 256; // pixels of a frame's shorter side
const PAUSE = 100; // milliseconds between an answer and the next frame
const video = $("live-video");
let record = null;
let session = null; // { stream } while the camera is live

/** Classify by the classifier of this record. */
export function useLive(shown) {
  record = shown;
  $("live-button").hidden = !hasCamera();
}

/** Release the camera. */
export function stopLive() {
  if (session) closeCamera(session.stream, video);
  session = null;
  $("live").hidden = true;
  $("live-button").textContent = "Live camera";
  $("live-button").setAttribute("aria-pressed", "false");
}

async function start() {
  const mine = { stream: null };
  session = mine;
  complain("predict-error", null);
  $("live-button").textContent = "Stop the camera";
  $("live-button").setAttribute("aria-pressed", "true");
  $("live-bars").replaceChildren();
  $("live").hidden = false;
  try {
    mine.stream = await openCamera(video, "environment", () => session === mine);
    for (let count = 1; session === mine; count += 1) await classify(mine, count);
  } catch (error) {
    if (session !== mine) return;
    stopLive();
    complain("predict-error", error);
  }
}

async function classify(mine, count) {
  const file = pictureFile(await frameOf(video, SIDE), count);
  const path = `/classifier/${encodeURIComponent(record.id)}/predict`;
  const { predictions } = await json(path, form([["images", file]]));
  if (session !== mine) return;
  $("live-bars").replaceChildren(table(predictions[0]), ...familiar(predictions[0]));
  await new Promise((resolve) => { setTimeout(resolve, PAUSE); });
}

$("live-button").addEventListener("click", () => (session ? stopLive() : start()));
document.addEventListener("visibilitychange", () => { if (document.hidden && session) stopLive(); });
