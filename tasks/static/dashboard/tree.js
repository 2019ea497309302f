// The page of a tree: applies the events of its run. It never polls the server.

import { isTerminal, partsOf, STATUSES, statusOf, sumOf, wordOf } from "./boxes.js";
import { isLost, onReturn, showButtons } from "./connection.js";
import { eventLogOf } from "./event_log.js";
import { draw, HIGHEST, READABLE, showTooltip } from "./graph.js";
import { findIn } from "./find.js";
import { growthOf } from "./growth.js";
import { groupsOf, placesOf } from "./outline.js";
import { countQuestions, isChanged, showClocks } from "./page.js";
import { partOf } from "./part.js";
import { follow } from "./stream.js";
import { duration, timelineOf } from "./timeline.js";
import { zoomOf } from "./zoom.js";

const page = document.querySelector("#tree");
const data = JSON.parse(document.querySelector("#graph-data").textContent);
const isLarge = data.range !== undefined; // then only the rows in view and the tasks near the selected one are known (picture.py)
const names = new Map(); // of a large tree: id → name of each task that has been loaded
let tasks = filledIn(data.tasks); // those that are drawn, then those that boxes stand for
let numbers = numbersOf(tasks);
let parts = partsOf(tasks);
let below = childrenOf(tasks);
relook(tasks.keys());
const MOST_AT_ONCE = 250; // events: the rest waits for the next frame
const TICK_MS = 200;
const HEAD_REST_MS = 250; // minimum time between two reloads of the head
const PANEL_REST_MS = 1000; // the same, for the panel of a box, and for the head of a large tree
const CHOICE_REST_MS = 150; // before a large tree is loaded around another task

const title = document.title;
const skew = data.now_ms - Date.now();
const serverNow = () => Date.now() + skew;
const now = () => serverNow() - data.created_ms;
const urlOf = (id) => page.dataset.page + encodeURIComponent(id);
const timeline = timelineOf(page.querySelector("[data-lines]"), page.querySelector("[data-axis]"), { span: Number(page.dataset.span), isOpen: data.is_running, range: data.range, load: () => growth.now() });
const eventLog = eventLogOf(page.querySelector("[data-log]"), {
  nameOf: (id) => tasks[numbers.get(id)]?.name ?? names.get(id) ?? id,
  most: isLarge ? 100 : 500,
});
let waiting = waiters();
const head = document.querySelector("#tree-head");
const asking = new Set([...head.querySelectorAll(".asking [data-task]")].map((link) => link.dataset.task));
const isPanelBelow = matchMedia("(max-width: 1080px)"); // as in tree.css
const panel = document.querySelector("#panel");
panel.dataset.shown = panel.dataset.selected;
const loadHead = partOf(head, { shown: headShown, failed: () => {} });
const loadPanel = partOf(panel, { shown: panelShown, failed: panelFailed, isKept: isFillingIn });
let headTimer = null;
let panelTimer = null;
const frame = page.querySelector("[data-graph-frame]");
const zoom = zoomOf(frame, frame.querySelector("[data-graph]"), { readable: READABLE, highest: HIGHEST });
const folded = new Set(); // the ids of folded groups
frame.addEventListener("pointerover", showTooltip);
let groups = new Map();
let graph = null;
let shape = "";
let drawing = Promise.resolve();
let late = []; // the events since the tree was asked for again
const folds = { open: new Set(data.opened), shut: new Set(data.closed) };
const growth = growthOf(loadGrowth);
let chosen = numbers.get(document.querySelector("#panel").dataset.selected);
const news = [];
let found = null; // the numbers of the tasks that the search finds
let jumps = 0; // to tasks whose rows are not in view
let shownJumps = 0;
let wantedRow = null; // the number of a row that is selected when it is loaded
let choiceTimer = null;
let centered = null; // the id of the task that was selected when the graph was drawn
const large = isLarge ? { search: searchLarge, state: () => ({ all: data.range.total, at: timeline.has(chosen) ? timeline.numberOf(chosen) : data.range.place }), go: goTo } : null;
const search = findIn(page.querySelector("[data-find-bar]"), { all: () => tasks, chosen: () => chosen, show: showFound, choose: (n) => choose(n), large });

// The server leaves out what is empty (graph.py).
function filledIn(all) {
  if (isLarge) all.forEach(({ id, name }) => names.set(id, name));
  return all.map((task) => ({ progress: 0, parent: null, executor: null, needs: [], likes: [], after: [], ...task }));
}

// --- looks: a root has the status of its run, a group that of its children (growth.py) ---

function childrenOf(all) {
  const found = all.map(() => []);
  all.forEach(({ parent }, n) => { if (parent !== null) found[parent].push(n); });
  return found;
}

function lookOf(n) {
  const { status, parent, executor, box, shown } = tasks[n];
  if (parent === null && n < data.drawn && data.run_status) return data.run_status;
  if (isLarge) return shown ?? status;
  if (executor !== null || box || !below[n].length || !["pending", "in_progress", "completed"].includes(status)) return status;
  const looks = new Set(below[n].map((each) => tasks[each].look));
  return statusOf(status === "completed" ? looks : looks.add(status));
}

// Updates the looks of these tasks, and of those above whose looks follow from them. Returns those that have changed.
function relook(some) {
  const changed = new Set();
  for (let next = new Set(some); next.size;) {
    const above = new Set();
    for (const n of next) {
      const look = lookOf(n);
      if (look === tasks[n].look) continue;
      tasks[n].look = look;
      changed.add(n);
      if (tasks[n].parent !== null) above.add(tasks[n].parent);
    }
    next = above;
  }
  return changed;
}

// --- dependencies ---

function numbersOf(all) {
  return new Map(all.map((task, n) => [task.id, n]));
}

function waiters() {
  const left = tasks.map(() => new Set());
  const below = tasks.map(() => []);
  const wait = (n, other) => { if (!isTerminal(tasks[other].status)) { left[n].add(other); below[other].push(n); } };
  tasks.slice(0, data.drawn).forEach(({ needs, likes, parent }, n) => {
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
  const events = news.splice(0, MOST_AT_ONCE);
  if (news.length) requestAnimationFrame(showNews);
  if (growth.isBusy()) late.push(...events);
  const changed = applied(events);
  eventLog.add(events);
  if (events.some(({ type }) => type === "task_spawned" || (isLarge && type.startsWith("task_") && type !== "task_progress"))) growth.soon();
  showCounts();
  const last = events.at(-1);
  if (changed.has(chosen) && !isFillingIn()) showPanel(chosen);
  else showRelations();
  if (tasks[chosen].box && [...changed].some((n) => tasks[n].of === chosen)) showPanelSoon();
  if (events.filter(agesHead).length) refreshHead();
  const final = events.find(({ type }) => type === "final");
  if (final) end(final);
  else document.title = `${Math.round(last.tree_progress * 100)} % · ${title}`;
}

// Applies events, and returns the numbers of the tasks that they are about.
function applied(events) {
  const changed = new Set();
  for (const event of events) {
    const n = numbers.get(event.task_id);
    if (n !== undefined && event.type !== "final") apply(event, n);
    changed.add(n);
  }
  changed.delete(undefined);
  if (data.run_status === "pending" && events.some(({ type }) => type === "task_start")) data.run_status = "in_progress";
  showLooks(changed);
  showSums([...changed].flatMap((n) => [n, tasks[n].of]));
  search.soon();
  return changed;
}

// Shows these tasks, and those whose looks follow from theirs.
function showLooks(some) {
  for (const n of new Set([...some, ...relook([tasks.findIndex(({ parent }) => parent === null), ...some])])) {
    timeline.show(n, tasks[n], tasks[n].look === "not_run" ? stopperOf(n) : "");
    if (n < data.drawn) graph?.show(n);
  }
}

// The name of the first dependency because of which a task was not run (picture.py).
function stopperOf(n) {
  return tasks[tasks[n].needs.find((other) => ["failed", "not_run", "cancelled"].includes(tasks[other].status))]?.name;
}

// Shows how far the parts of these boxes are.
function showSums(some) {
  for (const n of new Set(some)) {
    if (n >= data.drawn || !tasks[n]?.box) continue;
    const sum = tasks[n].box.sum ?? sumOf(tasks[n], parts.get(n), tasks);
    timeline.sum(n, sum);
    if (sum.count) graph?.sum(n, sum);
  }
  graph?.sumGroups(some);
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
  const status = event.not_run ? "not_run" : event.status === "failed" && task.may_fail ? "handled" : event.status;
  if (task.status === status) return;
  task.status = status;
  if (!isTerminal(status)) return;
  timeline.close(n, at);
  for (const freed of waiting.freedBy(n)) timeline.open(freed, "wait", at);
}

// Updates the statuses of the selected task's dependencies and dependents.
function showRelations() {
  for (const link of document.querySelectorAll("#panel .relations [data-task]")) {
    const { look: status } = tasks[numbers.get(link.dataset.task)] ?? {};
    if (!status) continue; // it has been added since
    const mark = link.previousElementSibling;
    mark.className = `status ${status}`;
    mark.querySelector("use").setAttribute("href", `#i-${status}`);
    mark.querySelector("svg").setAttribute("aria-label", wordOf(status));
  }
}

// A question, or another wait, is a log event with such a message.
function asks({ type, message }) {
  return type === "log" && /^waiting (for an answer|for the event|for [\d.e+]+ s|until \d)/.test(message);
}

// Whether the event outdates the head: a new failure, question or wait, its end, or the first start.
function agesHead(event) {
  if (asks(event)) return asking.add(event.task_id);
  if (asking.delete(event.task_id) || (event.type === "task_failed" && !event.not_run)) return true;
  return event.type === "task_start" && head.querySelector("[data-tree-status] .pending") !== null;
}

function refreshHead() {
  headTimer ??= setTimeout(() => {
    headTimer = null;
    loadHead(page.dataset.head);
  }, isLarge ? PANEL_REST_MS : HEAD_REST_MS);
}

function end(final) {
  const at = Math.max(0, Date.parse(final.timestamp) - data.created_ms);
  clearInterval(ticking);
  timeline.end(at);
  data.run_status = final.status;
  showLooks([]);
  document.querySelector(".message.start")?.remove();
  document.title = `${{ completed: "✓", failed: "✗", cancelled: "⊘" }[final.status]} ${title}`;
  refreshHead();
  showPanel(chosen);
  isLarge ? growth.now() : growth.finish();
}

function showCounts() {
  const counts = countsNow();
  const total = STATUSES.reduce((sum, status) => sum + counts[status], 0);
  const done = STATUSES.filter(isTerminal).reduce((sum, status) => sum + counts[status], 0);
  page.querySelector("[data-done]").textContent = countsText(counts, total, done);
  const running = tasks.filter(({ status }) => status === "in_progress");
  const progress = isLarge ? data.progress : running.reduce((sum, task) => sum + task.progress, 0) / (running.length || 1);
  let x = 0;
  const rects = STATUSES.flatMap((status) => {
    const width = (100 * counts[status]) / total;
    const done = status === "in_progress" ? width * progress : width;
    const parts = [part(status, x, done), part(`${status} rest`, x + done, width - done)];
    x += width;
    return parts;
  });
  page.querySelector("[data-strip]").replaceChildren(...rects);
}

function countsNow() {
  const counts = Object.fromEntries(STATUSES.map((status) => [status, 0]));
  if (isLarge) return Object.assign(counts, data.counts);
  const counted = tasks.filter(({ at, is_template: isTemplate, status }) => at !== -1 && !(isTemplate && status === "skipped")); // as in boxes.py
  for (const { status } of counted) counts[status] += 1;
  return counts;
}

// As `words.counts`.
function countsText(counts, total, done) {
  const named = (...some) => some.filter((status) => counts[status]).map((status) => `${counts[status].toLocaleString("en")} ${status === "not_run" ? "not run" : status}`);
  const bad = named("failed", "not_run", "cancelled", "handled");
  if (bad.length && done === total) return [...named("completed"), ...bad, ...named("skipped")].join(" · ");
  return [`${done.toLocaleString("en")} of ${total.toLocaleString("en")} task${total === 1 ? "" : "s"}`, ...bad].join(" · ");
}

function part(kind, x, width) {
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [name, value] of Object.entries({ class: kind, x, width, height: 1 })) rect.setAttribute(name, value);
  return rect;
}

// --- boxes, and growth ---

function addressOf(base, id) {
  const query = new URLSearchParams(["open", "shut"].flatMap((name) => [...folds[name]].map((each) => [name, each])));
  if (base === page.dataset.page && tasks[numbers.get(id)].parent === null) query.set("root", ""); // not the first failure
  return base + encodeURIComponent(id) + (query.size ? `?${query}` : "");
}

async function loadGrowth() {
  late = [];
  const [asked, jump, row] = [tasks[chosen].id, jumps, wantedRow];
  const address = new URL(addressOf(page.dataset.growth, asked), location);
  if (isLarge) {
    if (row !== null) timeline.reveal(row); // a load that was under way may have scrolled elsewhere
    if (row !== null || jump === shownJumps) address.searchParams.set("from", timeline.start());
    for (const [name, value] of Object.entries(search.wanted())) if (value) address.searchParams.set(name, value);
  }
  const reply = await fetch(address);
  if (!reply.ok || reply.redirected) return location.reload();
  const fresh = await reply.json();
  if (isLarge !== (fresh.graph.range !== undefined)) return location.reload(); // it has grown large
  if (asked !== tasks[chosen].id && isLarge && !fresh.graph.tasks.some(({ id }) => id === tasks[chosen].id)) return growth.now(); // another one is selected meanwhile
  showGrowth(fresh);
  if (!isLarge) return;
  if (row === null && jump !== shownJumps) timeline.reveal(data.range.place);
  shownJumps = jump;
  if (row === null || row !== wantedRow) return; // the next load has the one that is wanted meanwhile
  wantedRow = null;
  choose(timeline.at(row));
}

// Shows the first of the tasks of a large tree that the search finds.
function searchLarge() {
  timeline.reveal(0);
  growth.now();
}

// Selects the task in the row with this number, which is loaded if it is not.
function goTo(number) {
  timeline.reveal(number);
  const n = timeline.at(number);
  if (n !== undefined) return choose(n);
  wantedRow = number;
  growth.now();
}

function showGrowth({ graph: fresh, lines, span }) {
  const selected = tasks[chosen].id;
  const refocus = focusKept();
  Object.assign(data, fresh);
  tasks = filledIn(data.tasks);
  numbers = numbersOf(tasks);
  parts = partsOf(tasks);
  below = childrenOf(tasks);
  relook(tasks.keys());
  waiting = waiters();
  chosen = numbers.get(selected) ?? numbers.get(data.range?.at) ?? 0;
  timeline.replace(lines, span, data.range);
  redraw().then(refocus);
  applied(late.filter(({ seq }) => seq > data.seq));
  showCounts();
  search.again();
  timeline.choose(chosen);
  if (tasks[chosen].box) showPanelSoon();
}

function showFound(numbersFound) {
  found = numbersFound && new Set(numbersFound);
  timeline.find(numbersFound, tasks, urlOf);
  graph?.find(found);
}

// Returns a function that gives the focus to what had it, if that has been written again meanwhile.
function focusKept() {
  const focused = document.activeElement?.closest?.("[data-fold], [data-group], [data-lines] a, [data-graph] a");
  if (!focused) return () => {};
  const place = focused.closest("[data-lines], [data-graph]");
  const name = ["data-fold", "data-group", "href"].find((each) => focused.hasAttribute(each));
  const value = focused.getAttribute(name);
  return () => {
    if (!focused.isConnected) (place.querySelector(`[${name}="${CSS.escape(value)}"]`) ?? place).focus({ preventScroll: true });
  };
}

// Lays the graph out again if it has other boxes or edges.
function redraw() {
  const drawn = tasks.slice(0, data.drawn);
  groups = isLarge ? new Map() : groupsOf(drawn);
  const shut = new Set([...folded].map((id) => numbers.get(id)).filter((n) => groups.has(n)));
  const place = placesOf(drawn, shut);
  timeline.fold([...groups.keys()].map((n) => ({ n, name: tasks[n].name, id: tasks[n].id, isOpen: !shut.has(n) })), (n) => place[n] !== n);
  const wanted = JSON.stringify([[...shut], drawn.map(({ id, name, executor, parent, needs, likes, after, is_template, box }) => [id, name, executor, parent, needs, likes, after, is_template, box?.is_open, !box?.count])]);
  if (wanted === shape) {
    showGraph(graph);
    return drawing;
  }
  const isFirst = !shape;
  shape = wanted;
  graph = null; // its numbers are those of other tasks
  drawing = drawing.then(async () => {
    const made = await draw(frame, zoom, drawn, { urlOf, groups, folded: shut, keep: !isFirst });
    if (shape === wanted) showGraph(made, { isFirst });
  });
  return drawing;
}

function showGraph(made, { isFirst = false } = {}) {
  graph = made;
  graph?.update(tasks);
  for (let n = 0; n < data.drawn; n += 1) graph?.show(n);
  showSums([...tasks.slice(0, data.drawn).keys()]);
  graph?.choose(chosen, { scroll: false });
  graph?.find(found);
  if (isFirst) graph?.center(matter());
  else if (isLarge && centered !== tasks[chosen].id) graph?.center(chosen);
  centered = tasks[chosen].id;
}

// What one wants to see first: the selected task, what runs, or the beginning.
function matter() {
  if (tasks[chosen].parent !== null) return chosen;
  const running = tasks.findIndex(({ status, parent, executor }, n) => n < data.drawn && status === "in_progress" && parent !== null && executor !== null);
  if (running !== -1) return running;
  const first = tasks.findIndex(({ needs, likes, after }, n) => n < data.drawn && n !== chosen && !needs.length && !likes.length && !after.length);
  return first === -1 ? chosen : first;
}

function foldGroup(id) {
  const n = numbers.get(id);
  folded.has(id) ? folded.delete(id) : folded.add(id);
  for (let around = tasks[chosen].parent; around !== null && folded.has(id); around = tasks[around].parent) {
    if (around === n) choose(n);
  }
  const refocus = focusKept();
  redraw().then(refocus);
}

function fold(id) {
  const { box } = tasks[numbers.get(id)];
  const [to, from] = box.is_open ? [folds.shut, folds.open] : [folds.open, folds.shut];
  to.add(id);
  from.delete(id);
  if (box.is_open && isWithin(chosen, numbers.get(id))) choose(numbers.get(id));
  growth.now();
}

function isWithin(n, box) {
  for (let around = tasks[n].of; around !== undefined; around = tasks[around].of) if (around === box) return true;
  return false;
}

// Opens the boxes around a task that is not drawn.
function reveal(n) {
  for (let around = tasks[n].of; around !== undefined; around = tasks[around].of) folds.shut.delete(tasks[around].id);
  if (isLarge) {
    if (!timeline.has(n)) jumps += 1;
    clearTimeout(choiceTimer);
    choiceTimer = setTimeout(() => growth.now(), CHOICE_REST_MS);
    return;
  }
  if (n >= data.drawn) return growth.now();
  let wasFolded = false;
  for (let around = tasks[n].parent; around !== null; around = tasks[around].parent) wasFolded = folded.delete(tasks[around].id) || wasFolded;
  if (wasFolded) redraw().then(() => graph?.choose(n));
}

// --- the selected task ---

function showPanel(n) {
  if (n !== undefined) loadPanel(page.dataset.panel + encodeURIComponent(tasks[n].id));
}

// What was there is of another task, or out of date.
function panelFailed(reason) {
  if (panel.dataset.shown === tasks[chosen].id) return; // the page says that the connection is lost
  const [heading, text] = ["h2", "p"].map((name) => document.createElement(name));
  heading.textContent = tasks[chosen].name;
  text.textContent = `${reason} The details of this task appear when the server is back.`;
  text.className = "muted";
  panel.replaceChildren(heading, text);
  delete panel.dataset.shown;
}

// Whether a question in the panel is being answered: news must not clear its form.
function isFillingIn() {
  const task = tasks[chosen];
  const fields = [...panel.querySelectorAll(".question :is(input:not([type=hidden]), textarea, select)")];
  return panel.dataset.shown === task.id && task.status === "in_progress" && fields.some(isChanged);
}

// The panel of a map, loop or spawner, which its parts change.
function showPanelSoon() {
  panelTimer ??= setTimeout(() => {
    panelTimer = null;
    showPanel(chosen);
  }, PANEL_REST_MS);
}

function choose(n, { isNew = true } = {}) {
  if (n === undefined) return;
  const isOther = n !== chosen;
  chosen = n;
  timeline.choose(n);
  graph?.choose(n);
  reveal(n);
  search.tell();
  if (isNew) history.replaceState(null, "", addressOf(page.dataset.page, tasks[n].id));
  if (isOther) showPanel(n);
}

page.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  const toggle = event.target.closest("[data-fold], [data-group]");
  const mark = event.target.closest("[data-task], [data-lines] a");
  const n = mark?.dataset.task === undefined ? Number(mark?.closest("tr").dataset.n) : numbers.get(mark.dataset.task);
  if (!toggle && (!mark || n === undefined)) return; // a link to a task that has just been added loads the page
  event.preventDefault();
  if (toggle) return toggled(toggle);
  choose(n);
  if (isPanelBelow.matches && event.isTrusted) document.querySelector("#panel").scrollIntoView();
});

page.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const toggle = event.target.closest("g.fold"); // buttons of HTML have this by themselves
  const box = event.target.closest("[data-graph] a[data-task]");
  if (toggle && ["Enter", " "].includes(event.key)) toggled(toggle);
  else if (box && event.key.startsWith("Arrow")) graph?.step(box, event.key);
  else return;
  event.preventDefault();
});

function toggled({ dataset }) {
  dataset.fold ? fold(dataset.fold) : foldGroup(dataset.group);
}

// --- start ---

function headShown() {
  showClocks(head);
  showButtons(head);
  countQuestions(Number(head.firstElementChild.dataset.asked));
  showCounts(); // the stream may have changed the counts meanwhile
}

function panelShown() {
  panel.dataset.shown = tasks[chosen].id;
  showClocks(panel);
  showButtons(panel);
}

onReturn(() => {
  if (isLarge) growth.now();
  refreshHead();
  showPanel(chosen);
});
page.querySelector("[data-left-out]").hidden = true; // that is for pages without scripts
redraw().then(() => performance.mark("graph"));
let stream;
let ticking;
function awaitNextRun(address) {
  // Reloads the page when the tree is started again, here or elsewhere.
  follow(address, () => location.reload());
}

if (data.is_running) {
  stream = follow(page.dataset.events, take, { inBackground: true }); // the title shows the progress
  ticking = setInterval(() => {
    if (isLost()) return; // the clocks stop
    timeline.grow(now());
    const elapsed = head.querySelector("[data-since]");
    if (elapsed) elapsed.textContent = duration(Math.max(0, serverNow() - Number(elapsed.dataset.since)) / 1000);
  }, TICK_MS);
} else {
  awaitNextRun(page.dataset.next);
}
