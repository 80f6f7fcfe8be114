// Requests that change something: they carry the header by which the program knows that they come from its own page,
// and, where people log in, from the login that the page was opened under.

export const token = document.querySelector("meta[name=nonet-token]")?.content || "1";

export function send(method, path, body) {
  return fetch(path, {
    method,
    headers: { "Content-Type": "application/json", "X-Nonet": token },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}
