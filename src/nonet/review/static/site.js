// What every page has: the choice of language, and leaving.

import { send } from "./requests.js";

const language = document.getElementById("language");
language.addEventListener("change", async () => {
  await send("POST", "/language", { code: language.value });
  location.reload();
});

document.getElementById("log-out")?.addEventListener("click", async () => {
  await send("POST", "/api/logout");
  location.replace("/login");
});

// A page that the browser kept is asked for again: somebody may have logged out since.
window.addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
