// Boxes for pictures: dropped (folders too), chosen as files, or taken with the camera.

import { hasCamera, takePictures } from "./camera.js";
import { counted, make } from "./dom.js";

const THUMBNAILS = 12;
const EMPTY = matchMedia("(hover: hover)").matches ? "Drop pictures here" : "No pictures yet"; // no drop by touch

const nobody = () => {};

/**
 * A box for pictures. `added` is called with new pictures, `cleared` when all were removed. Files that are not pictures
 * are skipped and counted.
 */
export class PictureBox {
  constructor(caption, { added = nobody, cleared = nobody } = {}) {
    this.files = [];
    this.shown = new Map(); // file -> its thumbnail
    this.refused = 0;
    this.added = added;
    this.cleared = cleared;
    this.row = make("div", { className: "row" });
    this.thumbnails = make("div", { className: "thumbs" });
    this.count = make("p", { className: "note" });
    this.count.setAttribute("role", "status");
    this.element = make("div", { className: "box" }, this.row, this.thumbnails, this.count);
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", caption);
    const input = make("input", { type: "file", multiple: true, accept: "image/*" });
    input.setAttribute("aria-label", `${caption}: choose files`);
    input.addEventListener("change", () => { this.add([...input.files]); input.value = ""; });
    this.row.append(make("span", { className: "file" }, "Choose pictures", input));
    if (hasCamera()) {
      this.button("Camera", `${caption}: use the camera`, () => takePictures((file) => this.add([file])));
    }
    this.empty = this.button("Clear", `${caption}: remove all`, () => {
      this.clear();
      input.focus(); // the focused button was removed
      this.cleared();
    });
    this.listen();
    this.show();
  }

  button(text, label, pressed) {
    const button = make("button", { type: "button", textContent: text });
    button.setAttribute("aria-label", label);
    button.addEventListener("click", pressed);
    this.row.append(button);
    return button;
  }

  listen() {
    const over = (event, yes) => { event.preventDefault(); this.element.classList.toggle("over", yes); };
    this.element.addEventListener("dragover", (event) => over(event, true));
    this.element.addEventListener("dragleave", (event) => over(event, false));
    this.element.addEventListener("drop", async (event) => {
      over(event, false);
      this.add(await dropped(event.dataTransfer));
    });
  }

  add(files) {
    const pictures = files.filter((file) => file.type.startsWith("image/"));
    this.refused = files.length - pictures.length;
    this.files.push(...pictures);
    this.show();
    if (pictures.length) this.added(pictures);
  }

  clear() {
    this.files = [];
    this.refused = 0;
    this.show();
  }

  /** Show the first few as thumbnails, and the count: a thousand large pictures would slow the page down. */
  show() {
    const first = this.files.slice(0, THUMBNAILS);
    for (const [file, image] of this.shown) {
      if (first.includes(file)) continue;
      URL.revokeObjectURL(image.src);
      this.shown.delete(file);
    }
    for (const file of first) if (!this.shown.has(file)) this.shown.set(file, thumbnail(file));
    this.thumbnails.replaceChildren(...first.map((file) => this.shown.get(file)));
    const hidden = this.files.length - first.length;
    const parts = [this.files.length ? counted(this.files.length, "picture") : EMPTY];
    if (hidden > 0) parts.push(`the first ${first.length} shown`);
    const kind = this.refused === 1 ? "a picture" : "pictures";
    if (this.refused) parts.push(`${counted(this.refused, "file")} skipped: not ${kind}`);
    this.count.textContent = parts.join(", ");
    this.empty.hidden = !this.files.length;
  }
}

/** A box for the pictures of a class, with a field for its name. */
export class ClassBox extends PictureBox {
  constructor(number, removed) {
    super(`Pictures of class ${number}`);
    this.name = make("input", { type: "text", placeholder: `class ${number}`, maxLength: 200, autocomplete: "off" });
    this.element.prepend(make("label", { className: "name" }, `Name of class ${number}`, this.name));
    this.button("Remove", `Remove class ${number}`, () => removed(this));
    this.fallback = `class ${number}`;
  }

  get label() {
    return this.name.value.trim() || this.fallback;
  }
}

function thumbnail(file) {
  return make("img", { src: URL.createObjectURL(file), alt: file.name, decoding: "async" });
}

/** All files of a drop, including those in folders. The entries must be read before the first await. */
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.());
  if (!entries.some((entry) => entry?.isDirectory)) return [...transfer.files];
  return (await Promise.all(entries.filter(Boolean).map(inside))).flat();
}

async function inside(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => { entry.file(resolve, reject); })];
  const reader = entry.createReader();
  const entries = [];
  for (let some; !some || some.length; entries.push(...some)) { // readEntries returns at most a hundred
    some = await new Promise((resolve, reject) => { reader.readEntries(resolve, reject); });
  }
  return (await Promise.all(entries.map(inside))).flat();
}
