// The gallery: cells by class, moved by one key each.
//
// What a key does is painted at once and then sent; requests go one after another, in the order of the keys. A cell
// that somebody else has changed in between comes back as it stands now, and is marked.
"use strict";

const gallery = document.getElementById("gallery");
const caseId = gallery.dataset.case;
const isSigned = gallery.dataset.signed === "1";
const labels = JSON.parse(gallery.dataset.labels);
const order = JSON.parse(gallery.dataset.order);
const byLabel = new Map(labels.map((label) => [label.code, label]));
const byLetter = new Map(labels.filter((label) => label.letter).map((label) => [label.letter, label.code]));
const UNIDENTIFIED = "unidentified";

const cells = new Map(); // id → cell, as it stands, with its tile
const sections = new Map(); // label → {element, grid, head, count}
const selection = new Set(); // ids
let current = null; // id of the cell with the focus
let anchor = null; // where a selection with Shift began
let isBlind = false;
let queue = Promise.resolve();
let waiting = 0;

const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

// --- Drawing -----------------------------------------------------------------------------------------------------

function makeSection(code) {
  const label = byLabel.get(code);
  const made = element("section", "class");
  made.dataset.code = code;
  const head = element("h2", "head");
  const swatch = element("span", "swatch");
  swatch.style.setProperty("--label", label.colour);
  const count = element("span", "count", "0");
  head.append(swatch, element("span", "code", code === UNIDENTIFIED ? "" : code), element("span", "name", label.name), count);
  if (label.letter) head.append(element("kbd", "", label.letter.toUpperCase()));
  const grid = element("div", "grid");
  grid.setAttribute("role", "listbox");
  grid.setAttribute("aria-multiselectable", "true");
  grid.setAttribute("aria-label", label.name);
  made.append(head, grid);
  made.addEventListener("dragover", (event) => { event.preventDefault(); made.classList.add("over"); });
  made.addEventListener("dragleave", () => made.classList.remove("over"));
  made.addEventListener("drop", (event) => { event.preventDefault(); made.classList.remove("over"); move(code); });
  sections.set(code, { element: made, grid, count });
  gallery.append(made);
}

function makeTile(cell) {
  const tile = element("div", "tile");
  tile.id = `cell-${cell.id}`;
  tile.dataset.id = cell.id;
  tile.setAttribute("role", "option");
  tile.tabIndex = -1;
  tile.draggable = !isSigned;
  const image = element("img");
  image.src = `/cells/${cell.id}/thumbnail`;
  image.alt = "";
  image.decoding = "async";
  image.draggable = false;
  tile.append(image, element("span", "mark"));
  cell.tile = tile;
  refresh(cell);
}

function refresh(cell) {
  const label = byLabel.get(cell.label);
  const changed = cell.label !== cell.predicted;
  cell.tile.classList.toggle("changed", changed);
  cell.tile.classList.toggle("decided", cell.decided);
  const mark = cell.tile.lastChild;
  mark.textContent = (label && label.letter ? label.letter : cell.label).toUpperCase();
  mark.style.setProperty("--label", label ? label.colour : "#888");
  const share = cell.confidence === null || cell.confidence === undefined ? "" : `, ${Math.round(100 * cell.confidence)} %`;
  const was = changed ? `, predicted ${cell.predicted}` : "";
  const state = cell.decided ? ", decided" : "";
  cell.tile.setAttribute("aria-label", isBlind ? "cell" : `${label ? label.name : cell.label}${share}${was}${state}`);
  cell.tile.title = isBlind ? "" : `${cell.label}${share}${was}`;
}

// Doubtful cells first: those are looked at with the freshest eyes.
const before = (a, b) => (a.confidence ?? 0) - (b.confidence ?? 0) || a.id - b.id;

function place(cell) {
  const section = sections.get(cell.label) ?? sections.get(UNIDENTIFIED);
  section.grid.append(cell.tile);
  section.element.hidden = false;
}

function count() {
  const numbers = new Map();
  for (const cell of cells.values()) numbers.set(cell.label, (numbers.get(cell.label) ?? 0) + 1);
  for (const [code, section] of sections) {
    const number = numbers.get(code) ?? 0;
    section.count.textContent = number;
    section.element.hidden = number === 0;
  }
  const unidentified = numbers.get(UNIDENTIFIED) ?? 0;
  const changed = [...cells.values()].filter((cell) => cell.label !== cell.predicted).length;
  document.getElementById("left").textContent =
    `${cells.size} cells · ${unidentified} unidentified · ${changed} changed` + (waiting ? " · saving" : "");
}

// --- Focus and selection -----------------------------------------------------------------------------------------

const tilesInOrder = () => [...gallery.querySelectorAll("section:not([hidden]) .tile")];

function focus(id, { select = false, scroll = true } = {}) {
  if (id === null || !cells.has(id)) return;
  if (current !== null) cells.get(current)?.tile.classList.remove("current");
  current = id;
  const tile = cells.get(id).tile;
  tile.classList.add("current");
  tile.focus({ preventScroll: true });
  if (scroll) tile.scrollIntoView({ block: "nearest" });
  if (!select) { clearSelection(); anchor = id; }
}

function clearSelection() {
  for (const id of selection) mark(id, false);
  selection.clear();
}

function mark(id, on) {
  cells.get(id).tile.classList.toggle("selected", on);
  cells.get(id).tile.setAttribute("aria-selected", on ? "true" : "false");
  if (on) selection.add(id); else selection.delete(id);
}

function selectTo(id) {
  const tiles = tilesInOrder();
  const places = [anchor ?? id, id].map((each) => tiles.indexOf(cells.get(each).tile)).sort((a, b) => a - b);
  clearSelection();
  for (const tile of tiles.slice(places[0], places[1] + 1)) mark(Number(tile.dataset.id), true);
  focus(id, { select: true });
}

function neighbour(key) {
  const tiles = tilesInOrder();
  if (current === null) return tiles.length ? Number(tiles[0].dataset.id) : null;
  const tile = cells.get(current).tile;
  const index = tiles.indexOf(tile);
  if (key === "ArrowLeft" || key === "ArrowRight") {
    const other = tiles[index + (key === "ArrowRight" ? 1 : -1)];
    return other ? Number(other.dataset.id) : current;
  }
  // Up and down: the nearest tile of the next row, also across classes.
  const down = key === "ArrowDown";
  const here = tile.getBoundingClientRect();
  let best = null;
  let bestDistance = Infinity;
  let row = null;
  for (const other of down ? tiles.slice(index + 1) : tiles.slice(0, index).reverse()) {
    const there = other.getBoundingClientRect();
    if (Math.abs(there.top - here.top) < 2) continue;
    if (row === null) row = there.top;
    if (Math.abs(there.top - row) > 2) break;
    const distance = Math.abs(there.left - here.left);
    if (distance < bestDistance) { best = other; bestDistance = distance; }
  }
  return best ? Number(best.dataset.id) : current;
}

function nextAfter(ids) {
  const tile = cells.get(ids[ids.length - 1]).tile;
  for (let other = tile.nextElementSibling; other; other = other.nextElementSibling) {
    if (!ids.includes(Number(other.dataset.id))) return Number(other.dataset.id);
  }
  const tiles = tilesInOrder();
  const later = tiles.slice(tiles.indexOf(tile) + 1).find((each) => !ids.includes(Number(each.dataset.id)));
  const earlier = tiles.slice(0, tiles.indexOf(tile)).reverse().find((each) => !ids.includes(Number(each.dataset.id)));
  const next = later ?? earlier;
  return next ? Number(next.dataset.id) : null;
}

const chosen = () => {
  if (!selection.size) return current === null ? [] : [current];
  return tilesInOrder().map((tile) => Number(tile.dataset.id)).filter((id) => selection.has(id));
};

// --- Deciding ----------------------------------------------------------------------------------------------------

function decide(ids, label, kind) {
  if (!ids.length || isSigned) return;
  const next = kind === "accept" ? null : nextAfter(ids);
  for (const id of ids) {
    const cell = cells.get(id);
    if (label !== null && cell.label !== label) { cell.label = label; place(cell); }
    cell.decided = true;
    refresh(cell);
  }
  clearSelection();
  count();
  if (next !== null) focus(next);
  send(`decisions`, () => ({
    cells: Object.fromEntries(ids.map((id) => [id, cells.get(id).version])),
    label,
    kind,
    is_blind: isBlind,
  }));
}

const move = (label) => decide(chosen(), label, "move");
const agree = () => decide(chosen(), null, "agree");

function acceptRest() {
  if (current === null) return;
  const section = cells.get(current).tile.closest("section");
  if (section.dataset.code === UNIDENTIFIED) return say("Unidentified cells need a class each.");
  const ids = [...section.querySelectorAll(".tile")].map((tile) => Number(tile.dataset.id));
  decide(ids.filter((id) => !cells.get(id).decided), null, "accept");
  jump(1);
}

function jump(step) {
  const open = [...gallery.querySelectorAll("section:not([hidden])")];
  const here = current === null ? -1 : open.indexOf(cells.get(current).tile.closest("section"));
  const section = open[Math.min(Math.max(here + step, 0), open.length - 1)];
  const first = [...section.querySelectorAll(".tile")].find((tile) => !cells.get(Number(tile.dataset.id)).decided);
  focus(Number((first ?? section.querySelector(".tile")).dataset.id));
}

const undo = () => { if (!isSigned) send("undo", () => undefined); };

function send(action, body) {
  waiting += 1;
  queue = queue.then(async () => {
    try {
      const response = await fetch(`/api/cases/${caseId}/${action}`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Nonet": "1" },
        body: JSON.stringify(body()),
      });
      const answer = await response.json();
      if (answer.cells) answer.cells.forEach(take);
      if (!response.ok) say(answer.detail ?? "This was not saved.");
      else if (action === "undo") { if (answer.cells.length) focus(answer.cells[0].id); else say("Nothing is left to undo."); }
    } catch {
      say("The program does not answer. What is marked was not saved; reload the page when it runs again.");
    }
    waiting -= 1;
    count();
  });
}

// Take a cell as the program says it stands.
function take(answer) {
  const cell = cells.get(answer.id);
  const moved = cell.label !== answer.label;
  Object.assign(cell, answer);
  if (moved) place(cell);
  refresh(cell);
}

let hiding;
function say(words) {
  const message = document.getElementById("message");
  message.textContent = words;
  message.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { message.hidden = true; }, 6000);
}

// --- Keys, pointer, controls -------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inField = event.target.matches("input:not([type=checkbox]):not([type=range]), textarea, select");
  if (inField) return;
  const key = event.key;
  if (key.startsWith("Arrow") && !event.target.matches("input")) {
    const id = neighbour(key);
    if (id !== null) { if (event.shiftKey) selectTo(id); else focus(id); }
  } else if (key === "Tab" && event.target.closest(".gallery")) {
    jump(event.shiftKey ? -1 : 1);
  } else if (key === " " && !event.target.matches("button, a, input")) {
    agree();
  } else if (key === "Enter" && !event.target.matches("button, a, input")) {
    acceptRest();
  } else if (key === "?") {
    document.getElementById("help").click();
  } else if (key === "Escape") {
    clearSelection();
  } else if (key.toLowerCase() === "z") {
    undo();
  } else if (byLetter.has(key.toLowerCase())) {
    move(byLetter.get(key.toLowerCase()));
  } else {
    return;
  }
  event.preventDefault();
});

const tileOf = (event) => event.target.closest?.(".tile");

gallery.addEventListener("mousemove", (event) => {
  const tile = tileOf(event);
  if (!tile || frame || selection.size || Number(tile.dataset.id) === current) return;
  focus(Number(tile.dataset.id), { scroll: false });
});

gallery.addEventListener("click", (event) => {
  const tile = tileOf(event);
  if (!tile) return;
  const id = Number(tile.dataset.id);
  if (event.shiftKey) return selectTo(id);
  focus(id, { select: true, scroll: false });
  mark(id, !selection.has(id));
  anchor = id;
});

gallery.addEventListener("dragstart", (event) => {
  const tile = tileOf(event);
  if (!tile) return;
  const id = Number(tile.dataset.id);
  if (!selection.has(id)) { clearSelection(); focus(id, { select: true, scroll: false }); mark(id, true); }
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", String(id));
});

// A frame drawn on the background selects what it touches.
let frame = null;
gallery.addEventListener("pointerdown", (event) => {
  if (event.pointerType === "touch" || event.button !== 0 || tileOf(event)) return;
  frame = { x: event.clientX, y: event.clientY, box: element("div", "frame") };
  gallery.append(frame.box);
  clearSelection();
});
window.addEventListener("pointermove", (event) => {
  if (!frame) return;
  const [left, right] = [frame.x, event.clientX].sort((a, b) => a - b);
  const [top, bottom] = [frame.y, event.clientY].sort((a, b) => a - b);
  Object.assign(frame.box.style, { left: `${left}px`, top: `${top}px`, width: `${right - left}px`, height: `${bottom - top}px` });
  for (const tile of tilesInOrder()) {
    const box = tile.getBoundingClientRect();
    mark(Number(tile.dataset.id), box.left < right && box.right > left && box.top < bottom && box.bottom > top);
  }
});
window.addEventListener("pointerup", () => {
  if (!frame) return;
  frame.box.remove();
  frame = null;
  const ids = chosen();
  if (selection.size) focus(ids[ids.length - 1], { select: true, scroll: false });
});

document.getElementById("undo").addEventListener("click", undo);
document.getElementById("size").addEventListener("input", (event) => {
  gallery.style.setProperty("--tile", `${event.target.value}px`);
});
document.getElementById("blind").addEventListener("change", (event) => {
  isBlind = event.target.checked;
  gallery.classList.toggle("is-blind", isBlind);
  cells.forEach(refresh);
});
document.getElementById("help").addEventListener("click", (event) => {
  const keys = document.getElementById("keys");
  keys.hidden = !keys.hidden;
  event.currentTarget.setAttribute("aria-expanded", String(!keys.hidden));
});

// Buttons for fingers: the same moves as the letters.
for (const label of labels) {
  const button = element("button", "", label.code === UNIDENTIFIED ? "?" : label.code);
  button.type = "button";
  button.title = label.name;
  button.style.setProperty("--label", label.colour);
  button.addEventListener("click", () => move(label.code));
  document.getElementById("moves").append(button);
}

async function start() {
  const response = await fetch(`/api/cases/${caseId}/cells`);
  if (!response.ok) return say("The cells could not be loaded. Reload the page.");
  order.forEach(makeSection);
  const loaded = (await response.json()).sort(before);
  for (const cell of loaded) { cells.set(cell.id, cell); makeTile(cell); place(cell); }
  count();
  const first = tilesInOrder()[0];
  if (first) focus(Number(first.dataset.id));
  document.body.dataset.ready = "1";
}
start();
