// Pictures on their way to the server: photographs made smaller, the form, and the server's limits in words.

import { bytes, make, number } from "./dom.js";
import { json } from "./server.js";

const KINDS = ["image/jpeg", "image/png", "image/webp"]; // what every server reads
const SIDE = 256; // pixels that the shorter side of a photograph keeps, or four times what the classifier looks at
const LARGE = 64_000; // bytes of a picture that is sent as it is: a thousand of them are within the usual limit
const TOGETHER = 4; // photographs that are made smaller at a time: decoded, each takes some fifty megabytes
const OTHER_PARTS = 0.98; // of a body are pictures; the rest is left for the names between them
let limits = null;

async function known() {
  limits ??= (await json("/info")).limits;
  return limits;
}

/**
 * The pictures as they will be sent: [name, file] -> [name, file]. `side` is the longer side of what the classifier
 * looks at; `came` hears how many are ready, and may throw to stop it. Throws an Error with a sentence where they are
 * over a limit.
 */
export async function prepared(parts, side, came = () => {}) {
  const { pictures, body_bytes: most } = await known();
  if (parts.length > pictures) {
    throw new Error(
      `${number(parts.length)} pictures are more than the ${number(pictures)} that this server takes at once. ` +
        "Take some of them out.",
    );
  }
  const ready = [];
  while (ready.length < parts.length) {
    came(ready.length);
    const some = parts.slice(ready.length, ready.length + TOGETHER);
    const small = async ([name, file]) => [name, await smaller(file, Math.max(SIDE, 4 * side))];
    ready.push(...await Promise.all(some.map(small)));
  }
  const total = ready.reduce((sum, [, file]) => sum + file.size, 0);
  if (total > OTHER_PARTS * most) {
    throw new Error(
      `These pictures are ${bytes(total)} together; this server takes ${bytes(most)} at once. ` +
        "Take some of them out, or make them smaller.",
    );
  }
  return ready;
}

/**
 * A photograph with its shorter side cut down to `side` pixels; other files, and what the browser cannot read, as they
 * are. The classifier looks at a few dozen pixels: millions would only take longer, and tell where they were taken.
 */
async function smaller(file, side) {
  if (file.size <= LARGE && KINDS.includes(file.type)) return file;
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    return file; // the server will say what is wrong with it
  }
  try {
    const scale = Math.min(1, side / Math.min(picture.width, picture.height));
    const [width, height] = [picture.width, picture.height].map((each) => Math.max(1, Math.round(scale * each)));
    const canvas = make("canvas", { width, height });
    const brush = canvas.getContext("2d");
    brush.imageSmoothingQuality = "high";
    brush.fillStyle = "#fff"; // behind what is transparent, as the server does
    brush.fillRect(0, 0, width, height);
    brush.drawImage(picture, 0, 0, width, height);
    const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", 0.92); });
    return blob ? new File([blob], file.name, { type: blob.type }) : file;
  } finally {
    picture.close();
  }
}

/**
 * The options of a fetch that sends these parts as multipart/form-data. FormData would turn a quotation mark in a class
 * name into %22, which nobody could tell from a name that holds %22.
 */
export function form(parts) {
  const random = Array.from(crypto.getRandomValues(new Uint32Array(4)), (word) => word.toString(36));
  const boundary = `----pictures-${random.join("")}`;
  const pieces = parts.flatMap(([name, file]) => [
    `--${boundary}\r\nContent-Disposition: form-data; ` +
      `name=${quoted(name)}; filename=${quoted(file.name.replaceAll("\\", "/"))}\r\n` +
      `Content-Type: ${file.type || "application/octet-stream"}\r\n\r\n`,
    file,
    "\r\n",
  ]);
  const headers = { "Content-Type": `multipart/form-data; boundary=${boundary}` };
  return { method: "POST", headers, body: new Blob([...pieces, `--${boundary}--\r\n`]) };
}

function quoted(text) {
  return `"${text.replace(/[\r\n\0]/g, " ").replace(/["\\]/g, "\\$&")}"`;
}
