// What was decided goes to the program, one request after another in the order of the keys.
//
// The page shows a decision before it is stored. So each cell knows both: what is shown, and what the program last said
// is stored. Where a decision is refused or does not arrive, the cell goes back to what is stored, and decisions on the
// same cell that are still waiting are dropped: the reviewer made them without knowing how the cell stands.

import { isLoggedOut, send } from "./requests.js";
import { text } from "./words.js";

export function makeSaver(caseId, { cells, show, problem, waiting }) {
  const queue = [];
  let isRunning = false;

  function submit(action, ids, body, done) {
    for (const id of ids) cells.get(id).pending += 1;
    queue.push({ action, ids, body, done });
    waiting(queue.length);
    if (!isRunning) run();
  }

  async function run() {
    isRunning = true;
    while (queue.length) {
      const entry = queue[0];
      const answer = await post(entry);
      queue.shift();
      for (const id of entry.ids) cells.get(id).pending -= 1;
      for (const one of answer.cells ?? []) store(one);
      if (answer.ok) entry.done?.(answer.cells ?? []);
      else drop(answer.isLost ? null : new Set([...entry.ids, ...(answer.cells ?? []).map((one) => one.id)]));
      for (const id of new Set([...entry.ids, ...(answer.cells ?? []).map((one) => one.id)])) settle(id);
      if (!answer.ok) problem(answer.detail, answer.isLoggedOut);
      waiting(queue.length);
    }
    isRunning = false;
  }

  async function post({ action, ids, body }) {
    const versions = Object.fromEntries(ids.map((id) => [id, cells.get(id).stored.version]));
    try {
      const response = await send("POST", `/api/cases/${caseId}/${action}`, body ? { cells: versions, ...body } : undefined);
      const answer = await response.json();
      // Under another login nothing of this page is stored, so all that waits goes back to how it stood.
      const isLost = isLoggedOut(response);
      return { ok: response.ok, isLost, isLoggedOut: isLost, cells: answer.cells, detail: answer.detail ?? text("This was not saved.") };
    } catch {
      return { ok: false, isLost: true, detail: text("The program does not answer. What it had not stored is shown as it was.") };
    }
  }

  function store(one) {
    const cell = cells.get(one.id);
    if (cell) cell.stored = { label: one.label, decided: one.decided, version: one.version };
  }

  // Show what is stored, unless a later decision on the cell is under way.
  function settle(id) {
    const cell = cells.get(id);
    if (cell && !cell.pending) show(cell, cell.stored);
  }

  // Drop waiting decisions on these cells; all of them where the program does not answer.
  function drop(ids) {
    for (const entry of queue.splice(0)) {
      if (ids && !entry.ids.some((id) => ids.has(id))) { queue.push(entry); continue; }
      for (const id of entry.ids) { cells.get(id).pending -= 1; settle(id); }
    }
  }

  window.addEventListener("beforeunload", (event) => { if (queue.length) event.preventDefault(); });
  return { submit };
}
