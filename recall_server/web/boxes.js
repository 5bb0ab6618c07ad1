// Boxes that pictures go into: dropped, chosen as files, or taken with the camera.

import { $, complain, make } from "./dom.js";

const THUMBNAILS = 12;

/** A place for pictures; `changed` hears of every addition. Files that are no pictures are said so and left out. */
export class PictureBox {
  constructor(caption, changed) {
    this.files = [];
    this.changed = changed;
    this.row = make("div", { className: "row" });
    this.thumbnails = make("div", { className: "thumbs" });
    this.count = make("p", { className: "note" });
    this.count.setAttribute("role", "status");
    this.element = make("div", { className: "box" }, this.row, this.thumbnails, this.count);
    const input = make("input", { type: "file", multiple: true, accept: "image/*" });
    input.setAttribute("aria-label", caption);
    input.addEventListener("change", () => { this.add([...input.files]); input.value = ""; });
    this.row.append(make("span", { className: "file" }, "Choose pictures", input));
    if (navigator.mediaDevices?.getUserMedia) {
      const camera = make("button", { type: "button", textContent: "Camera" });
      camera.setAttribute("aria-label", `${caption}: take them with the camera`);
      camera.addEventListener("click", () => takePictures(this));
      this.row.append(camera);
    }
    const clear = make("button", { type: "button", textContent: "Clear" });
    clear.setAttribute("aria-label", `${caption}: take all out again`);
    clear.addEventListener("click", () => this.clear());
    this.row.append(clear);
    this.listen();
    this.show();
  }

  listen() {
    const over = (event, yes) => { event.preventDefault(); this.element.classList.toggle("over", yes); };
    this.element.addEventListener("dragover", (event) => over(event, true));
    this.element.addEventListener("dragleave", (event) => over(event, false));
    this.element.addEventListener("drop", (event) => { over(event, false); this.add([...event.dataTransfer.files]); });
  }

  add(files) {
    const pictures = files.filter((file) => file.type.startsWith("image/"));
    this.refused = files.length - pictures.length;
    this.files.push(...pictures);
    this.show();
    this.changed(pictures);
  }

  clear() {
    this.files = [];
    this.refused = 0;
    this.show();
  }

  show() {
    for (const image of this.thumbnails.children) URL.revokeObjectURL(image.src);
    const shown = this.files.slice(0, THUMBNAILS);
    this.thumbnails.replaceChildren(...shown.map((file) => make("img", { src: URL.createObjectURL(file), alt: file.name })));
    const hidden = this.files.length - shown.length;
    const parts = [this.files.length === 1 ? "1 picture" : `${this.files.length} pictures`];
    if (hidden > 0) parts.push(`${hidden} of them not shown`);
    if (this.refused) parts.push(`${this.refused} left out: no ${this.refused === 1 ? "picture" : "pictures"}`);
    this.count.textContent = parts.join(", ");
  }
}

/** A box with the name of its class. */
export class ClassBox extends PictureBox {
  constructor(number, removed) {
    super(`Pictures of class ${number}`, () => {});
    this.name = make("input", { type: "text", placeholder: `class ${number}`, maxLength: 200, autocomplete: "off" });
    const remove = make("button", { type: "button", textContent: "Remove" });
    remove.setAttribute("aria-label", `Remove class ${number}`);
    remove.addEventListener("click", () => removed(this));
    this.row.append(remove);
    this.element.prepend(make("label", { className: "name" }, `Class ${number}`, this.name));
    this.fallback = `class ${number}`;
  }

  get label() {
    return this.name.value.trim() || this.fallback;
  }
}

async function takePictures(box) {
  const [dialog, video] = [$("camera"), $("viewfinder")];
  let stream = null;
  let taken = 0;
  const stop = () => { for (const track of stream?.getTracks() ?? []) track.stop(); video.srcObject = null; };
  complain("camera-error", null);
  $("snapped").textContent = "";
  $("snap").onclick = async () => {
    if (!video.videoWidth) return;
    const canvas = make("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
    box.add([new File([blob], `camera-${Date.now()}.jpg`, { type: "image/jpeg" })]);
    $("snapped").textContent = `${++taken} taken`;
  };
  $("camera-done").onclick = () => dialog.close();
  dialog.onclose = stop;
  dialog.showModal();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    if (!dialog.open) return stop();
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    complain("camera-error", `The camera cannot be used: ${error.message || error.name}.`);
  }
}
