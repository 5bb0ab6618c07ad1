// The card of a class: its name, its pictures, and what the memories know of the name.

import { make } from "../shared/dom.js";
import { PictureBox } from "../shared/picture_box.js";
import { meaningOf, recalledFor } from "./known_names.js";

/** A box for the pictures of a class, with a field for its name. A name that a memory knows needs no pictures. */
export class ClassBox extends PictureBox {
  /**
   * `removed` is called when the card is to go, `named` when its name was changed, and `entered` when Enter was pressed
   * after the name.
   */
  constructor(number, { removed, named, entered }) {
    super(`Pictures of class ${number}`, { removable: true });
    this.fallback = `class ${number}`;
    this.name = make("input", { type: "text", placeholder: this.fallback, maxLength: 200, autocomplete: "off" });
    this.name.setAttribute("list", "known-names");
    this.note = make("p", { className: "note" });
    this.note.setAttribute("role", "status");
    this.remembered = make("div", { className: "strip" });
    this.both = make("input", { type: "checkbox" });
    this.bothLine = make("label", { className: "note", hidden: true }, this.both, " Use what the memory knows, too");
    const label = make("label", { className: "name" }, `Name of class ${number}`, this.name);
    this.element.prepend(label, this.note, this.bothLine, this.remembered);
    this.button("Remove", `Remove class ${number}`, () => removed(this)).className = "remove";
    this.name.addEventListener("input", () => this.show());
    this.name.addEventListener("change", () => { named(this); this.show(); });
    this.name.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault(); // Enter is for the name; the button starts the training
      named(this);
      this.show();
      entered(this);
    });
    this.show();
  }

  get typed() {
    return this.name.value.trim();
  }

  get label() {
    return this.typed || this.fallback;
  }

  /** Whether the class is to be learned from a memory: in place of pictures, or besides them. */
  get isNamed() {
    return this.files.length ? !this.bothLine.hidden && this.both.checked : Boolean(this.typed);
  }

  get isEmpty() {
    return !this.typed && !this.files.length;
  }

  show() {
    super.show();
    if (!this.name) return; // called by the constructor of the base class
    const meaning = meaningOf(this.typed);
    this.note.textContent = this.remark(meaning);
    this.bothLine.hidden = !this.files.length || !meaning?.joins;
    this.remember((!this.files.length && meaning?.source) || null);
  }

  /** What the memories know of the name, and what the classifier learns from. */
  remark(meaning) {
    if (!this.typed) return "";
    const both = "A memory knows this name, too. The classifier learns from your pictures.";
    if (this.files.length) return meaning ? both : "";
    return meaning?.text ?? "No memory knows this name: add a few pictures.";
  }

  /** Show what a memory of images recalls for the name; nothing for other memories. */
  async remember(source) {
    const wanted = source && `${source.memory.name}:${source.label}`;
    if (this.remembering === wanted) return;
    this.remembering = wanted;
    this.remembered.replaceChildren();
    if (!wanted) return;
    const images = await recalledFor(source).catch(() => []); // decoration: errors are ignored
    if (this.remembering !== wanted) return;
    this.remembered.replaceChildren(...images.map((src) => make("img", { src, alt: "" })));
    this.remembered.title = `As the memory ${source.memory.name} recalls it`;
  }
}
