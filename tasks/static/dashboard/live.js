// Pages that show a list: a stream says when runs have started or ended, and the page then loads its live parts again.

import { isLost } from "./connection.js";
import { showClocks } from "./page.js";
import { follow } from "./stream.js";
import { duration } from "./timeline.js";

const REST_MS = 2000;
const TICK_MS = 1000;
const live = document.querySelector("[data-live]");
let isDue = false;
let isLoading = false;
let isPressed = false;

async function load() {
  if (isLoading || isPressed || !isDue) return;
  [isDue, isLoading] = [false, true];
  const page = await newPage();
  if (page && !isPressed) page.querySelectorAll("[data-part]").forEach(show);
  else if (page) isDue = true;
  setTimeout(() => {
    isLoading = false;
    load();
  }, REST_MS);
}

// Null: the server is not reached, or the session has ended. The stream says so.
async function newPage() {
  try {
    const reply = await fetch(location.href);
    return reply.ok && !reply.redirected ? new DOMParser().parseFromString(await reply.text(), "text/html") : null;
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}

// What was selected and focused stays so.
function show(part) {
  const old = document.getElementById(part.id);
  if (!old || old.innerHTML === part.innerHTML) return;
  const chosen = new Set([...old.querySelectorAll("input:checked")].map((box) => box.value));
  const focused = old.contains(document.activeElement) ? keyOf(document.activeElement) : null;
  old.replaceChildren(...part.childNodes);
  for (const box of old.querySelectorAll("input[name]")) box.checked = chosen.has(box.value);
  if (focused) [...old.querySelectorAll("a, input, button")].find((each) => keyOf(each) === focused)?.focus();
  showClocks(old);
  document.dispatchEvent(new Event("live"));
}

function keyOf(element) {
  return element.getAttribute("href") ?? `${element.name} ${element.value}`;
}

function tick() {
  if (isLost()) return;
  for (const time of live.querySelectorAll("[data-since]")) {
    time.textContent = duration(Math.max(0, Date.now() - Date.parse(time.dataset.since)) / 1000);
  }
}

follow(live.dataset.live, () => {
  isDue = true;
  load();
});
document.addEventListener("pointerdown", () => (isPressed = true));
for (const end of ["pointerup", "pointercancel", "dragend"]) {
  document.addEventListener(end, () => setTimeout(() => {
    isPressed = false;
    load();
  }));
}
setInterval(tick, TICK_MS);
