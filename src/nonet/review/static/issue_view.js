// One doubtful label: the cell, both classes with their probabilities, and the cells of both that look most like it.

import { makeBar } from "./bars.js";
import { coloured, element } from "./element.js";
import { text } from "./words.js";

export function makeIssueView(classes) {
  const byCode = new Map(classes.map((one) => [one.code, one]));
  const find = (id) => document.getElementById(id);
  const name = (code) => byCode.get(code)?.name ?? code;
  let shown = null;
  let preloaded = [];

  const colour = (code) => byCode.get(code)?.colour;
  const bar = (code, share) => makeBar(code, colour(code), share);

  function picture(figure, address, words) {
    const image = figure.querySelector("img");
    const why = figure.querySelector(".why");
    image.onload = image.onerror = null;
    why.hidden = true;
    image.hidden = false;
    image.alt = words;
    image.onerror = () => { image.hidden = true; why.hidden = false; };
    image.src = address;
  }

  function tile(neighbour, code) {
    const made = element("figure", "tile-of");
    made.title = neighbour.image_id;
    const image = element("img");
    made.append(image, element("span", "why", text("not found")));
    picture(made, neighbour.picture, text("{label}, held-out cell", { label: name(code) }));
    return made;
  }

  function showNeighbours(which, code, neighbours) {
    const section = find(`near-${which}`);
    const words = which === "given" ? text("Given: {label}", { label: name(code) }) : text("Suggested: {label}", { label: name(code) });
    section.querySelector("h3").replaceChildren(coloured(element("span", "swatch"), colour(code)), words);
    const tiles = neighbours.map((one) => tile(one, code));
    section.querySelector(".strip").replaceChildren(...(tiles.length ? tiles : [element("p", "note", text("No similar cell of this class is listed."))]));
  }

  function showDecision(item) {
    const line = find("decision");
    line.hidden = !item.decision;
    if (!item.decision) return;
    const words = {
      keep: text("Kept as {label}", { label: name(item.given) }),
      relabel: text("Relabelled: {label}", { label: name(item.label) }),
      unsure: text("Unsure"),
      drop: text("Dropped"),
    }[item.decision];
    const by = [item.who, item.at.slice(0, 16).replace("T", " "), item.note && `“${item.note}”`].filter(Boolean).join(", ");
    line.replaceChildren(element("b", "", words), by ? ` · ${by}` : "");
  }

  function show(item) {
    showDecision(item);
    for (const button of document.querySelectorAll("#letters button")) button.classList.toggle("is-label", button.dataset.code === (item.decision === "relabel" ? item.label : item.decision === "keep" ? item.given : ""));
    if (shown === item) return;
    shown = item;
    picture(find("cell"), item.picture, text("Cell labelled {given}, suggested {suggested}", { given: name(item.given), suggested: name(item.suggested) }));
    find("pair").replaceChildren(element("span", "", name(item.given)), " → ", element("span", "", name(item.suggested)));
    find("bars").replaceChildren(...bar(item.given, item.given_confidence), ...bar(item.suggested, item.suggested_confidence));
    const facts = [[text("patient"), item.patient], [text("source"), item.source], [text("image"), item.image_id]];
    find("about").replaceChildren(...facts.filter(([, value]) => value).flatMap(([word, value]) => [element("dt", "", word), element("dd", "", value)]));
    showNeighbours("given", item.given, item.given_neighbours);
    showNeighbours("suggested", item.suggested, item.suggested_neighbours);
    const word = (decision, words) => { const span = document.querySelector(`[data-decision=${decision}] span`); if (span) span.textContent = words; };
    word("agree", text("Relabel {label}", { label: item.suggested }));
    word("keep", text("Keep {label}", { label: item.given }));
  }

  // Pictures of the next ones, so that a key need not wait for them.
  function preload(items) {
    const addresses = items.flatMap((item) => [item.picture, ...item.given_neighbours.map((one) => one.picture), ...item.suggested_neighbours.map((one) => one.picture)]);
    const known = new Map(preloaded.map((one) => [one.dataset.address, one]));
    preloaded = addresses.map((address) => known.get(address) ?? load(address));
  }

  function load(address) {
    const image = new Image();
    image.dataset.address = address;
    image.src = address;
    return image;
  }

  return { show, preload };
}
