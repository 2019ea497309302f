// The list: the stream sends rows as rendered by the server, which replace the old rows.

import { isLost } from "./connection.js";
import { countQuestions } from "./page.js";
import { follow } from "./stream.js";
import { duration } from "./timeline.js";

const MOST_ROWS = 50;
const TICK_MS = 1000;

let stream;
let isPressed = false;
const held = [];

function listen() {
  stream?.close();
  const listing = document.querySelector("#listing");
  const ids = [...listing.querySelectorAll("tbody tr")].map((row) => `id=${encodeURIComponent(row.dataset.id)}`);
  stream = follow(`${listing.dataset.live}?${ids.join("&")}`, take);
}

// A click is lost if its row is replaced between the press and the release.
function take(news) {
  if (isPressed) held.push(news);
  else show(news);
}

function release() {
  isPressed = false;
  held.splice(0).forEach(show);
}

function show({ id, html, questions }) {
  if (questions !== undefined) return countQuestions(questions);
  const listing = document.querySelector("#listing");
  const body = listing.querySelector("tbody");
  const holder = document.createElement("template");
  holder.innerHTML = html;
  const row = holder.content.querySelector("tr");
  const old = body && [...body.rows].find((each) => each.dataset.id === id);
  if (old) {
    const hadFocus = old.contains(document.activeElement);
    old.replaceWith(row);
    if (hadFocus) row.querySelector("a").focus();
  } else if ("takesNew" in listing.dataset) {
    if (!body) return location.reload();
    body.prepend(row);
    if (body.rows.length > MOST_ROWS) body.lastElementChild.remove();
  }
}

function tick() {
  if (isLost()) return;
  for (const time of document.querySelectorAll("#listing [data-since]")) {
    time.textContent = duration(Math.max(0, Date.now() - Date.parse(time.dataset.since)) / 1000);
  }
}

// htmx listens from here on, and would not notice what was typed before.
function searchWhatWasTyped() {
  const search = document.querySelector("#search");
  if (search.value !== search.defaultValue) {
    search.form.elements.status.dispatchEvent(new Event("change", { bubbles: true }));
  }
}

listen();
addEventListener("DOMContentLoaded", searchWhatWasTyped);
document.addEventListener("pointerdown", () => (isPressed = true));
for (const end of ["pointerup", "pointercancel", "dragend"]) document.addEventListener(end, () => setTimeout(release));
addEventListener("blur", release);
document.addEventListener("htmx:afterSettle", listen);
setInterval(tick, TICK_MS);
