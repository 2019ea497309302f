// A text field for JSON: line numbers, colours, and the line of each fault. The field stays a plain <textarea>.

import { scan } from "./json_scan.js";

const MOST_PAINTED = 100_000; // characters

export function editorOf(field) {
  const problem = field.closest(".field").querySelector("[data-json-problem]");
  const frame = document.createElement("div");
  const [gutter, paint] = ["gutter", "paint"].map((name) => Object.assign(document.createElement("pre"), { className: name, ariaHidden: "true" }));
  frame.className = "json-editor";
  field.before(frame);
  frame.append(gutter, paint);
  moveInto(frame, field);
  field.wrap = "off";
  let places = new Map();

  function show() {
    const { value } = field;
    const found = scan(value);
    if (field.dataset.json === "optional" && !value.trim()) found.fault = null;
    ({ places } = found);
    paint.replaceChildren(...(value.length > MOST_PAINTED ? [] : painted(value, found.tokens)));
    frame.classList.toggle("plain", value.length > MOST_PAINTED);
    const wrong = found.fault ? lineAt(found.fault.at) : 0;
    const count = value.split("\n").length;
    gutter.replaceChildren(...Array.from({ length: count }, (_, n) => Object.assign(document.createElement("span"), { textContent: n + 1, className: n + 1 === wrong ? "wrong" : "" })));
    follow();
    return found.fault;
  }

  // Says what is wrong while the user types.
  function check() {
    const fault = show();
    problem.replaceChildren(...(fault ? [linkTo(fault.at), `: ${fault.message}.`] : []));
    field.closest(".field").classList.toggle("wrong", fault !== null);
    field.setAttribute("aria-invalid", fault !== null);
  }

  function follow() {
    gutter.scrollTop = paint.scrollTop = field.scrollTop;
    paint.scrollLeft = field.scrollLeft;
  }

  function lineAt(offset) {
    return field.value.slice(0, offset).split("\n").length;
  }

  // A button that puts the cursor there.
  function linkTo(offset) {
    const column = offset - field.value.lastIndexOf("\n", offset - 1);
    const button = Object.assign(document.createElement("button"), { type: "button", className: "to-line", textContent: `Line ${lineAt(offset)}, column ${column}` });
    button.addEventListener("click", () => {
      field.focus();
      field.setSelectionRange(offset, offset);
      field.scrollTop = (lineAt(offset) - 5) * parseFloat(getComputedStyle(field).lineHeight);
    });
    return button;
  }

  // The line of a value, or of the nearest one around it.
  function placeOf(path) {
    for (let part = path; part; part = part.replace(/(\.[^.[\]]*|\[\d+\]|.)$/, "")) if (places.has(part)) return places.get(part);
    return null;
  }

  field.addEventListener("input", check);
  field.addEventListener("scroll", follow, { passive: true });
  show();
  for (const item of document.querySelectorAll("[data-where]")) {
    const at = placeOf(item.dataset.where);
    if (at !== null) item.append(" ", linkTo(at));
  }
}

// A field that is moved loses the focus, and a user who has begun to type what follows.
function moveInto(frame, field) {
  const hasFocus = document.activeElement === field;
  const { selectionStart, selectionEnd, selectionDirection } = field;
  frame.append(field);
  if (!hasFocus) return;
  field.focus({ preventScroll: true });
  field.setSelectionRange(selectionStart, selectionEnd, selectionDirection);
}

function painted(text, tokens) {
  const parts = [];
  let at = 0;
  for (const { kind, start, end } of tokens) {
    if (start > at) parts.push(text.slice(at, start));
    parts.push(kind === "punctuation" ? text.slice(start, end) : Object.assign(document.createElement("span"), { className: kind, textContent: text.slice(start, end) }));
    at = end;
  }
  return [...parts, `${text.slice(at)}\n`];
}
