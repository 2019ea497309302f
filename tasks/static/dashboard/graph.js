// The dependency graph as SVG. Many similar tasks are drawn as one box of small squares.

import { STATUSES, statusOf, sumOfTasks, wordOf } from "./boxes.js";
import { outline } from "./outline.js";

const SVG = "http://www.w3.org/2000/svg";
const BOX = { width: 204, height: 44 };
const GROWING = { width: 224, height: 64 }; // a map, loop or spawner with parts, or a folded group
const TOGGLE = 26;
const CELL = 11;
const PITCH = 14;
const MARGIN = 12;
const TITLE = 26;
const MOST_NODES = 600;
const FEW_NODES = 40;
const SMALL_TEXT = 12; // as in tree.css; at READABLE it is 11 pixels high
export const READABLE = 11.1 / SMALL_TEXT;
export const HIGHEST = 472;

const ruler = document.createElement("canvas").getContext("2d");

function sizeOf(members, tasks, folded) {
  if (members.length === 1) return tasks[members[0]].box?.count || folded.has(members[0]) ? GROWING : BOX;
  const columns = Math.ceil(Math.sqrt(members.length * 1.8));
  const rows = Math.ceil(members.length / columns);
  return { width: Math.max(BOX.width, columns * PITCH + 2 * MARGIN - 3), height: rows * PITCH + TITLE + MARGIN, columns };
}

// `groups` has the tasks below each group that can be folded, `folded` those that are. Null: too large, or one box only.
export async function draw(frame, zoom, tasks, { urlOf, groups, folded, keep }) {
  const figure = frame.querySelector("[data-graph]");
  const { nodes, edges, nodeOf, place } = outline(tasks, folded);
  if (nodes.length > MOST_NODES || (nodes.length === 1 && tasks.length === 1)) {
    frame.hidden = true;
    return null;
  }
  const sizes = nodes.map((members) => sizeOf(members, tasks, folded));
  const plan = await laidOut(sizes, edges);
  const places = plan.places.map(({ x, y }, number) => ({ x: x - sizes[number].width / 2, y: y - sizes[number].height / 2, ...sizes[number] }));
  const svg = element("svg", { viewBox: `0 0 ${plan.width} ${plan.height}` });
  const paths = edges.map((edge, number) => svg.appendChild(drawEdge(edge, plan.ways[number])));
  const marks = [];
  const centers = [];
  nodes.forEach((members, number) => {
    const { x, y, width, height } = places[number];
    const [n] = members;
    const drawn = members.length > 1 ? drawCluster(members, sizes[number], tasks, urlOf, marks) : drawOne(n, tasks, { urlOf, groups, folded });
    drawn.setAttribute("transform", `translate(${x} ${y})`);
    if (members.length === 1) marks[n] = drawn;
    members.forEach((each, at) => { centers[each] = members.length === 1 ? { x: x + width / 2, y: y + height / 2 } : centerOfCell(at, places[number]); });
    svg.append(drawn);
  });
  frame.hidden = false;
  figure.replaceChildren(svg);
  figure.classList.toggle("calm", nodes.length > FEW_NODES);
  zoom.show(svg, plan, places, { keep });
  return graphOf({ tasks, marks, centers, edges, paths, nodes, nodeOf, place, figure, zoom, groups });
}

function drawOne(n, tasks, { urlOf, groups, folded }) {
  const task = tasks[n];
  if (task.box?.count) return drawBox(task, urlOf, { isOpen: task.box.is_open, fold: { "data-fold": task.id } });
  if (folded.has(n)) return drawBox(task, urlOf, { isOpen: false, fold: { "data-group": task.id } });
  return drawTask(task, urlOf, groups.has(n) ? { "data-group": task.id } : null);
}

function centerOfCell(at, { x, y, columns }) {
  return { x: x + MARGIN + (at % columns) * PITCH + CELL / 2, y: y + TITLE + Math.floor(at / columns) * PITCH + CELL / 2 };
}

async function laidOut(nodes, edges) {
  if (nodes.length <= FEW_NODES) return (await import("./layout.js")).placed(nodes, edges);
  const worker = new Worker(new URL("layout_worker.js", import.meta.url), { type: "module" });
  return new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => { worker.terminate(); resolve(data); };
    worker.onerror = reject;
    worker.postMessage({ nodes, edges });
  });
}

function graphOf({ tasks, marks, centers, edges, paths, nodes, nodeOf, place, figure, zoom, groups }) {
  let current = null; // the box that the Tab key leads to
  const stale = new Set(); // boxes whose dot on the map and whose edges are out of date
  const edgesOf = nodes.map(() => []);
  const isBlocked = nodes.map(() => false);
  edges.forEach(({ from, to }, number) => [from, to].forEach((node) => edgesOf[node].push(number)));

  function focusable(n) {
    if (current !== null) linkOf(marks[current])?.setAttribute("tabindex", "-1");
    current = n;
    linkOf(marks[n])?.setAttribute("tabindex", "0");
  }

  function showDots() {
    for (const number of stale) {
      const status = statusOf(new Set(nodes[number].map((n) => tasks[n].look)));
      zoom.dot(number, status);
      isBlocked[number] = status === "not_run";
      for (const edge of edgesOf[number]) paths[edge].classList.toggle("blocked", isBlocked[edges[edge].from] || isBlocked[edges[edge].to]);
    }
    stale.clear();
  }

  return {
    zoom,
    // The same tasks, as the server sees them now.
    update(fresh) { tasks = fresh; },
    show(n) {
      const mark = marks[n];
      if (!mark) return; // a closed box stands for it
      const { look, status, progress } = tasks[n];
      if (!mark.classList.contains(look)) {
        mark.classList.remove(...STATUSES);
        mark.classList.add(look);
        mark.querySelector("use")?.setAttribute("href", `#i-${look}`);
        if (mark.matches(".cell")) mark.setAttribute("aria-label", titleOf(tasks[n]));
        const title = mark.querySelector("title");
        if (title) title.textContent = titleOf(tasks[n]);
      }
      mark.querySelector(".done")?.setAttribute("width", status === "in_progress" ? progress * BOX.width : 0);
      if (!stale.size) requestAnimationFrame(showDots);
      stale.add(nodeOf[n]); // a task that is drawn is in a box
    },
    sum(n, sum) {
      if (marks[n]) showSum(marks[n], sum);
    },
    // Shows how far the folded groups around these tasks are.
    sumGroups(some) {
      for (const n of new Set([...some].map((each) => place[each]).filter((each) => each !== undefined && groups.has(each)))) {
        if (marks[n]?.querySelector(".sum")) showSum(marks[n], sumOfTasks(below(n).map((each) => tasks[each])));
      }
    },
    choose(n, { scroll = true, center = false } = {}) {
      const at = place[n] ?? n;
      marks.forEach((mark, number) => mark.classList.toggle("selected", number === at));
      edges.forEach(({ from, to }, number) => paths[number].classList.toggle("near", from === nodeOf[at] || to === nodeOf[at]));
      if (scroll && centers[at]) zoom.reveal(centers[at], { center });
      if (marks[at]) focusable(at);
      figure.dataset.chosen = n;
    },
    center(n) {
      if (centers[place[n]]) zoom.reveal(centers[place[n]], { center: true });
    },
    // Marks the tasks that are found, and dims the others. Null: no search.
    find(found) {
      figure.classList.toggle("searched", found !== null);
      marks.forEach((mark, n) => mark.classList.toggle("found", found !== null && (found.has(n) || (groups.has(n) && place.some((at, each) => at === n && found.has(each))))));
    },
    // Moves the focus to the next box in a direction.
    step(from, key) {
      const n = marks.findIndex((mark) => mark === from || mark?.contains(from));
      const next = nextIn(centers, marks, n, key);
      if (next === null) return;
      focusable(next);
      linkOf(marks[next]).focus({ preventScroll: true });
      zoom.reveal(centers[next]);
    },
  };

  function below(n) {
    return place.flatMap((at, each) => (at === n && each !== n ? [each] : []));
  }
}

function linkOf(mark) {
  return mark?.matches("a") ? mark : mark?.querySelector("a");
}

// The nearest box in the direction of an arrow key; what is aside counts as further away.
function nextIn(centers, marks, n, key) {
  const [along, aside, sign] = { ArrowRight: ["x", "y", 1], ArrowLeft: ["x", "y", -1], ArrowDown: ["y", "x", 1], ArrowUp: ["y", "x", -1] }[key];
  let best = null;
  let least = Infinity;
  marks.forEach((_, other) => {
    const ahead = sign * (centers[other][along] - centers[n][along]);
    const far = ahead + 2 * Math.abs(centers[other][aside] - centers[n][aside]);
    if (ahead > 1 && far < least) [best, least] = [other, far];
  });
  return best;
}

function drawTask(task, urlOf, fold) {
  const below = task.is_template ? "template" : task.executor ?? task.box?.kind;
  const link = element("a", { href: urlOf(task.id), "data-task": task.id, tabindex: "-1" });
  const node = fold ? element("g", {}) : link;
  node.setAttribute("class", `node ${task.look}${task.is_template ? " template" : ""}${isWhole(task) ? " whole" : ""}`);
  const room = BOX.width - 46 - (fold ? TOGGLE - 8 : 0);
  link.append(
    titled(task),
    element("rect", { class: "box", ...BOX, rx: 8 }),
    element("rect", { class: "done", x: 0, y: BOX.height - 3, height: 3, rx: 1.5, width: task.status === "in_progress" ? task.progress * BOX.width : 0 }),
    icon(task.look, { x: 11, y: below ? 8 : 14 }),
    text(fitting(task.name, 500, 13, "Inter", room), { x: 34, y: below ? 20 : 27 }),
  );
  if (below) link.append(text(fitting(below, 400, SMALL_TEXT, "JetBrains Mono", room), { x: 34, y: 36, class: "by" }));
  if (fold) node.append(link, toggleOf(task, BOX.width, { isOpen: true, fold }));
  return node;
}

// A map, loop, spawner or folded group: the state of its parts, and a button that opens or closes it.
function drawBox(task, urlOf, { isOpen, fold }) {
  const node = element("g", { class: `node growing ${task.look}${isWhole(task) ? " whole" : ""}` });
  const link = element("a", { href: urlOf(task.id), "data-task": task.id, tabindex: "-1" });
  const name = fitting(task.name, 500, 13, "Inter", GROWING.width - 46 - TOGGLE);
  link.append(
    titled(task),
    element("rect", { class: "box", ...GROWING, rx: 8 }),
    icon(task.look, { x: 11, y: 8 }),
    text(name, { x: 34, y: 20 }),
    element("text", { x: 34, y: 36, class: "sum" }),
    element("svg", { class: "parts", x: 12, y: 46, width: GROWING.width - 24, height: 6, viewBox: "0 0 100 1", preserveAspectRatio: "none" }),
  );
  if (!isOpen) node.append(element("rect", { class: "behind", x: 4, y: 4, ...GROWING, rx: 8 }));
  node.append(link, toggleOf(task, GROWING.width, { isOpen, fold }));
  return node;
}

function toggleOf({ name }, width, { isOpen, fold }) {
  const toggle = element("g", { class: "fold", role: "button", tabindex: "0", ...fold, "aria-expanded": isOpen, "aria-label": `Parts of ${name}` });
  const chevron = element("svg", { class: "i", x: width - TOGGLE + 2, y: 9, width: 14, height: 14, viewBox: "0 0 16 16" });
  chevron.append(element("use", { href: "#i-chevron" }));
  toggle.append(element("rect", { x: width - TOGGLE - 2, y: 4, width: 24, height: 24, rx: 5 }), chevron);
  return toggle;
}

function showSum(node, { text: words, failed, counts, count }) {
  const line = node.querySelector(".sum");
  if (!line) return;
  line.textContent = failed && count >= 1000 ? words.replace(/ \w+$/, "") : words; // for want of room
  if (failed) line.append(Object.assign(element("tspan", { class: "bad" }), { textContent: ` · ${failed.toLocaleString("en")} failed` }));
  let x = 0;
  const rects = STATUSES.flatMap((status) => {
    const width = (100 * (counts[status] ?? 0)) / count;
    x += width;
    return width ? [element("rect", { class: status, x: x - width, width, height: 1 })] : [];
  });
  node.querySelector(".parts").replaceChildren(...rects);
}

function drawCluster(members, size, tasks, urlOf, marks) {
  const node = element("g", { class: "node cluster" });
  const title = `${members.length} × ${tasks[members[0]].executor ?? "group"}`;
  node.append(element("rect", { class: "box", width: size.width, height: size.height, rx: 8 }), text(title, { x: MARGIN, y: 18, class: "by" }));
  members.forEach((n, number) => {
    const cell = element("a", { class: `cell ${tasks[n].look}`, href: urlOf(tasks[n].id), "data-task": tasks[n].id, tabindex: "-1", "aria-label": titleOf(tasks[n]) });
    const [column, row] = [number % size.columns, Math.floor(number / size.columns)];
    cell.append(element("rect", { x: MARGIN + column * PITCH, y: TITLE + row * PITCH, width: CELL, height: CELL, rx: 2.5 }));
    marks[n] = cell;
    node.append(cell);
  });
  return node;
}

// A cell gets its tooltip when it is pointed at: ten thousand titles would cost a tenth of a second.
export function showTooltip({ target }) {
  const cell = target.closest?.(".cell");
  if (!cell || cell.querySelector("title")) return;
  cell.prepend(Object.assign(element("title", {}), { textContent: cell.getAttribute("aria-label") }));
}

function drawEdge({ kind }, points) {
  const [first, ...rest] = points;
  let [x, y] = [first.x, first.y];
  let way = `M${x} ${y}`;
  for (const point of rest) {
    const middle = (x + point.x) / 2;
    way += `C${middle} ${y} ${middle} ${point.y} ${point.x} ${point.y}`;
    [x, y] = [point.x, point.y];
  }
  return element("path", { class: `edge ${kind}`, d: way });
}

// In its own svg, so that it can rotate around its center.
function icon(status, place) {
  const frame = element("svg", { class: "icon", ...place, width: 16, height: 16, viewBox: "0 0 16 16" });
  frame.append(element("use", { href: `#i-${status}`, width: 16, height: 16 }));
  return frame;
}

function titled(task) {
  const title = element("title", {});
  title.textContent = titleOf(task);
  return title;
}

function titleOf({ name, look }) {
  return `${name}: ${wordOf(look)}`;
}

// A root or group shows how others are.
function isWhole({ parent, executor, box }) {
  return parent === null || (executor === null && !box);
}

function text(content, attributes) {
  const node = element("text", attributes);
  node.textContent = content;
  return node;
}

function fitting(content, weight, size, family, width) {
  ruler.font = `${weight} ${size}px "${family}", sans-serif`;
  if (ruler.measureText(content).width <= width) return content;
  let end = Math.min(content.length, 60);
  while (end > 1 && ruler.measureText(`${content.slice(0, end)}…`).width > width) end -= 1;
  return `${content.slice(0, end).trimEnd()}…`;
}

function element(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}
