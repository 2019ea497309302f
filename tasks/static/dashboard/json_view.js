// JSON that folds: `<json-view>` around what the server has written. Disclosures need no script for keys and screen readers.

const FEW_LINES = 6; // shorter values stay as they are
const OPEN_LINES = 24; // so many lines are open at first
const PIECE = 100; // entries of a list or object that are written at once

class JsonView extends HTMLElement {
  connectedCallback() {
    const text = this.querySelector("pre");
    if (!text || this.querySelector(".json")) return;
    if (this.hasAttribute("whole")) {
      if (text.textContent.split("\n").length >= FEW_LINES) this.show(parsed(text.textContent));
      return;
    }
    this.querySelector("[data-show-all]")?.addEventListener("click", (event) => this.load(event.currentTarget));
  }

  async load(button) {
    button.disabled = true;
    try {
      const reply = await fetch(this.getAttribute("src"));
      if (!reply.ok) throw new TypeError(reply.statusText);
      const isText = reply.headers.get("Content-Type").startsWith("text/");
      const text = await reply.text();
      button.closest("p").remove();
      if (isText) this.querySelector("pre").textContent = text;
      else this.show(parsed(text));
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      button.disabled = false;
      button.textContent = "The server cannot be reached. Try again";
    }
  }

  show(value) {
    const tree = document.createElement("div");
    tree.className = "code json";
    const room = { lines: OPEN_LINES };
    tree.append(nodeOf(null, value, room, true));
    this.querySelector("pre").replaceWith(tree);
  }
}

// A number that JavaScript would change, as 12345678901234567890, keeps its digits.
class Exact {
  constructor(digits) { this.digits = digits; }
}

function parsed(text) {
  return JSON.parse(text, (_, value, context) => (typeof value === "number" && context?.source !== undefined && context.source !== String(value) ? new Exact(context.source) : value));
}

function nodeOf(key, value, room, isLast) {
  const entries = value !== null && typeof value === "object" && !(value instanceof Exact) ? Object.entries(value) : [];
  if (!entries.length) return leafOf(key, value, isLast);
  const [opening, closing] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  const node = document.createElement("details");
  const head = node.appendChild(document.createElement("summary"));
  head.append(...keyOf(key), part("punctuation", opening), part("size", sizeOf(value, entries.length)), part("punctuation end", closing + (isLast ? "" : ",")));
  const body = node.appendChild(document.createElement("div"));
  const foot = node.appendChild(document.createElement("div"));
  foot.className = "foot";
  foot.textContent = closing + (isLast ? "" : ",");
  let isWritten = false;
  const write = () => {
    if (isWritten) return;
    isWritten = true;
    more(body, entries, Array.isArray(value), 0, room);
  };
  if (room.lines >= Math.min(entries.length, PIECE)) {
    room.lines -= Math.min(entries.length, PIECE);
    node.open = true;
    write();
  }
  node.addEventListener("toggle", () => { room.lines = 0; if (node.open) write(); });
  return node;
}

function more(body, entries, isList, start, room) {
  const end = Math.min(entries.length, start + PIECE);
  for (let n = start; n < end; n += 1) body.append(nodeOf(isList ? null : entries[n][0], entries[n][1], room, n === entries.length - 1));
  if (end === entries.length) return;
  const button = body.appendChild(document.createElement("button"));
  Object.assign(button, { type: "button", className: "small", textContent: `Show more: ${(entries.length - end).toLocaleString("en")} are left` });
  button.addEventListener("click", () => {
    button.remove();
    more(body, entries, isList, end, { lines: 0 });
    body.children[end]?.querySelector("summary")?.focus();
  });
}

function leafOf(key, value, isLast) {
  const leaf = document.createElement("div");
  const kind = value === null ? "null" : value instanceof Exact ? "number" : typeof value;
  leaf.append(...keyOf(key), part(kind, value?.digits ?? JSON.stringify(value)), ...(isLast ? [] : [part("punctuation", ",")]));
  return leaf;
}

function keyOf(key) {
  return key === null ? [] : [part("key", JSON.stringify(key)), part("punctuation", ": ")];
}

function sizeOf(value, count) {
  const [one, many] = Array.isArray(value) ? ["item", "items"] : ["key", "keys"];
  return ` ${count.toLocaleString("en")} ${count === 1 ? one : many} `;
}

function part(kind, text) {
  return Object.assign(document.createElement("span"), { className: kind, textContent: text });
}

customElements.define("json-view", JsonView);
