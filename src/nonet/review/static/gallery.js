// The gallery: cells by class, moved by one key each. What a key does is painted at once; `saving.js` stores it.

import { follow } from "./arrows.js";
import { coloured, element } from "./element.js";
import { say } from "./message.js";
import { makePanel } from "./panel.js";
import { addPointer } from "./pointer.js";
import { makeSaver } from "./saving.js";
import { plural, text } from "./words.js";

const gallery = document.getElementById("gallery");
const { case: caseId, unidentified: UNIDENTIFIED } = gallery.dataset;
const { locked } = gallery.dataset; // why nothing can be changed, or ""
const labels = JSON.parse(gallery.dataset.labels);
const order = JSON.parse(gallery.dataset.order);
const byLabel = new Map(labels.map((label) => [label.code, label]));
const byLetter = new Map(labels.filter((label) => label.letter).map((label) => [label.letter, label.code]));
const WHY = {
  signed: () => text("The case is signed. Reopen it on its differential to change it."),
  reader: () => text("As a reader, you can look at these cells, but not change them."),
};
const BLIND = ""; // the section of cells whose suggestion is hidden

const cells = new Map(); // id → cell as it is shown, with its tile, and `stored`: as the program has it
const sections = new Map(); // label → {element, grid, count, accept}
const selection = new Set(); // ids
let current = null; // id of the cell with the focus
let anchor = null; // where a selection with Shift began
let isBlind = false;
let numWaiting = 0;
let isLeaving = false; // for the differential, once all is saved
const nextPage = document.getElementById("next");

const panel = makePanel(byLabel, { isBlind: () => isBlind });
const saver = makeSaver({
  read(answer) {
    const told = (answer.cells ?? []).filter((one) => cells.has(one.id));
    for (const { id, label, decided, version } of told) cells.get(id).stored = { label, decided, version };
    return told.map((one) => cells.get(one.id));
  },
  show: (cell, { label, decided }) => change(cell, label, decided),
  problem: (words, isLoggedOut) => { isLeaving = false; say(words, isLoggedOut); },
  waiting: (num) => {
    numWaiting = num;
    count();
    if (!num && isLeaving) nextPage.click();
  },
});

// --- Drawing -----------------------------------------------------------------------------------------------------

function makeSection(code) {
  const label = code === BLIND ? { name: text("to label"), letter: "" } : byLabel.get(code);
  const made = element("section", "class");
  made.hidden = true;
  made.dataset.code = code;
  const head = element("h2", "head");
  const number = element("span", "count", "0");
  if (code !== BLIND) head.append(coloured(element("span", "swatch"), label.colour));
  if (code !== BLIND && code !== UNIDENTIFIED) head.append(element("span", "code", code));
  head.append(element("span", "name", label.name));
  if (label.letter) head.append(element("kbd", "", label.letter.toUpperCase()));
  head.append(number);
  const accept = element("button", "accept", "");
  accept.type = "button";
  accept.addEventListener("click", () => acceptRest(code));
  if (code !== BLIND && code !== UNIDENTIFIED && !locked) head.append(accept);
  const grid = element("div", "grid");
  grid.setAttribute("role", "listbox");
  grid.setAttribute("aria-multiselectable", "true");
  grid.setAttribute("aria-label", label.name);
  made.append(head, grid);
  if (code !== BLIND) {
    made.addEventListener("dragover", (event) => { event.preventDefault(); made.classList.add("over"); });
    made.addEventListener("dragleave", () => made.classList.remove("over"));
    made.addEventListener("drop", (event) => { event.preventDefault(); made.classList.remove("over"); move(code); });
  }
  sections.set(code, { element: made, grid, count: number, accept });
  gallery.append(made);
}

function makeTile(cell) {
  const tile = element("div", "tile");
  tile.id = `cell-${cell.id}`;
  tile.dataset.id = cell.id;
  tile.setAttribute("role", "option");
  tile.setAttribute("aria-selected", "false");
  tile.tabIndex = -1;
  tile.draggable = !locked;
  const image = element("img");
  image.alt = "";
  image.loading = "lazy";
  image.decoding = "async";
  image.draggable = false;
  image.addEventListener("error", () => tile.classList.add("broken"));
  image.src = `/cells/${cell.id}/thumbnail?v=${cell.sha256.slice(0, 16)}`;
  tile.append(image, element("span", "mark"));
  cell.tile = tile;
  refresh(cell);
}

const letterOf = (code) => (byLabel.get(code)?.letter || code).toUpperCase();
const suggestion = (cell) => (cell.label === UNIDENTIFIED && cell.reason === "doubtful" ? cell.best : "");

function refresh(cell) {
  const isHidden = isBlind && !cell.decided;
  const label = byLabel.get(cell.label);
  const isChanged = cell.label !== cell.predicted;
  cell.tile.classList.toggle("changed", isChanged && !isHidden);
  cell.tile.classList.toggle("decided", cell.decided);
  const mark = cell.tile.lastChild;
  const guess = suggestion(cell);
  mark.textContent = isHidden ? "" : guess ? `${letterOf(guess)}?` : cell.label === UNIDENTIFIED ? "?" : letterOf(cell.label);
  coloured(mark, label?.colour);
  const share = cell.confidence === null || cell.confidence === undefined ? "" : `, ${Math.round(100 * cell.confidence)} %`;
  const words = [label?.name ?? cell.label];
  if (guess) words.push(text("perhaps {name}", { name: `${byLabel.get(guess)?.name ?? guess}${share}` }));
  else if (isChanged) words.push(text("predicted {name}", { name: `${byLabel.get(cell.predicted)?.name ?? cell.predicted}${share}` }));
  else words[0] += share;
  if (cell.decided) words.push(text("decided"));
  cell.tile.setAttribute("aria-label", isHidden ? text("cell, suggestion hidden") : words.join(", "));
  cell.tile.title = isHidden ? "" : words.join(", ");
}

// Doubtful cells first: most errors are among them. Unidentified cells: those that look alike stand together. Cells
// that were moved here stand last, and cells without a suggestion in their own order.
function compare(a, b) {
  if (isBlind && !a.decided && !b.decided) return a.id - b.id;
  const moved = Number(a.label !== a.predicted) - Number(b.label !== b.predicted);
  const guess = a.label === UNIDENTIFIED && !moved ? (a.best ?? "").localeCompare(b.best ?? "") : 0;
  return moved || guess || (a.confidence ?? 0) - (b.confidence ?? 0) || a.id - b.id;
}

const codeOf = (cell) => (isBlind && !cell.decided ? BLIND : sections.has(cell.label) ? cell.label : UNIDENTIFIED);

function place(cell) {
  const { grid, element: section } = sections.get(codeOf(cell));
  let after = grid.lastElementChild;
  if (after === cell.tile) after = after.previousElementSibling;
  while (after && compare(cells.get(Number(after.dataset.id)), cell) > 0) after = after.previousElementSibling;
  if (after) after.after(cell.tile); else grid.prepend(cell.tile);
  section.hidden = false;
}

function change(cell, label, decided) {
  if (cell.label === label && cell.decided === decided) return;
  const before = codeOf(cell);
  const hadMoved = cell.label !== label;
  cell.label = label;
  cell.decided = decided;
  if (hadMoved || codeOf(cell) !== before) place(cell);
  refresh(cell);
  if (cell.id === current) panel.show(cell);
}

const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };

function count() {
  const numbers = new Map();
  let [numUnidentified, numChanged, numLeft] = [0, 0, 0];
  for (const cell of cells.values()) {
    const code = codeOf(cell);
    const number = numbers.get(code) ?? { all: 0, left: 0 };
    number.all += 1;
    if (!cell.decided) { number.left += 1; numLeft += 1; }
    numbers.set(code, number);
    if (cell.label === UNIDENTIFIED) numUnidentified += 1;
    if (cell.label !== cell.predicted) numChanged += 1;
  }
  for (const [code, section] of sections) {
    const { all, left } = numbers.get(code) ?? { all: 0, left: 0 };
    setText(section.count, String(all));
    section.element.hidden = all === 0;
    setText(section.accept, left === all ? text("Accept all {num}", { num: left }) : left ? text("Accept the other {num}", { num: left }) : "");
    section.accept.hidden = left === 0;
  }
  const words = [plural(cells.size, "{num} cell", "{num} cells"), text("{num} unidentified", { num: numUnidentified })];
  if (!isBlind) words.push(text("{num} changed", { num: numChanged }));
  words.push(numLeft ? text("{num} to look at", { num: numLeft }) : text("all looked at"));
  if (numWaiting) words.push(text("saving"));
  setText(document.getElementById("left"), words.join(" · "));
  document.getElementById("done").value = cells.size ? 1 - numLeft / cells.size : 1;
}

// --- Focus and selection -----------------------------------------------------------------------------------------

const tilesInOrder = () => [...gallery.querySelectorAll("section:not([hidden]) .tile")];
const idOf = (tile) => Number(tile.dataset.id);
const isLeft = (tile) => !cells.get(idOf(tile)).decided;

function focus(id, { select = false, scroll = true } = {}) {
  if (id === null || !cells.has(id)) return;
  const last = cells.get(current)?.tile;
  if (last) { last.classList.remove("current"); last.tabIndex = -1; }
  current = id;
  const { tile } = cells.get(id);
  tile.classList.add("current");
  tile.tabIndex = 0;
  tile.focus({ preventScroll: true });
  if (scroll) tile.scrollIntoView({ block: "nearest" });
  if (!select) { clearSelection(); anchor = id; }
  panel.show(cells.get(id));
}

function clearSelection() {
  for (const id of [...selection]) mark(id, false);
}

function mark(id, on) {
  cells.get(id).tile.classList.toggle("selected", on);
  cells.get(id).tile.setAttribute("aria-selected", String(on));
  if (on) selection.add(id); else selection.delete(id);
}

function selectTo(id) {
  const tiles = tilesInOrder();
  const [from, to] = [anchor ?? id, id].map((each) => tiles.indexOf(cells.get(each).tile)).sort((a, b) => a - b);
  clearSelection();
  for (const tile of tiles.slice(from, to + 1)) mark(idOf(tile), true);
  focus(id, { select: true });
}

// The cell that gets the focus once these are decided: the next in the class, else the next class with cells left.
function nextAfter(ids) {
  const gone = new Set(ids);
  const tiles = tilesInOrder();
  const index = tiles.indexOf(cells.get(ids[ids.length - 1]).tile);
  const grid = tiles[index].parentElement;
  const others = [...tiles.slice(index + 1), ...tiles.slice(0, index).reverse()].filter((tile) => !gone.has(idOf(tile)));
  const next = others.find((tile) => tile.parentElement === grid) ?? others.find(isLeft) ?? others[0];
  return next ? idOf(next) : null;
}

function chosen() {
  if (!selection.size) return current === null ? [] : [current];
  return tilesInOrder().map(idOf).filter((id) => selection.has(id));
}

// --- Deciding ----------------------------------------------------------------------------------------------------

function decide(ids, label, kind) {
  if (locked) return say(WHY[locked]());
  if (!ids.length) return undefined;
  const next = kind === "accept" ? null : nextAfter(ids);
  const blind = isBlind && ids.some((id) => !cells.get(id).decided);
  clearSelection();
  for (const id of ids) change(cells.get(id), label ?? cells.get(id).label, true);
  if (next !== null) focus(next);
  count();
  const decided = ids.map((id) => cells.get(id));
  const versions = () => Object.fromEntries(decided.map((cell) => [cell.id, cell.stored.version]));
  return saver.submit(decided, () => [`/api/cases/${caseId}/decisions`, { cells: versions(), label, kind, is_blind: blind }]);
}

const move = (label) => decide(chosen(), label, "move");

function agree() {
  const ids = chosen();
  if (isBlind) return say(text("The suggestion is hidden, so there is nothing to agree with: press a letter."));
  const guesses = new Set(ids.map((id) => suggestion(cells.get(id))));
  const isNamed = ids.every((id) => cells.get(id).label !== UNIDENTIFIED);
  if (isNamed) return decide(ids, null, "agree");
  if (guesses.size !== 1 || guesses.has("")) return say(text("There is no suggestion to agree with: press a letter."));
  return decide(ids, [...guesses][0], "agree");
}

function acceptRest(code) {
  if (code === UNIDENTIFIED) return say(text("Unidentified cells need a class each: a letter, or Space to take the suggestion."));
  if (code === BLIND) return say(text("The suggestion is hidden, so there is nothing to accept: press letters."));
  const { grid } = sections.get(code);
  const ids = [...grid.children].filter(isLeft).map(idOf);
  if (ids.length) decide(ids, null, "accept");
  return jumpToLeft(grid);
}

// The first cell left after a class, or else the first of all; where none is left, the next step is the differential.
function jumpToLeft(grid) {
  const tiles = tilesInOrder();
  const end = tiles.indexOf(grid.lastElementChild);
  const next = tiles.slice(end + 1).find(isLeft) ?? tiles.find(isLeft);
  if (next) return focus(idOf(next));
  say(text("Every cell has been looked at."));
  return nextPage.focus();
}

function jump(step) {
  const open = [...gallery.querySelectorAll("section:not([hidden])")];
  const here = current === null ? -1 : open.indexOf(cells.get(current).tile.closest("section"));
  const tiles = [...open[Math.min(Math.max(here + step, 0), open.length - 1)].querySelectorAll(".tile")];
  focus(idOf(tiles.find(isLeft) ?? tiles[0]));
}

function undo() {
  if (locked) return say(WHY[locked]());
  return saver.submit([], () => [`/api/cases/${caseId}/undo`], ({ cells: undone }) => {
    if (!undone.length) return say(text("Nothing is left to undo."));
    return requestAnimationFrame(() => focus(undone[0].id));
  });
}

// --- Keys, pointer, controls -------------------------------------------------------------------------------------

function onKey(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const onControl = event.target.matches("button, a, input, summary");
  if (key === "Escape") { clearSelection(); focus(current); return true; }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=range], textarea")) return false;
  if (/^(Arrow|Home|End)/.test(key)) {
    const id = current === null ? null : idOf(follow(key, cells.get(current).tile));
    if (id !== null) { if (event.shiftKey) selectTo(id); else focus(id); }
  } else if (key === "PageDown" || key === "PageUp") jump(key === "PageDown" ? 1 : -1);
  else if (key === " " && !onControl) agree();
  else if (key === "Enter" && !onControl) { if (current !== null) acceptRest(codeOf(cells.get(current))); }
  else if (key === "?") document.getElementById("help").click();
  else if (key === "z") undo();
  else if (key === "i") panel.toggle(cells.get(current));
  else if (byLetter.has(key)) move(byLetter.get(key));
  else return false;
  return true;
}

document.addEventListener("keydown", (event) => { if (onKey(event)) event.preventDefault(); });

addPointer(gallery, {
  tilesInOrder,
  selectTo,
  clearSelection,
  chosen,
  mark,
  focus,
  isSelected: (id) => selection.has(id),
  hasSelection: () => selection.size > 0,
  isCurrent: (id) => id === current,
  startSelection: (id) => { anchor = id; },
  togglePanel: () => panel.toggle(cells.get(current)),
});

nextPage.addEventListener("click", (event) => {
  isLeaving = numWaiting > 0;
  if (isLeaving) event.preventDefault();
});
document.getElementById("undo").addEventListener("click", undo);
document.getElementById("show-panel").addEventListener("click", () => panel.toggle(cells.get(current)));
document.getElementById("size").addEventListener("input", (event) => gallery.style.setProperty("--tile", `${event.target.value}px`));
document.getElementById("blind").addEventListener("change", (event) => {
  isBlind = event.target.checked;
  for (const cell of cells.values()) { place(cell); refresh(cell); }
  count();
  focus(current);
});
document.getElementById("help").addEventListener("click", (event) => {
  const keys = document.getElementById("keys");
  keys.hidden = !keys.hidden;
  event.currentTarget.setAttribute("aria-expanded", String(!keys.hidden));
});

// Buttons for fingers: the same moves as the letters, and agree.
function makeMoves() {
  const moves = document.getElementById("moves");
  const add = (text, title, colour, action) => {
    const button = element("button", "", text);
    button.type = "button";
    button.title = title;
    coloured(button, colour);
    button.addEventListener("click", action);
    moves.append(button);
  };
  add("✓", text("agree"), "transparent", agree);
  for (const label of labels) add(label.code === UNIDENTIFIED ? "?" : label.code, label.name, label.colour, () => move(label.code));
}

async function start() {
  const response = await fetch(`/api/cases/${caseId}/cells`);
  if (!response.ok) return say(text("The cells could not be loaded. Reload the page."));
  [BLIND, ...order].forEach(makeSection);
  if (!locked) makeMoves();
  const loaded = (await response.json()).map((cell) => ({ ...cell, pending: 0, stored: { ...cell } }));
  const rank = (cell) => order.indexOf(codeOf(cell)); // as shown: pictures are loaded in the order in which tiles are made
  loaded.sort((a, b) => rank(a) - rank(b) || compare(a, b));
  for (const cell of loaded) { cells.set(cell.id, cell); makeTile(cell); sections.get(codeOf(cell)).grid.append(cell.tile); }
  count();
  const first = tilesInOrder().find(isLeft) ?? tilesInOrder()[0];
  if (first) focus(idOf(first));
  document.body.dataset.ready = "1";
  // The first screen before all others; then the rest, so that no key waits for a picture.
  setTimeout(() => { for (const { tile } of cells.values()) tile.firstChild.loading = "eager"; }, 1500);
  return undefined;
}
start();
