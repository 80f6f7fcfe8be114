// What was decided goes to the program, one request after another in the order of the keys.
//
// The page shows a decision before it is stored. So each item (a cell, a doubtful label) knows both: what is shown, and
// what the program last said is stored. Where a decision is refused or does not arrive, the item goes back to what is
// stored, and decisions on it that are still waiting are dropped: the reviewer made them without knowing how it stands.

import { isLoggedOut, send } from "./requests.js";
import { text } from "./words.js";

// `read` takes what an answer says of items into their `stored`, and returns these items.
export function makeSaver({ read, show, problem, waiting }) {
  const queue = [];
  let isRunning = false;

  // `request` returns path and body when its turn has come: only then it is known which versions are stored.
  function submit(items, request, done) {
    for (const item of items) item.pending += 1;
    queue.push({ items, request, done });
    waiting(queue.length);
    if (!isRunning) run();
  }

  async function run() {
    isRunning = true;
    while (queue.length) {
      const entry = queue[0];
      const answer = await post(...entry.request());
      queue.shift();
      for (const item of entry.items) item.pending -= 1;
      const concerned = new Set([...entry.items, ...read(answer, entry.items)]);
      if (answer.ok) entry.done?.(answer);
      else drop(answer.isLost ? null : concerned);
      for (const item of concerned) settle(item);
      if (!answer.ok) problem(answer.detail, answer.isLoggedOut);
      waiting(queue.length);
    }
    isRunning = false;
  }

  async function post(path, body) {
    try {
      const response = await send("POST", path, body);
      const answer = await response.json();
      // Under another login nothing of this page is stored, so all that waits goes back to how it stood.
      const isLost = isLoggedOut(response);
      return { detail: text("This was not saved."), ...answer, ok: response.ok, isLost, isLoggedOut: isLost };
    } catch {
      return { ok: false, isLost: true, detail: text("The program does not answer. What it had not stored is shown as it was.") };
    }
  }

  // Show what is stored, unless a later decision on the item is under way.
  function settle(item) {
    if (!item.pending) show(item, item.stored);
  }

  // Drop waiting decisions on these items; all of them where the program does not answer.
  function drop(items) {
    for (const entry of queue.splice(0)) {
      if (items && !entry.items.some((item) => items.has(item))) { queue.push(entry); continue; }
      for (const item of entry.items) { item.pending -= 1; settle(item); }
    }
  }

  window.addEventListener("beforeunload", (event) => { if (queue.length) event.preventDefault(); });
  return { submit };
}
