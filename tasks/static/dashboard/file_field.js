// Fields for files: `<file-field>` around the text field with their values as JSON, which is all there is without this script.
// A file is announced with the permit of the form, and its bytes are sent one after another, from where a broken connection left off.

const TRIES = 6; // without a byte more on the server
const PAUSE_MS = 500; // doubled with each try
const UNITS = [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]];
const WAIT = "Wait until the files have been sent.";
const FAILED = "A file was not sent. Try again, or remove it.";

class Broken extends Error {} // another attempt may help
class Refused extends Error {}
class Removed extends Error {}

class FileField extends HTMLElement {
  connectedCallback() {
    if (this.picker) return;
    this.text = this.querySelector("textarea");
    this.isMany = this.hasAttribute("multiple");
    this.picker = Object.assign(document.createElement("input"), { type: "file", multiple: this.isMany });
    this.isRequired = this.text.required;
    for (const name of ["aria-labelledby", "aria-describedby", "aria-invalid"]) {
      if (this.text.hasAttribute(name)) this.picker.setAttribute(name, this.text.getAttribute(name));
    }
    this.list = Object.assign(document.createElement("ul"), { className: "sent-files" });
    this.rows = [];
    const known = valuesIn(this.text.value);
    if (known !== null) {
      this.hideText();
      for (const value of known) this.add({ name: String(value.name ?? value.$file), size: value.bytes, value });
    }
    this.text.after(this.picker, this.list);
    this.picker.addEventListener("change", () => this.choose([...this.picker.files]));
    this.update();
  }

  disconnectedCallback() {
    for (const row of this.rows) row.request?.abort();
  }

  hideText() {
    this.text.required = false;
    this.text.hidden = true;
    this.text.removeAttribute("aria-labelledby"); // the label is that of the picker
    this.querySelector("[data-json-hint]")?.remove();
  }

  choose(files) {
    this.hideText(); // what it had before is replaced
    if (!this.isMany) for (const row of [...this.rows]) this.remove(row);
    for (const file of files) this.add({ name: file.name, size: file.size, file });
    this.sendNext();
  }

  add(row) {
    row.line = document.createElement("li");
    const named = Object.assign(document.createElement("span"), { className: "name", textContent: row.name });
    row.progress = Object.assign(document.createElement("progress"), { max: row.size || 1, value: 0, hidden: true });
    row.progress.setAttribute("aria-label", `Sent of ${row.name}`);
    row.state = Object.assign(document.createElement("span"), { className: "state muted", textContent: row.value ? sizeOf(row.size) : "waits" });
    row.state.setAttribute("role", "status");
    row.again = button("Try again", row.name, () => { row.failed = false; this.sendNext(); });
    row.again.hidden = true;
    const remove = button("Remove", row.name, () => { this.remove(row); this.picker.focus(); this.sendNext(); });
    row.line.append(named, row.state, row.progress, row.again, remove);
    this.list.append(row.line);
    this.rows.push(row);
  }

  remove(row) {
    row.isRemoved = true;
    row.request?.abort();
    row.line.remove();
    this.rows = this.rows.filter((other) => other !== row);
    this.update();
  }

  async sendNext() {
    const row = this.rows.find((each) => !each.value && !each.failed);
    this.update();
    if (this.isSending || !row) return;
    this.isSending = true;
    row.again.hidden = true;
    row.progress.hidden = false;
    row.line.classList.remove("failed");
    try {
      row.value = await sent(row, this.dataset.permit, (size) => {
        row.progress.value = size;
        row.state.textContent = `${sizeOf(size)} of ${sizeOf(row.size)}`;
      });
      row.state.textContent = sizeOf(row.size);
    } catch (error) {
      if (!(error instanceof Broken || error instanceof Refused || error instanceof Removed)) throw error;
      row.failed = true;
      if (error instanceof Refused) row.url = row.begun = undefined; // another attempt is another file
      row.line.classList.add("failed");
      row.state.textContent = error.message;
      row.again.hidden = false;
    } finally {
      this.isSending = false;
      row.progress.hidden = true;
    }
    this.sendNext();
  }

  // Writes the values into the text field, which is what the form sends, and keeps the form from being sent too early.
  update() {
    if (!this.text.hidden) return;
    const values = this.rows.filter((row) => row.value).map((row) => row.value);
    this.text.value = values.length ? JSON.stringify(this.isMany ? values : values[0]) : "";
    const isDone = this.rows.every((row) => row.value);
    if (isDone) this.picker.value = ""; // so that the same file can be chosen again
    this.picker.required = this.isRequired && !values.length;
    this.picker.setCustomValidity(isDone ? "" : this.rows.some((row) => row.failed) ? FAILED : WAIT);
  }
}

// Sends a file, and returns its value. Throws Broken, Refused and Removed.
async function sent(row, permit, show) {
  row.url ??= await announced(row.file, permit);
  let [at, tries] = [row.begun ? row.size : 0, 0]; // where it begins again: the server names the place
  row.begun = true;
  for (;;) {
    if (row.isRemoved) throw new Removed();
    try {
      show(Math.min(at, row.received ?? 0));
      const { status, body } = await put(row, at, show);
      if (status === 200 && body.file) return body.file;
      const received = status === 409 ? body.error?.data?.received : body.received;
      if (received === undefined && [409, 429, 502, 503, 504].includes(status)) throw new Broken(body.error?.message ?? "The server is busy.");
      if (received === undefined) throw new Refused(body.error?.message ?? `The server answered ${status}.`);
      if (received > (row.received ?? 0)) tries = 0;
      at = row.received = received;
    } catch (error) {
      if (!(error instanceof Broken) || row.isRemoved) throw error;
      tries += 1;
      if (tries >= TRIES) throw error;
      row.state.textContent = "The connection broke. Trying again…";
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * 2 ** (tries - 1)));
      at = row.size; // no byte more: the server says where to continue
    }
  }
}

async function announced(file, permit) {
  const form = new FormData();
  for (const [name, value] of Object.entries({ permit, name: file.name, bytes: file.size, media_type: file.type })) form.set(name, value);
  let reply;
  try {
    reply = await fetch("/ui/files/", { method: "POST", body: form });
  } catch (error) {
    if (error instanceof TypeError) throw new Broken("The server cannot be reached.");
    throw error;
  }
  const body = await reply.json().catch(() => ({}));
  if (reply.status === 201) return body.url;
  throw new Refused(body.error?.message ?? `The server answered ${reply.status}.`);
}

// XMLHttpRequest, since fetch does not tell how much has been sent.
function put(row, at, show) {
  const request = (row.request = new XMLHttpRequest());
  return new Promise((resolve, reject) => {
    request.open("PUT", row.url);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.setRequestHeader("Upload-Offset", String(at));
    request.responseType = "json";
    request.upload.addEventListener("progress", ({ loaded }) => show(at + loaded));
    request.addEventListener("load", () => resolve({ status: request.status, body: request.response ?? {} }));
    request.addEventListener("error", () => reject(new Broken("The server cannot be reached.")));
    request.addEventListener("abort", () => reject(new Removed()));
    request.send(row.file.slice(at));
  });
}

// The files in the text of a field; null if it has something else.
function valuesIn(text) {
  if (!text.trim()) return [];
  try {
    const values = [JSON.parse(text)].flat();
    return values.every((value) => typeof value?.$file === "string") ? values : null;
  } catch {
    return null;
  }
}

function button(label, name, act) {
  const made = Object.assign(document.createElement("button"), { type: "button", className: "small plain", textContent: label });
  made.setAttribute("aria-label", `${label}: ${name}`);
  made.addEventListener("click", act);
  return made;
}

function sizeOf(bytes) {
  const [size, unit] = UNITS.find(([size]) => bytes >= size) ?? [1, "bytes"];
  return `${(bytes / size).toLocaleString("en", { maximumFractionDigits: 1 })} ${unit}`;
}

customElements.define("file-field", FileField);
