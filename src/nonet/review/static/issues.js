// Doubtful labels, one cell at a time, worst first. What a key decides is painted at once, and the next cell with it;
// the program stores one decision after another.

import { coloured, element } from "./element.js";
import { makeIssueView } from "./issue_view.js";
import { say } from "./message.js";
import { makeSaver } from "./saving.js";
import { plural, text } from "./words.js";

const PAGE = 60; // issues in one request
const MARGIN = 12; // so many before the end of what is loaded, more is asked for

const shown = document.getElementById("issue");
const filters = document.getElementById("filters");
const note = document.getElementById("note");
const classes = JSON.parse(shown.dataset.classes);
const byLetter = new Map(classes.filter((one) => one.letter).map((one) => [one.letter, one.code]));
const mayDecide = document.getElementById("undo") !== null;
const view = makeIssueView(classes);

let items = []; // in the order of ranks; each as it is shown, and `stored`: as the program has it
let here = -1; // index of the one that is shown
let isWhole = false; // nothing more to load
let loading = null;
let round = 0; // grows with each change of the filters, so that late answers to earlier ones are dropped
let [num, numLeft, numWaiting] = [0, 0, 0];

const saver = makeSaver({
  read(answer, [item]) {
    if (!item || !answer.issue) return [];
    item.stored = answer.issue;
    return [item];
  },
  show: (item, facts) => { change(item, facts); if (items[here] === item) render(); },
  problem: (words, isLoggedOut) => { say(words, isLoggedOut); recount(); },
  waiting: (waiting) => { numWaiting = waiting; count(); },
});

const makeItem = (issue) => ({ ...issue, stored: issue, pending: 0 });

// --- Loading -----------------------------------------------------------------------------------------------------

function query(more) {
  const values = new URLSearchParams([...new FormData(filters)].filter(([name, value]) => value && !(name === "state" && value === "open")));
  for (const [name, value] of Object.entries(more ?? {})) values.set(name, value);
  return values;
}

async function fetchIssues(more) {
  const response = await fetch(`/api/issues?${query(more)}`);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  return answer;
}

function loadMore() {
  const mine = round;
  loading ??= fetchIssues({ after: items.at(-1)?.rank ?? 0, limit: PAGE }).then((answer) => {
    if (mine !== round) return;
    const known = new Set(items.map((one) => one.image_id));
    items.push(...answer.issues.filter((one) => !known.has(one.image_id)).map(makeItem));
    isWhole = answer.issues.length < PAGE;
    if (!numWaiting) [num, numLeft] = [answer.num, answer.num_left];
  }).catch((error) => {
    if (mine !== round) return;
    isWhole = true;
    say(error instanceof TypeError ? text("The program does not answer. Reload the page.") : error.message);
  }).finally(() => { if (mine === round) loading = null; });
  return loading;
}

// The numbers again, where they do not follow from what this page did.
async function recount() {
  try {
    const mine = round;
    const answer = await fetchIssues({ limit: 1 });
    if (mine === round && !numWaiting) { [num, numLeft] = [answer.num, answer.num_left]; count(); }
  } catch { /* the next request will say so */ }
}

async function start() {
  round += 1;
  [items, here, isWhole, loading] = [[], -1, false, null];
  const mine = round;
  await loadMore();
  if (mine !== round) return;
  const first = items.findIndex((one) => !one.decision);
  go(first < 0 && items.length ? 0 : first);
  document.body.dataset.ready = "1";
}

// --- Showing -----------------------------------------------------------------------------------------------------

function go(index) {
  here = index;
  if (note) note.value = "";
  render();
  if (!isWhole && here > items.length - MARGIN) loadMore().then(render);
}

function render() {
  const item = items[here];
  shown.hidden = !item;
  const empty = document.getElementById("empty");
  empty.hidden = Boolean(item);
  if (item) {
    view.show(item);
    view.preload(items.slice(here + 1).filter((one) => !one.decision).slice(0, 4));
  } else if (isWhole) {
    empty.textContent = !num || filters.elements.state.value === "decided" ? text("Nothing matches these filters.") : text("Every label has been decided.");
  }
  count();
}

function count() {
  const parts = [plural(numLeft, "{num} label left", "{num} labels left")];
  if (items[here]) parts.push(text("no. {rank}", { rank: items[here].rank }));
  if (numWaiting) parts.push(text("saving …"));
  document.getElementById("left").textContent = parts.join(" · ");
  document.getElementById("done").value = num ? 1 - numLeft / num : 0;
}

// --- Deciding ----------------------------------------------------------------------------------------------------

function change(item, facts) {
  const was = Boolean(item.decision);
  for (const name of ["decision", "label", "note", "who", "at", "version"]) if (name in facts) item[name] = facts[name];
  numLeft += Number(was) - Number(Boolean(item.decision));
  count();
}

function decide(decision, label = "") {
  const item = items[here];
  if (!item || !mayDecide) return undefined;
  if (decision === "relabel" && label === item.given) [decision, label] = ["keep", ""];
  const body = { decision, label, note: note.value.trim() };
  change(item, { ...body, who: "", at: "" });
  const path = `/api/issues/${encodeURIComponent(item.image_id)}/decision`;
  saver.submit([item], () => [path, { ...body, version: item.stored.version }]);
  return next();
}

function showUndone(answer) {
  if (!answer.image_id) return say(text("Nothing is left to undo."));
  if (!answer.issue) return say(text("Undone. The image is no longer in the list."));
  let item = items.find((one) => one.image_id === answer.image_id);
  if (item) change(item, answer.issue);
  else {
    item = makeItem(answer.issue);
    const place = items.findIndex((one) => one.rank > item.rank);
    items.splice(place < 0 ? items.length : place, 0, item);
    recount();
  }
  item.stored = answer.issue;
  return go(items.indexOf(item));
}

// The next undecided one, also from the beginning again; what is not loaded yet is waited for.
async function next() {
  const isOpen = (one) => !one.decision;
  const from = here;
  for (;;) {
    const found = items.findIndex((one, index) => index > from && isOpen(one));
    if (found >= 0) return go(found);
    if (isWhole) break;
    await loadMore();
  }
  return go(items.findIndex(isOpen));
}

async function step(by) {
  if (here + by >= items.length && !isWhole) await loadMore();
  if (items[here + by]) go(here + by);
}

const agree = () => { const item = items[here]; if (item) decide("relabel", item.suggested); };
const undo = () => { if (mayDecide) saver.submit([], () => ["/api/issues/undo"], showUndone); };
const toggleKeys = (isShown) => {
  const keys = document.getElementById("keys");
  keys.hidden = !(isShown ?? keys.hidden);
  document.getElementById("help").setAttribute("aria-expanded", String(!keys.hidden));
};

// --- Keys, pointer, filters --------------------------------------------------------------------------------------

function onKey(event) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "Escape" || (key === "Enter" && event.target === note)) {
    document.activeElement.blur();
    if (key === "Escape") { toggleKeys(false); document.getElementById("message").hidden = true; }
    return true;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return false;
  const onControl = event.target.matches("button, a, summary");
  if ((key === " " || key === "Enter") && onControl) return false;
  if (key === "ArrowRight" || key === "ArrowDown") step(1);
  else if (key === "ArrowLeft" || key === "ArrowUp") step(-1);
  else if (key === " ") agree();
  else if (key === "Enter") decide("keep");
  else if (key === ".") decide("unsure");
  else if (key === "Delete" || key === "Backspace") decide("drop");
  else if (key === "?") toggleKeys();
  else if (key === "z") undo();
  else if (byLetter.has(key)) decide("relabel", byLetter.get(key));
  else return false;
  return true;
}

// A key that is held down decides once.
document.addEventListener("keydown", (event) => {
  const isRepeated = event.repeat && !event.key.startsWith("Arrow") && !event.target.matches("input, select, textarea");
  if (isRepeated || onKey(event)) event.preventDefault();
});

// After a click the button does not keep the focus: the next Space or Enter is a decision, not this button again.
function onClick(button, action) {
  button?.addEventListener("click", (event) => { if (event.detail) button.blur(); action(); });
}

const actions = { agree, keep: () => decide("keep"), unsure: () => decide("unsure"), drop: () => decide("drop") };
for (const button of document.querySelectorAll("#choices button")) onClick(button, actions[button.dataset.decision]);
onClick(document.getElementById("undo"), undo);
onClick(document.getElementById("help"), () => toggleKeys());
for (const one of mayDecide ? classes : []) {
  const button = element("button", "", "");
  button.type = "button";
  button.title = one.name;
  button.dataset.code = one.code;
  coloured(button, one.colour);
  if (one.letter) button.append(element("kbd", "", one.letter.toUpperCase()), " ");
  button.append(one.code);
  onClick(button, () => decide("relabel", one.code));
  document.getElementById("letters").append(button);
}

filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("change", (event) => {
  if (!event.target.matches(":focus-visible")) event.target.blur(); // chosen by mouse: letters are decisions again
  const values = query().toString();
  history.replaceState(null, "", values ? `?${values}` : location.pathname);
  start();
});
start();
