// The uncertainty of a share of a few pictures.

import { percent } from "./dom.js";

/** The 95 % interval of a share of so many pictures (Wilson, 1927), as the server computes it. */
export function wilson(share, pictures) {
  const deviations = 1.96 ** 2 / pictures;
  const middle = (share + deviations / 2) / (1 + deviations);
  const half = Math.sqrt(share * (1 - share) * deviations + deviations ** 2 / 4) / (1 + deviations);
  return { low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}

/** "53 % to 98 %" */
export function interval({ low, high }) {
  return `${percent(low, 0)} to ${percent(high, 0)}`;
}
