// The card of a memory or a classifier: Markdown from the server, shown in a dialog and saved as a file.

import { $, complain, save } from "./dom.js";
import { elements } from "./markdown.js";
import { ask, read } from "./server.js";

/** Fetch the card at this path and show it; `name` is used for the title and the file. */
export async function showCard(path, name) {
  complain("card-error", null);
  $("card-title").textContent = `Card of ${name}`;
  $("card-text").replaceChildren("Loading…");
  $("card-save").disabled = true;
  $("card-view").showModal();
  try {
    const answer = await ask(path);
    const text = await read(answer, () => answer.text());
    $("card-text").replaceChildren(...elements(text));
    $("card-save").disabled = false;
    $("card-save").onclick = () => save(new Blob([text], { type: "text/markdown" }), `${name}.md`);
  } catch (error) {
    $("card-text").replaceChildren();
    complain("card-error", error);
  }
}

$("card-close").addEventListener("click", () => $("card-view").close());
