// Renders the Markdown of cards: headings, paragraphs, lists, tables, code. HTML and links stay plain text.

import { make } from "./dom.js";

const ENTITIES = { amp: "&", lt: "<", gt: ">" };
const INLINE = /\\([!-/:-@[-`{-~])|`([^`]+)`|\*\*((?:\\.|[^\\])+?)\*\*|&(amp|lt|gt);/g;
const TABLE = /^\|.*\|$/;

/** The elements of a Markdown text. Headings are two levels lower, below those of the page. */
export function elements(text) {
  const lines = text.split(/\r?\n/);
  const made = [];
  while (lines.length) {
    const line = lines[0];
    const heading = /^(#{1,4}) (.*)$/.exec(line);
    if (line.startsWith("```")) made.push(code(lines));
    else if (TABLE.test(line)) made.push(table(taken(lines, (each) => TABLE.test(each))));
    else if (line.startsWith("* ")) made.push(bullets(taken(lines, (each) => each.startsWith("* "))));
    else if (!line.trim()) lines.shift();
    else if (heading) {
      lines.shift();
      made.push(make(`h${heading[1].length + 2}`, {}, ...inline(heading[2])));
    } else made.push(make("p", {}, ...inline(taken(lines, isText).join(" "))));
  }
  return made;
}

const isText = (line) => line.trim() && !/^(#{1,4} |\* |```)/.test(line) && !TABLE.test(line);

/** Remove and return the leading lines for which `is` holds, at least one. */
function taken(lines, is) {
  const end = lines.findIndex((line, index) => index > 0 && !is(line));
  return lines.splice(0, end < 0 ? lines.length : end);
}

function code(lines) {
  lines.shift();
  const end = lines.findIndex((line) => line.startsWith("```"));
  const body = lines.splice(0, end < 0 ? lines.length : end);
  lines.shift();
  return make("pre", { tabIndex: 0 }, make("code", { textContent: body.join("\n") }));
}

function bullets(lines) {
  return make("ul", {}, ...lines.map((line) => make("li", {}, ...inline(line.slice(2)))));
}

/** A table; a header without any text after its first column is omitted. */
function table(lines) {
  const [head, , ...rows] = lines.map((line) => line.slice(1, -1).split(/(?<!\\)\|/).map((each) => each.trim()));
  const body = make("tbody", {}, ...rows.map((row) => {
    const [first, ...others] = row.map(inline);
    return make("tr", {}, make("th", { scope: "row" }, ...first), ...others.map((each) => make("td", {}, ...each)));
  }));
  const named = head.slice(1).some(Boolean);
  const columns = head.map((each) => make("th", { scope: "col" }, ...inline(each)));
  return make("table", {}, ...(named ? [make("thead", {}, make("tr", {}, ...columns))] : []), body);
}

function inline(text) {
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(INLINE)) {
    const [whole, escaped, quoted, strong, entity] = match;
    parts.push(text.slice(from, match.index));
    if (quoted !== undefined) parts.push(make("code", { textContent: quoted }));
    else if (strong !== undefined) parts.push(make("strong", {}, ...inline(strong)));
    else parts.push(escaped ?? ENTITIES[entity]);
    from = match.index + whole.length;
  }
  return [...parts, text.slice(from)].filter((part) => part !== "");
}
