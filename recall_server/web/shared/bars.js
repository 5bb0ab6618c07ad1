// A table of names with a bar and a percentage each.

import { make, percent } from "./dom.js";

/** A table of [name, share] pairs. */
export function bars(shares, className = "bars") {
  const rows = shares.map(([name, share]) => make(
    "tr",
    {},
    make("th", { scope: "row", textContent: name }),
    make("td", { className: "bar" }, bar(share)),
    make("td", { textContent: percent(share, 0) }),
  ));
  return make("table", { className }, make("tbody", {}, ...rows));
}

/** A bar of this share, 0 to 1, for beside the number. */
export function bar(value) {
  const meter = make("meter", { value });
  meter.setAttribute("aria-hidden", "true"); // redundant with the number beside it
  return meter;
}
