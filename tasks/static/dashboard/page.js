// Every page: keyboard shortcuts, copy buttons, and relative times that are updated.

import { isLost } from "./connection.js";
import { preference } from "./preferences.js";

const KEYS = [["/", "Search"], ["f", "Find a task in the tree"], ["j  k", "Next, previous"], ["Enter", "Open"], ["r", "Run or retry"], ["c", "Cancel"], ["d", "Differences from the run before"], ["e", "Edit"], ["n", "New task"], ["1 … 9, 0", "Pages of the menu"], ["?", "Show shortcuts"]];
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];

function isTyping(target) {
  return target.matches("input:not([type=checkbox], [type=radio]), select, textarea, [contenteditable]");
}

function move(step) {
  const links = [...document.querySelectorAll("[data-lines] a, .trees td.name a, .keys td.name > a, .open-group")].filter((link) => link.checkVisibility());
  if (!links.length) return;
  const focused = links.indexOf(document.activeElement);
  const here = focused < 0 ? links.findIndex((link) => link.getAttribute("aria-current") === "true") : focused;
  const next = links[Math.min(links.length - 1, Math.max(0, here + step))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
  if (next.matches("[data-lines] a:not([data-opens])")) next.click();
}

function showKeys() {
  let dialog = document.querySelector("#keys");
  if (!dialog) {
    dialog = document.createElement("dialog");
    dialog.id = "keys";
    dialog.setAttribute("aria-label", "Keyboard shortcuts");
    const list = document.createElement("dl");
    for (const [key, meaning] of KEYS) {
      const row = list.appendChild(document.createElement("div"));
      row.appendChild(document.createElement("dt")).appendChild(document.createElement("kbd")).textContent = key;
      row.appendChild(document.createElement("dd")).textContent = meaning;
    }
    const off = Object.assign(document.createElement("p"), { className: "muted small", textContent: "Settings can turn them off." });
    dialog.append(Object.assign(document.createElement("h2"), { textContent: "Keyboard shortcuts" }), list, off);
    dialog.addEventListener("click", () => dialog.close());
    document.body.append(dialog);
  }
  dialog.open ? dialog.close() : dialog.showModal();
}

function press(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTyping(event.target)) {
    if (event.key !== "Escape") return;
    event.target.blur();
    event.preventDefault(); // Escape would clear the search field
    return;
  }
  if (preference("shortcuts") === "off") return;
  const withKey = `[data-key="${CSS.escape(event.key)}"]`;
  const target = event.target.closest("tr, li")?.querySelector(withKey) ?? document.querySelector(withKey); // that of the focused row first
  const isInTrace = event.target.closest(".trace tbody");
  if (event.key === "?") showKeys();
  else if (event.key === "j" || (isInTrace && event.key === "ArrowDown")) move(1);
  else if (event.key === "k" || (isInTrace && event.key === "ArrowUp")) move(-1);
  else if (event.key === "/" && !target) location.assign("/ui/tasks/#search");
  else if (target) target.matches("input") ? target.focus() : target.click();
  else return;
  event.preventDefault();
}

async function copy(button) {
  button.dataset.was ??= button.innerHTML;
  button.dataset.label ??= button.getAttribute("aria-label") ?? "";
  const text = await textFor(button);
  button.removeAttribute("aria-label"); // so that the outcome is its name
  if (text === null) button.textContent = "The server cannot be reached";
  else button.textContent = (await isOnClipboard(text)) || isCopiedBySelection(text, button) ? "Copied" : "Copy failed. Select the text.";
  setTimeout(() => {
    button.innerHTML = button.dataset.was;
    if (button.dataset.label) button.setAttribute("aria-label", button.dataset.label);
  }, 1400);
}

// Null: the server is not reached.
async function textFor({ dataset, parentElement }) {
  if (dataset.copyFrom === undefined) return dataset.copy ?? parentElement.querySelector("pre").textContent;
  try {
    const reply = await fetch(dataset.copyFrom);
    return reply.ok ? await reply.text() : null;
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}

// Browsers allow clipboard access only to pages served over TLS or from localhost.
async function isOnClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

// The field is placed beside the button, because a dialog traps the focus.
function isCopiedBySelection(text, button) {
  const field = Object.assign(document.createElement("textarea"), { value: text, readOnly: true, className: "visually-hidden" });
  button.after(field);
  field.select();
  const isCopied = document.execCommand("copy");
  field.remove();
  button.focus();
  return isCopied;
}

function ago(moment) {
  const seconds = Math.floor((Date.now() - moment) / 1000);
  if (seconds < 5) return "just now";
  if (seconds >= 30 * 86400) return null;
  const [size, unit] = UNITS.find(([size]) => seconds >= size);
  return `${Math.floor(seconds / size)} ${unit} ago`;
}

function updateTimes() {
  if (isLost()) return;
  for (const time of document.querySelectorAll("time[datetime]:not([data-clock])")) {
    const text = ago(Date.parse(time.dateTime));
    if (text) time.textContent = text;
  }
}

// Shows a time in the browser's time zone, and in UTC as a tooltip: to the minute, with the day unless it is today, or to the millisecond.
export function clock(time) {
  const moment = new Date(time.dateTime);
  const two = (number) => String(number).padStart(2, "0");
  const minute = `${two(moment.getHours())}:${two(moment.getMinutes())}`;
  const isToday = moment.toDateString() === new Date().toDateString();
  if (time.dataset.clock === "minute") time.textContent = minute;
  else if (time.dataset.clock === "day") time.textContent = isToday ? minute : `${moment.toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short" })}, ${minute}`;
  else time.textContent = `${minute}:${two(moment.getSeconds())}.${String(moment.getMilliseconds()).padStart(3, "0")}`;
  time.title = moment.toISOString().replace("T", " ").replace("Z", " UTC");
  time.dataset.clock = "";
}

export function showClocks(part) {
  part.querySelectorAll("time[data-clock]").forEach(clock);
  part.querySelectorAll("time[data-date]").forEach(date);
  for (const option of part.querySelectorAll("option[data-moment]")) {
    option.textContent = shown(new Date(option.dataset.moment), "2-digit") + option.dataset.rest;
  }
}

// Shows a date and time in the browser's time zone, and in UTC as a tooltip.
function date(time) {
  const moment = new Date(time.dateTime);
  time.title = time.textContent;
  time.textContent = shown(moment, "seconds" in time.dataset ? "2-digit" : undefined);
  delete time.dataset.date;
}

function shown(moment, second) {
  return moment.toLocaleString("en-GB", { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second });
}

// Whether the user has changed this field of a form.
export function isChanged(field) {
  if (!(field instanceof HTMLSelectElement)) return field.value !== field.defaultValue;
  return !(field.querySelector("option[selected]") ?? field.options[0]).selected;
}

// Updates the number of open questions in the navigation.
export function countQuestions(number) {
  const badge = document.querySelector("[data-questions]");
  if (!badge) return;
  badge.textContent = number;
  badge.hidden = number === 0;
}

document.addEventListener("keydown", press);
document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-copy], [data-copy-text], [data-copy-from]");
  if (button) copy(button);
});
setInterval(updateTimes, 10_000);
showClocks(document);
if (location.hash === "#search") document.querySelector("#search")?.focus();
// The field with which a form begins. Not by autofocus, which does nothing if the address has a fragment, and before the
// end of loading the fragment takes the focus away.
addEventListener("load", () => {
  const first = document.querySelector("[data-start] :is(input:not([type=hidden]), select, textarea)");
  first?.focus();
  first?.select?.();
});
