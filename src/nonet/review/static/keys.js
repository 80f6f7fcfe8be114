// Other letters for classes: click a letter in the list of keys, then press another. The page then starts anew.

import { send } from "./requests.js";
import { text } from "./words.js";

const list = document.getElementById("keys");
const help = document.getElementById("key-help");
const first = help.textContent;
let waiting = null;

function stop(words = first) {
  waiting?.classList.remove("waiting");
  waiting = null;
  help.textContent = words;
}

async function change(method, body) {
  const response = await send(method, "/api/keys", body);
  if (!response.ok) return stop((await response.json()).detail);
  location.hash = "keys";
  return location.reload();
}

for (const button of list.querySelectorAll(".key")) {
  button.addEventListener("click", () => {
    stop();
    waiting = button;
    button.classList.add("waiting");
    help.textContent = text("Press the new letter, or Esc.");
  });
}
document.getElementById("reset-keys").addEventListener("click", () => change("DELETE"));

// Before the gallery's own keys.
window.addEventListener("keydown", (event) => {
  if (!waiting || ["Shift", "Tab"].includes(event.key)) return;
  event.preventDefault();
  event.stopPropagation();
  if (event.key === "Escape") stop();
  else change("PUT", { label: waiting.dataset.code, letter: event.key.toLowerCase().slice(0, 4) });
}, true);

if (location.hash === "#keys") {
  history.replaceState(null, "", location.pathname);
  document.getElementById("help").click();
}
