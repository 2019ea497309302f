// The page of a tree: applies the events of its run. It never polls the server.

import { draw } from "./graph.js";
import { clock, countQuestions, showClocks } from "./page.js";
import { follow } from "./stream.js";
import { duration, timelineOf } from "./timeline.js";

const page = document.querySelector("#tree");
const data = JSON.parse(document.querySelector("#graph-data").textContent);
const { tasks } = data;
const numbers = new Map(tasks.map((task, n) => [task.id, n]));
const words = { in_progress: "running" };
const isTerminal = (status) => ["completed", "failed", "cancelled", "skipped"].includes(status);
const ORDER = ["completed", "failed", "cancelled", "skipped", "in_progress", "pending"];
const LOG_LINES = 500;
const TICK_MS = 200;
const HEAD_REST_MS = 250; // minimum time between two reloads of the head

const title = document.title;
const skew = data.now_ms - Date.now();
const serverNow = () => Date.now() + skew;
const now = () => serverNow() - data.created_ms;
const urlOf = (id) => page.dataset.page + encodeURIComponent(id);
const timeline = timelineOf(page.querySelector("[data-lines]"), page.querySelector("[data-axis]"), { span: Number(page.dataset.span), isOpen: data.is_running });
const waiting = waiters();
const head = document.querySelector("#tree-head");
const asking = new Set([...head.querySelectorAll(".asking [data-task]")].map((link) => link.dataset.task));
const isPanelBelow = matchMedia("(max-width: 1080px)"); // as in tree.css
let headTimer = null;
let graph = null;
let chosen = numbers.get(document.querySelector("#panel").dataset.selected);
let news = [];

// --- dependencies ---

function waiters() {
  const left = tasks.map(() => new Set());
  const below = tasks.map(() => []);
  const wait = (n, other) => { if (!isTerminal(tasks[other].status)) { left[n].add(other); below[other].push(n); } };
  tasks.forEach(({ needs, likes, parent }, n) => {
    [...needs, ...likes].forEach((other) => wait(n, other));
    if (parent !== null && tasks[parent].executor === null) wait(parent, n);
  });
  return {
    // Returns the tasks that become ready when this one ends.
    freedBy: (n) => below[n].filter((other) => left[other].delete(n) && !left[other].size && tasks[other].status === "pending"),
  };
}

// --- events ---

function take(event) {
  if (event.type === "final") {
    stream.close(); // otherwise it would reconnect to a finished run
    awaitNextRun(page.dataset.next);
  }
  if (!news.length) requestAnimationFrame(showNews);
  news.push(event);
}

function showNews() {
  const events = news;
  news = [];
  const changed = new Set();
  for (const event of events) {
    const n = numbers.get(event.task_id);
    if (n !== undefined && event.type !== "final") apply(event, n);
    changed.add(n);
  }
  changed.delete(undefined);
  if (graph) changed.forEach((n) => graph.show(n));
  log(events);
  showCounts();
  const last = events.at(-1);
  if (changed.has(chosen)) showPanel(chosen);
  else showRelations();
  if (events.filter(agesHead).length) refreshHead();
  const final = events.find(({ type }) => type === "final");
  if (final) end(final);
  else document.title = `${Math.round(last.tree_progress * 100)} % · ${title}`;
}

function apply(event, n) {
  const task = tasks[n];
  const at = Math.max(0, Date.parse(event.timestamp) - data.created_ms);
  task.progress = event.progress;
  if (event.type === "task_start") {
    timeline.open(n, "last", at);
  } else if (event.type === "task_retry") {
    timeline.open(n, "pause", at);
  }
  if (task.status === event.status) return;
  task.status = event.status;
  timeline.show(n, { status: task.status, label: words[task.status] ?? task.status }, isTerminal(task.status) ? at : undefined);
  if (!isTerminal(task.status)) return;
  for (const freed of waiting.freedBy(n)) timeline.open(freed, "wait", at);
}

// Updates the statuses of the selected task's dependencies and dependents.
function showRelations() {
  for (const link of document.querySelectorAll("#panel .relations [data-task]")) {
    const { status } = tasks[numbers.get(link.dataset.task)];
    const mark = link.previousElementSibling;
    mark.className = `status ${status}`;
    mark.querySelector("use").setAttribute("href", `#i-${status}`);
    mark.querySelector("svg").setAttribute("aria-label", words[status] ?? status);
  }
}

// A question is a log event with this message.
function asks({ type, message }) {
  return type === "log" && message.startsWith("waiting for an answer");
}

// Whether the event outdates the head: a new failure or question, an answer, or the first start.
function agesHead(event) {
  if (asks(event)) return asking.add(event.task_id);
  if (asking.delete(event.task_id) || event.type === "task_failed") return true;
  return event.type === "task_start" && head.querySelector("[data-tree-status] .pending") !== null;
}

// Waits until an open menu or dialog is closed.
function refreshHead() {
  headTimer ??= setTimeout(() => {
    headTimer = null;
    const open = head.querySelector(":popover-open");
    open ? open.addEventListener("toggle", refreshHead, { once: true }) : refresh(page.dataset.head, "#tree-head");
  }, HEAD_REST_MS);
}

function end(final) {
  const at = Math.max(0, Date.parse(final.timestamp) - data.created_ms);
  clearInterval(ticking);
  timeline.end(at);
  document.title = `${{ completed: "✓", failed: "✗", cancelled: "⊘" }[final.status]} ${title}`;
  refreshHead();
  showPanel(chosen);
}

function showCounts() {
  const counts = Object.fromEntries(ORDER.map((status) => [status, 0]));
  for (const { status } of tasks) counts[status] += 1;
  const done = ORDER.slice(0, 3).reduce((sum, status) => sum + counts[status], 0);
  page.querySelector("[data-done]").textContent = `${done} of ${tasks.length} tasks`;
  const running = tasks.filter(({ status }) => status === "in_progress");
  const progress = running.reduce((sum, task) => sum + task.progress, 0) / (running.length || 1);
  let x = 0;
  const rects = ORDER.flatMap((status) => {
    const width = (100 * counts[status]) / tasks.length;
    const done = status === "in_progress" ? width * progress : width;
    const parts = [part(status, x, done), part(`${status} rest`, x + done, width - done)];
    x += width;
    return parts;
  });
  page.querySelector("[data-strip]").replaceChildren(...rects);
}

function part(kind, x, width) {
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ class: kind, x, width, height: 1 })) rect.setAttribute(name, value);
  return rect;
}

function log(events) {
  const list = page.querySelector("[data-log]");
  const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 30;
  const fresh = events.slice(-LOG_LINES);
  const isFull = list.childElementCount + fresh.length - LOG_LINES;
  for (let left = isFull; left > 0; left -= 1) list.firstElementChild.remove();
  list.append(...fresh.map(line));
  if (isAtEnd) list.scrollTop = list.scrollHeight;
}

function line(event) {
  const item = document.createElement("li");
  item.className = event.status;
  const parts = { time: "", what: event.type, which: tasks[numbers.get(event.task_id)]?.name ?? event.task_id, said: event.error || event.message };
  for (const [name, text] of Object.entries(parts)) {
    const part = item.appendChild(document.createElement(name === "time" ? "time" : "span"));
    if (name === "time") {
      part.dateTime = event.timestamp;
      clock(part);
    } else {
      part.className = name;
      part.textContent = text;
    }
  }
  return item;
}

// --- the selected task ---

function refresh(address, target) {
  // Each part of the page is the source of its own requests, so requests for different parts do not replace each other.
  // A request that is replaced by a newer one for the same part is rejected, which is ignored here.
  htmx.ajax("GET", address, { source: target, target, swap: "innerHTML" }).catch(() => {});
}

function showPanel(n) {
  if (n !== undefined) refresh(page.dataset.panel + encodeURIComponent(tasks[n].id), "#panel");
}

function choose(n, { isNew = true } = {}) {
  if (n === undefined) return;
  const isOther = n !== chosen;
  chosen = n;
  timeline.choose(n);
  graph?.choose(n);
  if (!isOther) return;
  showPanel(n);
  if (isNew) history.replaceState(null, "", urlOf(tasks[n].id));
}

page.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  const mark = event.target.closest("[data-task], [data-lines] a");
  if (!mark) return;
  event.preventDefault();
  choose(mark.dataset.task === undefined ? Number(mark.closest("tr").dataset.n) : numbers.get(mark.dataset.task));
  if (isPanelBelow.matches && event.isTrusted) document.querySelector("#panel").scrollIntoView();
});

// --- start ---

page.addEventListener("htmx:afterSwap", (event) => {
  showClocks(event.target);
  if (event.target !== head) return;
  countQuestions(Number(head.firstElementChild.dataset.asked));
  showCounts(); // the stream may have changed the counts meanwhile
});
const log_ = page.querySelector("[data-log]");
log_.scrollTop = log_.scrollHeight;
draw(page.querySelector("[data-graph]"), tasks, urlOf).then((drawn) => {
  graph = drawn;
  graph?.choose(chosen);
  tasks.forEach((_, n) => graph?.show(n));
  performance.mark("graph");
});
let stream;
let ticking;
function awaitNextRun(address) {
  // Reloads the page when the tree is started again, here or elsewhere.
  follow(address, () => location.reload());
}

if (data.is_running) {
  stream = follow(page.dataset.events, take, { inBackground: true }); // the title shows the progress
  ticking = setInterval(() => {
    timeline.grow(now());
    const elapsed = head.querySelector("[data-since]");
    if (elapsed) elapsed.textContent = duration(Math.max(0, serverNow() - Number(elapsed.dataset.since)) / 1000);
  }, TICK_MS);
} else {
  awaitNextRun(page.dataset.next);
}
