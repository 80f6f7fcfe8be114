// What the networks say of the cell in the panel: the vote of each, where they looked, and the labelled cells most like
// it. Asked for a moment after a cell gets the focus, so that passing over cells asks for none of them.

import { element } from "./element.js";
import { text } from "./words.js";

const WAIT_MS = 250;
const [AGAIN_MS, MOST_TIMES] = [3000, 20]; // while the networks are being loaded, or are busy

export function makeInspection(byLabel) {
  const place = document.getElementById("networks");
  const heat = document.getElementById("heat");
  const wantsHeat = document.getElementById("show-heat");
  let shown = null; // the cell asked about
  let timer;

  function clear() {
    clearTimeout(timer);
    shown = null;
    heat.hidden = true;
    heat.removeAttribute("src");
    place.replaceChildren();
  }

  function show(cell) {
    if (shown === cell.id) return;
    clear();
    if (!cell.best) return;
    shown = cell.id;
    timer = setTimeout(() => ask(cell), WAIT_MS);
  }

  async function ask(cell, times = 1) {
    const response = await fetch(`/api/cells/${cell.id}/inspection`).catch(() => null);
    if (shown !== cell.id) return;
    if (!response) { place.replaceChildren(element("p", "note", text("The program does not answer."))); return; }
    const answer = await response.json();
    if (shown !== cell.id) return;
    if (!response.ok) {
      place.replaceChildren(element("p", "note", text(answer.detail)));
      if ([429, 503].includes(response.status) && times < MOST_TIMES) timer = setTimeout(() => ask(cell, times + 1), AGAIN_MS);
      return;
    }
    place.replaceChildren(...describe(cell, answer));
    showHeat(cell);
  }

  function showHeat(cell) {
    heat.hidden = !wantsHeat.checked || shown === null;
    if (!heat.hidden) heat.src = `/cells/${cell.id}/heat?v=${cell.sha256.slice(0, 16)}`;
    wantsHeat.onchange = () => showHeat(cell);
  }

  function describe(cell, answer) {
    const name = (code) => byLabel.get(code)?.name ?? code;
    const made = [];
    if (wantsHeat.checked) {
      made.push(element("p", "note", text("Orange: places that raised the probability of {name}. It shows where the networks looked, not why.", { name: name(answer.heat_of) })));
    }
    if (answer.nearest.length) {
      made.push(element("h3", "", text("Labelled cells most like it")));
      const row = element("ul", "nearest");
      answer.nearest.forEach((one, number) => {
        const item = element("li");
        const image = element("img");
        image.src = `/cells/${cell.id}/nearest/${number}?v=${cell.sha256.slice(0, 16)}`;
        image.alt = name(one.label);
        image.addEventListener("error", () => image.replaceWith(element("span", "lost", text("cannot be shown"))));
        item.append(image, element("span", "code", one.label));
        item.title = `${name(one.label)}, ${one.similarity.toFixed(2)}`;
        row.append(item);
      });
      made.push(row);
    }
    made.push(element("h3", "", text("Votes of the networks")));
    const votes = element("div", "votes");
    for (const vote of answer.votes) {
      votes.append(element("span", "", vote.network), element("span", "code", vote.label), element("span", "num", `${Math.round(100 * vote.proba)} %`));
    }
    made.push(votes);
    return made;
  }

  return { show, clear };
}
