// Drop files, folders or zip archives on the page of cases: they are sent a few at once, predicted, and shown.

import { element } from "./element.js";
import { send, token } from "./requests.js";
import { plural, text } from "./words.js";

const AT_ONCE = 3;
const TRIES = 3;
const EVERY_MS = 500;
const MOST_SHOWN = 20;
const SYSTEM_FILES = /^(\.|~\$|thumbs\.db$|desktop\.ini$|__macosx$)/i;

const section = document.getElementById("upload");
if (section?.querySelector("form")) prepare(); // without it, the page says why nothing can be predicted

function prepare() {
  const form = section.querySelector("form");
  const name = form.elements.case;
  const chosen = document.getElementById("chosen");
  const begin = document.getElementById("begin");
  const message = document.getElementById("upload-message");
  const veil = document.getElementById("veil");
  let files = []; // [path, File]

  function show(words) {
    message.textContent = words;
    message.hidden = !words;
  }

  function choose(found) {
    const kept = found.filter(([path]) => !path.split("/").some((part) => SYSTEM_FILES.test(part)));
    files.push(...kept);
    if (!files.length) return;
    const bytes = files.reduce((sum, [, file]) => sum + file.size, 0);
    chosen.textContent = `${plural(files.length, "{num} file", "{num} files")}, ${text("{size} MB", { size: (bytes / 1e6).toFixed(1) })}`;
    if (!name.value) name.value = suggest(files);
    form.hidden = false;
    show("");
    name.focus();
    name.select();
  }

  for (const input of section.querySelectorAll("input[type=file]")) {
    input.addEventListener("change", () => {
      choose([...input.files].map((file) => [file.webkitRelativePath || file.name, file]));
      input.value = "";
    });
  }
  for (const button of section.querySelectorAll("button[data-input]")) {
    button.addEventListener("click", () => document.getElementById(button.dataset.input).click());
  }
  document.getElementById("cancel").addEventListener("click", () => {
    files = [];
    name.value = "";
    form.hidden = true;
    show("");
  });

  // Anywhere on the page.
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  let depth = 0;
  window.addEventListener("dragenter", (event) => { if (hasFiles(event)) { depth += 1; veil.hidden = false; } });
  window.addEventListener("dragleave", (event) => { if (hasFiles(event) && (depth -= 1) <= 0) { depth = 0; veil.hidden = true; } });
  window.addEventListener("dragover", (event) => { if (hasFiles(event)) event.preventDefault(); });
  window.addEventListener("drop", async (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    veil.hidden = true;
    choose(await dropped(event.dataTransfer));
  });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    begin.disabled = true;
    try {
      const upload = await answer(send("POST", "/api/uploads", { case: name.value }));
      form.hidden = true;
      await run(upload, files);
    } catch (error) {
      show(error.message);
    }
    begin.disabled = false;
  });

  for (const button of document.querySelectorAll(".unfinished [data-action]")) {
    button.addEventListener("click", () => resume(button.closest("li"), button.dataset.action));
  }
  const waiting = document.querySelector(".unfinished li[data-state=predicting]");
  if (waiting) follow(waiting.dataset.id, progress());

  async function resume(line, action) {
    show("");
    try {
      if (action === "delete") {
        const response = await send("DELETE", `/api/uploads/${line.dataset.id}`);
        if (!response.ok) throw new Error((await response.json()).detail);
        location.reload();
      } else if (action === "continue") {
        name.value = line.dataset.case;
        document.getElementById("files").click();
      } else {
        await answer(send("POST", `/api/uploads/${line.dataset.id}/predict`));
        await follow(line.dataset.id, progress());
      }
    } catch (error) {
      show(error.message);
    }
  }

  async function run(upload, all) {
    const bar = progress();
    const problems = [];
    let sent = 0;
    const report = () => bar.set(sent, all.length, text("Sending: {done} of {all} files", { done: sent, all: all.length }));
    report();
    const leaving = (event) => event.preventDefault();
    window.addEventListener("beforeunload", leaving);
    const left = [...all];
    async function work() {
      while (left.length) {
        const [path, file] = left.shift();
        const found = await sendFile(upload.id, path, file);
        problems.push(...found.refused);
        sent += 1;
        report();
        bar.list(problems);
      }
    }
    try {
      await Promise.all(Array.from({ length: AT_ONCE }, work));
      files = [];
      await answer(send("POST", `/api/uploads/${upload.id}/predict`));
    } finally {
      window.removeEventListener("beforeunload", leaving);
    }
    await follow(upload.id, bar);
  }

  async function follow(id, bar) {
    for (;;) {
      const upload = await answer(fetch(`/api/uploads/${id}`));
      bar.list(upload.refused, upload.num_refused);
      if (upload.state === "failed") throw new Error(`${text("The cells could not be predicted.")} ${upload.reason}`);
      bar.set(upload.num_predicted, upload.num_images, text("Predicting: {done} of {all} cells", { done: upload.num_predicted, all: upload.num_images }));
      if (upload.state === "done") {
        bar.done(upload);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }
}

// Where it stands: a bar, words, and the files that were refused.
function progress() {
  const box = document.getElementById("progress");
  const bar = box.querySelector("progress");
  const words = box.querySelector("p");
  const refused = box.querySelector("details");
  box.hidden = false;
  return {
    set(done, all, said) {
      bar.max = Math.max(all, 1);
      bar.value = done;
      words.textContent = said;
    },
    list(files, num = files.length) {
      refused.hidden = !num;
      if (!num) return;
      refused.querySelector("summary").textContent = plural(num, "{num} file was not accepted", "{num} files were not accepted");
      const lines = files.slice(0, MOST_SHOWN).map((file) => {
        const line = element("li");
        line.append(element("b", "", file.name), ` ${text(file.reason)}`);
        return line;
      });
      if (num > lines.length) lines.push(element("li", "", text("and {num} more", { num: num - lines.length })));
      refused.querySelector("ul").replaceChildren(...lines);
    },
    // With refused files the page stays, so that they can be read.
    done(upload) {
      const address = `/cases/${upload.case_id}`;
      if (!upload.num_refused) {
        location.assign(address);
        return;
      }
      document.getElementById("no-cases")?.remove();
      refused.open = true;
      const link = element("a", "go", text("Review the cells"));
      link.href = address;
      words.replaceChildren(plural(upload.num_images, "{num} cell is predicted.", "{num} cells are predicted."), " ", link);
      link.focus();
    },
  };
}

async function answer(request) {
  let response;
  try {
    response = await request;
  } catch {
    throw new Error(text("The program does not answer. What it has received is kept; continue later."));
  }
  const found = await response.json();
  if (!response.ok) throw new Error(found.detail ?? text("This was not saved."));
  return found;
}

// A file that does not arrive is sent again: what was received twice is stored once.
async function sendFile(id, path, file) {
  const address = `/api/uploads/${id}/files?name=${encodeURIComponent(path.slice(-2000))}`;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await answer(fetch(address, { method: "PUT", headers: { "Content-Type": "application/octet-stream", "X-Nonet": token }, body: file }));
    } catch (error) {
      if (attempt === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * attempt));
    }
  }
}

// The name of the folder or archive, where there is but one.
function suggest(files) {
  const first = new Set(files.map(([path]) => (path.includes("/") ? path.split("/")[0] : "")));
  if (first.size === 1 && !first.has("")) return [...first][0];
  return files.length === 1 && /\.zip$/i.test(files[0][0]) ? files[0][0].replace(/\.zip$/i, "") : "";
}

// The files of what was dropped, with those in folders.
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => [file.name, file]);
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) {
      found.push([entry.fullPath.replace(/^\//, ""), await new Promise((resolve, reject) => entry.file(resolve, reject))]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const each of some) await walk(each);
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}
