// Boxes for pictures: dropped (folders too), pasted, chosen as files or as a folder, or taken with the camera.

import { hasCamera } from "./camera.js";
import { takePictures } from "./camera_dialog.js";
import { counted, make } from "./dom.js";
import { dropped } from "./dropped.js";

const THUMBNAILS = 12;
// Nothing is dropped by touch.
const EMPTY = matchMedia("(hover: hover)").matches ? "Drop or paste pictures here" : "No pictures yet";

const nobody = () => {};
let pointed = null; // the box that has the focus or is under the pointer: pasted pictures go into it

/**
 * A box for pictures. `added` is called with new pictures, `cleared` when all were removed. Files that are not pictures
 * are skipped and counted. With `removable`, a thumbnail is a button that removes its picture.
 */
export class PictureBox {
  constructor(caption, { added = nobody, cleared = nobody, removable = false } = {}) {
    this.files = [];
    this.shown = new Map(); // file -> its thumbnail
    this.refused = 0;
    this.added = added;
    this.cleared = cleared;
    this.removable = removable;
    this.row = make("div", { className: "row" });
    this.thumbnails = make("div", { className: "thumbs" });
    this.count = make("p", { className: "note" });
    this.count.setAttribute("role", "status");
    this.element = make("div", { className: "box" }, this.row, this.thumbnails, this.count);
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", caption);
    this.input = this.chooser("Pictures", `${caption}: choose files`, { multiple: true, accept: "image/*" });
    this.chooser("Folder", `${caption}: choose a folder`, { webkitdirectory: true });
    if (hasCamera()) {
      this.button("Camera", `${caption}: use the camera`, () => takePictures((file) => this.add([file])));
    }
    this.empty = this.button("Clear", `${caption}: remove all`, () => {
      this.clear();
      this.input.focus(); // the focused button was removed
      this.cleared();
    });
    this.listen();
    this.show();
  }

  chooser(text, label, properties) {
    const input = make("input", { type: "file", ...properties });
    input.setAttribute("aria-label", label);
    input.addEventListener("change", () => { this.add([...input.files]); input.value = ""; });
    this.row.append(make("span", { className: "file" }, text, input));
    return input;
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
    for (const kind of ["pointerenter", "focusin"]) this.element.addEventListener(kind, () => { pointed = this; });
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
    for (const [file, thumbnail] of this.shown) {
      if (first.includes(file)) continue;
      URL.revokeObjectURL(thumbnail.dataset.source);
      this.shown.delete(file);
    }
    for (const file of first) if (!this.shown.has(file)) this.shown.set(file, this.thumbnail(file));
    this.thumbnails.replaceChildren(...first.map((file) => this.shown.get(file)));
    const hidden = this.files.length - first.length;
    const parts = [this.files.length ? counted(this.files.length, "picture") : EMPTY];
    if (hidden > 0) parts.push(`the first ${first.length} shown`);
    const kind = this.refused === 1 ? "a picture" : "pictures";
    if (this.refused) parts.push(`${counted(this.refused, "file")} skipped: not ${kind}`);
    this.count.textContent = parts.join(", ");
    this.empty.hidden = !this.files.length;
  }

  thumbnail(file) {
    const image = make("img", { src: URL.createObjectURL(file), alt: file.name, decoding: "async" });
    image.dataset.source = image.src;
    if (!this.removable) return image;
    const button = make("button", { type: "button", className: "thumb", title: "Remove this picture" }, image);
    button.setAttribute("aria-label", `Remove ${file.name}`);
    button.dataset.source = image.src;
    button.addEventListener("click", () => {
      this.files.splice(this.files.indexOf(file), 1);
      this.show();
      (this.thumbnails.firstChild ?? this.input).focus(); // the focused button was removed
    });
    return button;
  }
}

document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (!files.length || !pointed?.element.isConnected) return;
  event.preventDefault();
  pointed.add(files);
});
