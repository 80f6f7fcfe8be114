// Sign and reopen: the only changes on the page of the differential.

import { isLoggedOut, offerLogin, send } from "./requests.js";
import { text } from "./words.js";

const section = document.querySelector(".sign");
const message = section.querySelector(".message");

for (const form of section.querySelectorAll("form")) {
  // Until now the browser itself would have sent the form, to nobody.
  form.querySelector("button").disabled = false;
  if (form.dataset.action === "sign") form.querySelector("button").focus();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    // What is signed is the differential on this page: if it has changed since, the signature is refused.
    const seen = form.dataset.action === "sign" ? { version: Number(section.dataset.version) } : {};
    button.disabled = true;
    try {
      const body = { comment: form.elements.comment.value, ...seen };
      const response = await send("POST", `/api/cases/${section.dataset.case}/${form.dataset.action}`, body);
      if (response.ok) {
        location.reload();
        return;
      }
      message.textContent = (await response.json()).detail;
      if (isLoggedOut(response)) offerLogin(message);
    } catch {
      message.textContent = text("The program does not answer. Nothing was saved; try again.");
    }
    message.hidden = false;
    button.disabled = false;
  });
}
