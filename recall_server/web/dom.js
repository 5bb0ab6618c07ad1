// The few helpers that every part of the page uses. Text is always set as text, never as markup.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Show a sentence in an error paragraph, or hide it where there is none. */
export function complain(id, error) {
  const place = $(id);
  place.textContent = error ? error.message ?? String(error) : "";
  place.hidden = !error;
}

export function bytes(count) {
  const units = ["bytes", "kB", "MB", "GB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) [count, unit] = [count / 1000, unit + 1];
  return `${unit ? count.toPrecision(3).replace(/\.?0+$/, "") : count} ${units[unit]}`;
}

export function percent(fraction, digits = 1) {
  return `${(100 * fraction).toFixed(digits)} %`;
}

/** "convnet:filters=64,depth=2" as people say it. */
export function network(text) {
  const [architecture, settings = ""] = text.split(":");
  const name = { convnet: "ConvNet", resnet: "ResNet", alexnet: "AlexNet", mlp: "MLP" }[architecture] ?? architecture;
  const values = Object.fromEntries(settings.split(",").map((each) => each.split("=")));
  return values.filters ? `${name}, ${values.filters} wide` : values.hidden ? `${name}, ${values.hidden} units` : name;
}
