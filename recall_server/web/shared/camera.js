// The camera, in a dialog: requested when the dialog opens, released when it closes.

import { $, complain, counted, make } from "./dom.js";

/** Whether the camera is available; browsers allow it on localhost and over HTTPS only. */
export const hasCamera = () => Boolean(navigator.mediaDevices?.getUserMedia);

const video = $("viewfinder");
let session = null; // of the open dialog: its stream, the callback for a picture, and the number of pictures

/** Open the dialog; `taken` is called with each picture as a file. */
export async function takePictures(taken) {
  session = { taken, count: 0, facing: "environment", stream: null };
  complain("camera-error", null);
  $("snapped").textContent = "";
  $("shots").replaceChildren();
  $("turn").hidden = true;
  $("camera").showModal();
  await open(session);
}

async function open(mine) {
  $("snap").disabled = true;
  stop(mine);
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: mine.facing } });
    if (session !== mine) return stream.getTracks().forEach((track) => track.stop());
    mine.stream = stream;
    video.srcObject = stream;
    await video.play();
    $("snap").disabled = false;
    $("snap").focus();
    const devices = await navigator.mediaDevices.enumerateDevices();
    $("turn").hidden = devices.filter((each) => each.kind === "videoinput").length < 2;
  } catch (error) {
    if (session === mine) complain("camera-error", reason(error));
  }
}

function reason(error) {
  const words = {
    NotAllowedError: "The browser was not allowed to use the camera. Allow it for this page, and try again.",
    NotFoundError: "No camera was found.",
    NotReadableError: "The camera cannot be used; another program may be using it.",
  };
  return words[error.name] ?? `The camera cannot be used: ${error.message || error.name}.`;
}

async function snap() {
  const mine = session;
  if (!mine?.stream || !video.videoWidth) return;
  const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", 0.92); });
  mine.count += 1;
  const file = new File([blob], `camera-${Date.now()}-${mine.count}.jpg`, { type: "image/jpeg" });
  mine.taken(file);
  const shot = make("img", { src: URL.createObjectURL(blob), alt: `Picture ${mine.count}` });
  shot.addEventListener("load", () => URL.revokeObjectURL(shot.src), { once: true });
  $("shots").append(shot);
  $("snapped").textContent = `${counted(mine.count, "picture")} taken`;
}

function stop(mine) {
  for (const track of mine?.stream?.getTracks() ?? []) track.stop();
  if (mine) mine.stream = null;
  video.srcObject = null;
}

$("snap").addEventListener("click", snap);
$("turn").addEventListener("click", () => {
  session.facing = session.facing === "user" ? "environment" : "user";
  open(session);
});
$("camera-done").addEventListener("click", () => $("camera").close());
$("camera").addEventListener("close", () => {
  stop(session);
  session = null;
});
