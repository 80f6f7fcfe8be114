// Requests that change something: they carry the header by which the program knows that they come from its own page.

export function send(method, path, body) {
  return fetch(path, {
    method,
    headers: { "Content-Type": "application/json", "X-Nonet": "1" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}
