// Requests that change something: they carry the header by which the program knows that they come from its own page,
// and, where people log in, from the login that the page was opened under.

import { text } from "./words.js";

export const token = document.querySelector("meta[name=nonet-token]")?.content || "1";

export function send(method, path, body) {
  return fetch(path, {
    method,
    headers: { "Content-Type": "application/json", "X-Nonet": token },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}

// Whether an answer says that the login of this page has ended, or is another's by now.
export const isLoggedOut = (response) => response.status === 401 || response.status === 403;

// Add a link to a message, which leads back to this page after logging in.
export function offerLogin(message) {
  const link = document.createElement("a");
  link.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.textContent = text("Log in");
  message.append(" ", link);
}
