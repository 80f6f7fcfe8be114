// Sign and reopen: the only changes on the page of the differential.
"use strict";

const section = document.querySelector(".sign");
const message = section.querySelector(".message");

for (const form of section.querySelectorAll("form")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    // What is signed is the differential on this page: if it has changed since, the signature is refused.
    const seen = form.dataset.action === "sign" ? { version: Number(section.dataset.version) } : {};
    button.disabled = true;
    try {
      const response = await fetch(`/api/cases/${section.dataset.case}/${form.dataset.action}`, {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Nonet": "1" },
        body: JSON.stringify({ comment: form.elements.comment.value, ...seen }),
      });
      if (response.ok) {
        location.reload();
        return;
      }
      message.textContent = (await response.json()).detail;
    } catch {
      message.textContent = "The program does not answer. Nothing was saved; try again.";
    }
    message.hidden = false;
    button.disabled = false;
  });
}
