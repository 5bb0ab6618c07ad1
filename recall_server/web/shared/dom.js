// Helpers for all parts of the page. Text is always set as text, never as markup.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Show an error in this paragraph, or hide the paragraph if there is none. */
export function complain(id, error) {
  const place = $(id);
  place.textContent = error ? error.message ?? String(error) : "";
  place.hidden = !error;
}

/** Let the browser download a file. */
export function save(blob, name) {
  const address = URL.createObjectURL(blob);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

export function bytes(count) {
  const units = ["bytes", "kB", "MB", "GB"];
  let unit = 0;
  while (count >= 999.5 && unit < units.length - 1) [count, unit] = [count / 1000, unit + 1];
  return `${unit ? Number(count.toPrecision(3)) : count} ${units[unit]}`;
}

export function percent(fraction, digits = 1) {
  return `${(100 * fraction).toFixed(digits)} %`;
}

export function number(count) {
  return count.toLocaleString("en");
}

/** "1 picture", "1,000 pictures" */
export function counted(count, thing) {
  return `${number(count)} ${thing}${count === 1 ? "" : "s"}`;
}

/** "a", "a and b", "a, b and c"; of many, "a, b, c, d, e, f and 4 more" */
export function list(names, most = 6) {
  if (names.length < 2) return names.join("");
  if (names.length > most + 1) return `${names.slice(0, most).join(", ")} and ${number(names.length - most)} more`;
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** "convnet:filters=64,depth=2,shrink=2" for people: "ConvNet, 64 filters, at 1/2 of the size". */
export function network(text) {
  const [architecture, settings = ""] = text.split(":");
  const name = { convnet: "ConvNet", resnet: "ResNet", alexnet: "AlexNet", mlp: "MLP" }[architecture] ?? architecture;
  const values = Object.fromEntries(settings.split(",").map((each) => each.split("=")));
  const size = values.filters ? `, ${values.filters} filters` : values.hidden ? `, ${values.hidden} units` : "";
  return `${name}${size}${values.shrink ? `, at 1/${values.shrink} of the size` : ""}`;
}
