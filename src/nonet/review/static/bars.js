// The probability of a class as a bar: its code, the bar, and the number, for a grid of three columns.

import { coloured, element } from "./element.js";

function percent(share) {
  if (share === null) return "–";
  return `${share > 0.99 && share < 1 ? ">99" : share < 0.01 && share > 0 ? "<1" : Math.round(100 * share)} %`;
}

export function makeBar(code, colour, share) {
  const bar = coloured(element("span", "bar-of"), colour);
  bar.style.width = `${Math.max(100 * (share ?? 0), 0.5)}%`;
  const track = element("span", "track");
  track.append(bar);
  return [element("span", "code", code), track, element("span", "num", percent(share))];
}
