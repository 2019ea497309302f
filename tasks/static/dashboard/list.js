// The list: the stream sends rows as rendered by the server, which replace the old rows.

import { isLost } from "./connection.js";
import { countQuestions } from "./page.js";
import { follow } from "./stream.js";
import { duration } from "./timeline.js";

const MOST_ROWS = 50;
const TICK_MS = 1000;

let stream;

function listen() {
  stream?.close();
  const listing = document.querySelector("#listing");
  const ids = [...listing.querySelectorAll("tbody tr")].map((row) => `id=${encodeURIComponent(row.dataset.id)}`);
  stream = follow(`${listing.dataset.live}?${ids.join("&")}`, take);
}

function take({ id, html, questions }) {
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

listen();
document.addEventListener("htmx:afterSettle", listen);
setInterval(tick, TICK_MS);
