// The dialog that takes pictures with the camera, one at a time or several a second. It holds the camera while open.

import { closeCamera, frameOf, openCamera, pictureFile } from "./camera.js";
import { $, complain, counted, make } from "./dom.js";

const PAUSE = 200; // milliseconds between recorded frames
const MOST = 100; // frames of one recording
const video = $("viewfinder");
let session = null; // of the open dialog: its stream, the callback for a picture, the number of pictures

/** Open the dialog; `taken` is called with each picture as a file. */
export async function takePictures(taken) {
  session = { taken, count: 0, facing: "environment", stream: null, recording: false };
  complain("camera-error", null);
  $("snapped").textContent = "";
  $("shots").replaceChildren();
  $("turn").hidden = true;
  $("camera").showModal();
  await open(session);
}

async function open(mine) {
  usable(false);
  mine.stream = closeCamera(mine.stream, video);
  try {
    mine.stream = await openCamera(video, mine.facing, () => session === mine);
    if (!mine.stream) return;
    usable(true);
    $("snap").focus();
    const devices = await navigator.mediaDevices.enumerateDevices();
    $("turn").hidden = devices.filter((each) => each.kind === "videoinput").length < 2;
  } catch (error) {
    if (session === mine) complain("camera-error", error);
  }
}

function usable(yes) {
  for (const id of ["snap", "record"]) $(id).disabled = !yes;
}

async function snap(mine) {
  if (!mine?.stream || !video.videoWidth) return;
  const blob = await frameOf(video);
  mine.count += 1;
  mine.taken(pictureFile(blob, mine.count));
  const shot = make("img", { src: URL.createObjectURL(blob), alt: `Picture ${mine.count}` });
  shot.addEventListener("load", () => URL.revokeObjectURL(shot.src), { once: true });
  $("shots").append(shot);
  $("snapped").textContent = `${counted(mine.count, "picture")} taken`;
}

/** Take pictures until the button is pressed again, the dialog is closed, or there are MOST. */
async function record(mine) {
  recording(mine, !mine.recording);
  for (let count = 0; mine.recording && session === mine && count < MOST; count += 1) {
    await snap(mine);
    await new Promise((resolve) => { setTimeout(resolve, PAUSE); });
  }
  recording(mine, false);
}

function recording(mine, yes) {
  mine.recording = yes;
  $("record").textContent = yes ? "Stop recording" : "Record";
  $("record").setAttribute("aria-pressed", String(yes));
}

$("snap").addEventListener("click", () => snap(session));
$("record").addEventListener("click", () => record(session));
$("turn").addEventListener("click", () => {
  session.facing = session.facing === "user" ? "environment" : "user";
  open(session);
});
$("camera-done").addEventListener("click", () => $("camera").close());
$("camera").addEventListener("close", () => {
  closeCamera(session.stream, video);
  session = null;
});
