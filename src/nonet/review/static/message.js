// What the page has to say, for some seconds.

import { offerLogin } from "./requests.js";

let hiding;

export function say(words, isLoggedOut = false) {
  const message = document.getElementById("message");
  message.textContent = words;
  if (isLoggedOut) offerLogin(message);
  message.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { message.hidden = true; }, 8000);
}
