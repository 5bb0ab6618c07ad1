// The camera: opened for a video element, and frames of it as pictures.

import { make } from "./dom.js";

const REASONS = {
  NotAllowedError: "The browser was not allowed to use the camera. Allow it for this page, and try again.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera cannot be used; another program may be using it.",
};

/** Whether the camera is available; browsers allow it on localhost and over HTTPS only. */
export const hasCamera = () => Boolean(navigator.mediaDevices?.getUserMedia);

/**
 * Show the camera in this video element; returns its stream. If `wanted` says that it is not wanted any more, it is
 * closed again and null is returned. Throws an Error that can be shown.
 */
export async function openCamera(video, facingMode, wanted) {
  let stream = null;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode } });
    if (!wanted()) return closeCamera(stream, video);
    video.srcObject = stream;
    await video.play();
    return stream;
  } catch (error) {
    closeCamera(stream, video);
    throw new Error(REASONS[error.name] ?? `The camera cannot be used: ${error.message || error.name}.`);
  }
}

/** Release the camera; returns null. */
export function closeCamera(stream, video) {
  for (const track of stream?.getTracks() ?? []) track.stop();
  if (video.srcObject === stream) video.srcObject = null;
  return null;
}

/** The present frame as a JPEG blob, its shorter side at most `side` pixels. */
export function frameOf(video, side = Infinity) {
  const scale = Math.min(1, side / Math.min(video.videoWidth, video.videoHeight));
  const [width, height] = [video.videoWidth, video.videoHeight].map((each) => Math.max(1, Math.round(scale * each)));
  const canvas = make("canvas", { width, height });
  canvas.getContext("2d").drawImage(video, 0, 0, width, height);
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", 0.92); });
}

/** A frame as a file with a name. */
export function pictureFile(blob, number) {
  return new File([blob], `camera-${Date.now()}-${number}.jpg`, { type: "image/jpeg" });
}
