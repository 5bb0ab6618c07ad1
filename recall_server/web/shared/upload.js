// Uploads: reduces photographs, checks the server's limits, and builds the multipart form.

import { bytes, make, number } from "./dom.js";
import { json } from "./server.js";

const KINDS = ["image/jpeg", "image/png", "image/webp"]; // formats that every server reads
const SIDE = 256; // minimum, in pixels, of a reduced photograph's shorter side
const LARGE = 64_000; // bytes; smaller pictures are sent unchanged, a thousand of them within the usual limit
const TOGETHER = 4; // photographs reduced in parallel; decoded, each takes about fifty megabytes
const OTHER_PARTS = 0.98; // share of the body for pictures; the rest is for the headers of the parts
let limits = null;

async function known() {
  limits ??= (await json("/info")).limits;
  return limits;
}

/**
 * The pictures to send: [name, file] -> [name, file]. `side` is the longer side of the classifier's images. `came` is
 * called with the number of finished pictures, and may throw to stop. Throws an Error if a limit is exceeded.
 */
export async function prepared(parts, side, came = () => {}) {
  const { pictures, body_bytes: most } = await known();
  if (parts.length > pictures) {
    throw new Error(
      `${number(parts.length)} pictures are more than the ${number(pictures)} that this server accepts at once. ` +
        "Remove some of them.",
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
      `These pictures are ${bytes(total)} together; this server accepts ${bytes(most)} at once. ` +
        "Remove some of them, or make them smaller.",
    );
  }
  return ready;
}

/**
 * The photograph with its shorter side reduced to `side` pixels; small pictures, and files that the browser cannot
 * read, are unchanged. The classifier needs a few dozen pixels. More take longer to send, and EXIF data may reveal a
 * location.
 */
async function smaller(file, side) {
  if (file.size <= LARGE && KINDS.includes(file.type)) return file;
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    return file; // the server reports what is wrong with it
  }
  try {
    const scale = Math.min(1, side / Math.min(picture.width, picture.height));
    const [width, height] = [picture.width, picture.height].map((each) => Math.max(1, Math.round(scale * each)));
    const canvas = make("canvas", { width, height });
    const brush = canvas.getContext("2d");
    brush.imageSmoothingQuality = "high";
    brush.fillStyle = "#fff"; // behind transparent areas, as in the server
    brush.fillRect(0, 0, width, height);
    brush.drawImage(picture, 0, 0, width, height);
    const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", 0.92); });
    return blob ? new File([blob], file.name, { type: blob.type }) : file;
  } finally {
    picture.close();
  }
}

/**
 * The options of a fetch that sends these parts as multipart/form-data. FormData would leave backslashes in class names
 * as they are, which form parsers read as escapes.
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
