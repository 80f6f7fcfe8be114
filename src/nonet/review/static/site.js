// What every page has: the choice of language.

import { send } from "./requests.js";

const language = document.getElementById("language");
language.addEventListener("change", async () => {
  await send("POST", "/language", { code: language.value });
  location.reload();
});
