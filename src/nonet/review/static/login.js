// Log in, then go to where one wanted to be.

import { send } from "./requests.js";
import { text } from "./words.js";

const form = document.getElementById("login");
const message = form.querySelector(".message");
const button = form.querySelector("button");

button.disabled = false; // until now the browser itself would have sent the form, to nobody
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { username, password } = form.elements;
  button.disabled = true;
  message.hidden = true;
  try {
    const response = await send("POST", "/api/login", { name: username.value, password: password.value });
    if (response.ok) {
      location.replace(form.dataset.next);
      return;
    }
    message.textContent = (await response.json()).detail;
    password.value = "";
    password.focus();
  } catch {
    message.textContent = text("The program does not answer. Try again.");
  }
  message.hidden = false;
  button.disabled = false;
});
