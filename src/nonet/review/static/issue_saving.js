// Decisions on doubtful labels go to the program one after another, in the order of the keys.
//
// The page shows a decision before it is stored. So each item knows both: what is shown, and what the program last said
// is stored. Where a decision is refused or does not arrive, the item goes back to what is stored, and decisions on it
// that are still waiting are dropped: the reviewer made them without knowing how it stands.

import { isLoggedOut, send } from "./requests.js";
import { text } from "./words.js";

export function makeIssueSaver({ show, problem, waiting, undone, recount }) {
  const queue = [];
  let isRunning = false;

  function add(entry) {
    if (entry.item) entry.item.pending += 1;
    queue.push(entry);
    waiting(queue.length);
    if (!isRunning) run();
  }

  async function run() {
    isRunning = true;
    while (queue.length) {
      const entry = queue[0];
      const answer = await post(entry);
      queue.shift();
      if (entry.item) {
        entry.item.pending -= 1;
        if (answer.issue) entry.item.stored = answer.issue;
        if (!answer.ok) drop(answer.isLost ? null : entry.item);
        if (!entry.item.pending) show(entry.item, entry.item.stored);
      } else if (answer.isLost) drop(null);
      waiting(queue.length);
      if (!answer.ok) { problem(answer.detail, answer.isLoggedOut); recount(); }
      else if (!entry.item) undone(answer);
    }
    isRunning = false;
  }

  async function post({ item, body }) {
    const path = item ? `/api/issues/${encodeURIComponent(item.image_id)}/decision` : "/api/issues/undo";
    try {
      const response = await send("POST", path, item && { ...body, version: item.stored.version });
      const answer = await response.json();
      return { ...answer, ok: response.ok, isLost: isLoggedOut(response), isLoggedOut: isLoggedOut(response), detail: answer.detail ?? text("This was not saved.") };
    } catch {
      return { ok: false, isLost: true, detail: text("The program does not answer. What it had not stored is shown as it was.") };
    }
  }

  // Drop waiting decisions on an item; all that wait where the program does not answer.
  function drop(item) {
    for (const entry of queue.splice(0)) {
      if (item && entry.item !== item) { queue.push(entry); continue; }
      if (!entry.item) continue;
      entry.item.pending -= 1;
      if (!entry.item.pending) show(entry.item, entry.item.stored);
    }
  }

  window.addEventListener("beforeunload", (event) => { if (queue.length) event.preventDefault(); });
  return { decide: (item, body) => add({ item, body }), undo: () => add({}) };
}
