// The panel of one cell beside the gallery: its own size, brightness and contrast, and what the ensemble thought of it.

import { makeBar } from "./bars.js";
import { element } from "./element.js";
import { makeInspection } from "./inspection.js";
import { text } from "./words.js";

const MOST_BARS = 6;

export function makePanel(byLabel, { isBlind }) {
  const panel = document.getElementById("panel");
  const button = document.getElementById("show-panel");
  const image = document.getElementById("native");
  const view = document.getElementById("view");
  const facts = document.getElementById("facts");
  const sliders = ["zoom", "brightness", "contrast"].map((name) => document.getElementById(name));
  const heat = document.getElementById("heat");
  const inspection = makeInspection(byLabel);
  let shown = null;
  let timer;

  function adjust() {
    const [zoom, brightness, contrast] = sliders.map((slider) => Number(slider.value));
    image.style.width = heat.style.width = `${image.naturalWidth * zoom}px`;
    image.style.filter = `brightness(${brightness}%) contrast(${contrast}%)`;
  }

  function show(cell) {
    if (panel.hidden || !cell) return;
    if (shown !== cell.id) {
      clearTimeout(timer); // passing over cells loads none of them
      timer = setTimeout(() => { image.src = `/cells/${cell.id}/image?v=${cell.sha256.slice(0, 16)}`; }, 80);
      shown = cell.id;
    }
    facts.replaceChildren(...describe(cell));
    if (isBlind() && !cell.decided) inspection.clear();
    else inspection.show(cell);
  }

  function describe(cell) {
    const name = (code) => byLabel.get(code)?.name ?? code;
    const lines = element("dl", "about");
    const add = (word, value) => { if (value) lines.append(element("dt", "", word), element("dd", "", value)); };
    add(text("image"), cell.image);
    if (isBlind() && !cell.decided) return [lines, element("p", "note", text("The suggestion is hidden."))];
    add(text("label"), name(cell.label));
    if (cell.label !== cell.predicted) add(text("predicted"), name(cell.predicted));
    if (cell.reason) add(text("because"), text(cell.reason));
    if (cell.set) add(text("prediction set"), cell.set.split("|").join(", "));
    if (cell.agreement !== null && cell.agreement !== undefined) add(text("members that agree"), `${Math.round(100 * cell.agreement)} %`);
    add(text("note"), cell.note);
    const likely = Object.entries(cell.proba ?? {}).sort((a, b) => b[1] - a[1]).slice(0, MOST_BARS);
    const bars = element("div", "bars");
    for (const [code, share] of likely) bars.append(...makeBar(code, byLabel.get(code)?.colour, share));
    return [lines, bars];
  }

  function toggle(cell) {
    panel.hidden = !panel.hidden;
    button.setAttribute("aria-expanded", String(!panel.hidden));
    document.body.classList.toggle("has-panel", !panel.hidden);
    show(cell);
  }

  image.addEventListener("load", () => {
    if (!view.dataset.fitted) { // the first cell chooses the zoom: as large as fits
      const fit = Math.min(view.clientWidth / image.naturalWidth, view.clientHeight / image.naturalHeight);
      sliders[0].value = Math.floor(4 * fit) / 4;
      view.dataset.fitted = "1";
    }
    adjust();
  });
  for (const slider of sliders) slider.addEventListener("input", adjust);
  document.getElementById("reset").addEventListener("click", () => {
    sliders[1].value = sliders[2].value = 100;
    adjust();
  });
  return { show, toggle };
}
