// The dependency graph. Many tasks with the same dependencies and dependents are drawn as one box of small squares.

const SVG = "http://www.w3.org/2000/svg";
const BOX = { width: 190, height: 44 };
const GROWING = { width: 224, height: 64 }; // a map, loop or spawner with parts
const TOGGLE = 26;
const CELL = 11;
const PITCH = 14;
const MARGIN = 12;
const TITLE = 26;
const MANY = 8;
const TOO_MANY = 120; // boxes: above this, tasks at the same depth share a box
const MOST_NODES = 600;
const FEW_NODES = 40;
const SMALLEST = 0.55; // below this, names are unreadable, so the graph scrolls instead
const PADDING = 16;
const HIGHEST = 440;

const ruler = document.createElement("canvas").getContext("2d");

// Boxes and edges of the graph: `nodes` are lists of task numbers, `edges` refer to node numbers.
export function outline(tasks) {
  const ways = waysOf(tasks);
  const leadsTo = tasks.map(() => []);
  ways.forEach(({ from, to }) => leadsTo[from].push(to));
  let nodes = boxes(tasks, ({ parent, executor, needs, likes, after }, n) => [parent, executor, needs, likes, after, leadsTo[n]]);
  const isLarge = nodes.length > TOO_MANY;
  if (isLarge) {
    const ranks = ranksOf(tasks, ways);
    nodes = boxes(tasks, ({ parent, executor }, n) => [ranks[n], parent, executor]);
  }
  const nodeOf = [];
  nodes.forEach((members, node) => members.forEach((n) => { nodeOf[n] = node; }));
  const edges = new Map();
  for (const { from, to, kind } of isLarge ? ways : [...ways, ...hintsOf(tasks, ways)]) {
    const [a, b] = [nodeOf[from], nodeOf[to]];
    if (a !== b && !edges.has(`${a} ${b}`)) edges.set(`${a} ${b}`, { from: a, to: b, kind });
  }
  return { nodes, edges: [...edges.values()], nodeOf };
}

// The order of execution: dependencies, and groups, which wait for children without other dependents.
function waysOf(tasks) {
  const ways = tasks.flatMap(({ needs, likes, after, box }, n) => [
    ...after.map((other) => ({ from: other, to: n, kind: "" })),
    ...(waitsForParts(box) ? [] : needs).map((other) => ({ from: other, to: n, kind: "" })),
    ...(waitsForParts(box) ? [] : likes).map((other) => ({ from: other, to: n, kind: "optional" })),
  ]);
  const awaited = new Set(ways.map(({ from }) => from));
  const groups = tasks.flatMap(({ parent }, n) => ((isGroup(tasks, parent) || isLoop(tasks, parent)) && !awaited.has(n) ? [{ from: n, to: parent, kind: "hint" }] : []));
  return [...ways, ...groups];
}

// A task without dependencies or dependents is drawn after its parent.
function hintsOf(tasks, ways) {
  const joined = new Set(ways.flatMap(({ from, to }) => [from, to]));
  return tasks.flatMap(({ parent }, n) => (parent !== null && !joined.has(n) ? [{ from: parent, to: n, kind: "hint" }] : []));
}

function isGroup(tasks, n) {
  return n !== null && tasks[n].executor === null;
}

// The parts of an open map or loop come between what it needs and itself.
function waitsForParts(box) {
  return Boolean(box?.count && box.is_open && box.kind !== "spawner");
}

function isLoop(tasks, n) {
  return n !== null && tasks[n].box?.kind === "loop";
}

function boxes(tasks, trait) {
  const groups = new Map();
  tasks.forEach((task, n) => {
    const alike = task.box ? n : JSON.stringify(trait(task, n));
    groups.has(alike) ? groups.get(alike).push(n) : groups.set(alike, [n]);
  });
  return [...groups.values()].flatMap((members) => (members.length < MANY ? members.map((n) => [n]) : [members]));
}

// The depth of each task: the length of the longest chain before it.
function ranksOf(tasks, ways) {
  const ranks = tasks.map(() => 0);
  const left = tasks.map(() => 0);
  const leadsTo = tasks.map(() => []);
  for (const { from, to } of ways) {
    left[to] += 1;
    leadsTo[from].push(to);
  }
  const ready = tasks.flatMap((_, n) => (left[n] ? [] : [n]));
  for (const n of ready) {
    for (const next of leadsTo[n]) {
      ranks[next] = Math.max(ranks[next], ranks[n] + 1);
      left[next] -= 1;
      if (!left[next]) ready.push(next);
    }
  }
  return ranks;
}

export function sizeOf(members, tasks) {
  if (members.length === 1) return tasks[members[0]].box?.count ? GROWING : BOX;
  const columns = Math.ceil(Math.sqrt(members.length * 1.8));
  const rows = Math.ceil(members.length / columns);
  return { width: Math.max(BOX.width, columns * PITCH + 2 * MARGIN - 3), height: rows * PITCH + TITLE + MARGIN, columns };
}

export async function draw(figure, tasks, urlOf) {
  const { nodes, edges, nodeOf } = outline(tasks);
  if (nodes.length > MOST_NODES || nodes.length === 1 && tasks.length === 1) {
    figure.hidden = true;
    return null;
  }
  const sizes = nodes.map((members) => sizeOf(members, tasks));
  const plan = await laidOut(sizes, edges);
  figure.hidden = false;
  const scale = Math.max(SMALLEST, Math.min(1, (figure.clientWidth - 2 * PADDING) / plan.width, HIGHEST / plan.height));
  const svg = element("svg", { width: plan.width * scale, height: plan.height * scale, viewBox: `0 0 ${plan.width} ${plan.height}` });
  const paths = edges.map((edge, number) => svg.appendChild(drawEdge(edge, plan.ways[number])));
  const marks = [];
  nodes.forEach((members, number) => {
    const place = { x: plan.places[number].x - sizes[number].width / 2, y: plan.places[number].y - sizes[number].height / 2 };
    const only = members.length === 1 ? tasks[members[0]] : null;
    const drawn = only?.box?.count ? drawBox(only, urlOf) : only ? drawTask(only, urlOf) : drawCluster(members, sizes[number], tasks, urlOf, marks);
    drawn.setAttribute("transform", `translate(${place.x} ${place.y})`);
    if (members.length === 1) marks[members[0]] = drawn;
    svg.append(drawn);
  });
  figure.replaceChildren(svg);
  figure.classList.toggle("calm", nodes.length > FEW_NODES);
  return graphOf({ tasks, marks, edges, paths, nodeOf, svg, figure });
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

function graphOf({ tasks, marks, edges, paths, nodeOf, figure }) {
  return {
    // The same tasks, as the server sees them now.
    update(fresh) { tasks = fresh; },
    show(n) {
      const mark = marks[n];
      if (!mark) return; // a closed box stands for it
      const { status, progress } = tasks[n];
      mark.classList.remove("pending", "in_progress", "completed", "failed", "cancelled", "skipped");
      mark.classList.add(status);
      mark.querySelector("use")?.setAttribute("href", `#i-${status}`);
      mark.querySelector(".done")?.setAttribute("width", status === "in_progress" ? progress * BOX.width : 0);
      mark.querySelector("title").textContent = titleOf(tasks[n]);
    },
    sum(n, sum) {
      if (marks[n]) showSum(marks[n], sum);
    },
    choose(n, { scroll = true } = {}) {
      marks.forEach((mark, number) => mark.classList.toggle("selected", number === n));
      edges.forEach(({ from, to }, number) => paths[number].classList.toggle("near", from === nodeOf[n] || to === nodeOf[n]));
      if (scroll) marks[n]?.scrollIntoView({ block: "nearest", inline: "nearest" });
      figure.dataset.chosen = n;
    },
  };
}

function drawTask(task, urlOf) {
  const below = task.is_template ? "template" : task.executor ?? task.box?.kind;
  const node = element("a", { class: `node ${task.status}${task.is_template ? " template" : ""}`, href: urlOf(task.id), "data-task": task.id });
  node.append(
    titled(task),
    element("rect", { class: "box", ...BOX, rx: 8 }),
    element("rect", { class: "done", x: 0, y: BOX.height - 3, height: 3, rx: 1.5, width: task.status === "in_progress" ? task.progress * BOX.width : 0 }),
    icon(task.status, { x: 11, y: below ? 8 : 14 }),
    text(fitting(task.name, 500, 12.5, "Inter", BOX.width - 46), { x: 34, y: below ? 20 : 27 }),
  );
  if (below) node.append(text(fitting(below, 400, 10.5, "JetBrains Mono", BOX.width - 46), { x: 34, y: 35, class: "by" }));
  return node;
}

// A map, loop or spawner: the state of its parts, and a button that opens or closes it.
function drawBox(task, urlOf) {
  const node = element("g", { class: `node growing ${task.status}` });
  const link = element("a", { href: urlOf(task.id), "data-task": task.id });
  const name = fitting(task.name, 500, 12.5, "Inter", GROWING.width - 46 - TOGGLE);
  link.append(
    titled(task),
    element("rect", { class: "box", ...GROWING, rx: 8 }),
    icon(task.status, { x: 11, y: 8 }),
    text(name, { x: 34, y: 20 }),
    element("text", { x: 34, y: 36, class: "sum" }),
    element("svg", { class: "parts", x: 12, y: 46, width: GROWING.width - 24, height: 6, viewBox: "0 0 100 1", preserveAspectRatio: "none" }),
  );
  if (!task.box.is_open) node.append(element("rect", { class: "behind", x: 4, y: 4, ...GROWING, rx: 8 }));
  node.append(link, toggleOf(task));
  return node;
}

function toggleOf({ id, name, box }) {
  const toggle = element("g", { class: "fold", role: "button", tabindex: "0", "data-fold": id, "aria-expanded": box.is_open, "aria-label": `Parts of ${name}` });
  const chevron = element("svg", { class: "i", x: GROWING.width - TOGGLE + 2, y: 9, width: 14, height: 14, viewBox: "0 0 16 16" });
  chevron.append(element("use", { href: "#i-chevron" }));
  toggle.append(element("rect", { x: GROWING.width - TOGGLE - 2, y: 4, width: 22, height: 24, rx: 5 }), chevron);
  return toggle;
}

function showSum(node, { text: words, failed, counts, count }) {
  const line = node.querySelector(".sum");
  if (!line) return;
  line.textContent = failed && count >= 1000 ? words.replace(/ \w+$/, "") : words; // for want of room
  if (failed) line.append(Object.assign(element("tspan", { class: "bad" }), { textContent: ` · ${failed.toLocaleString("en")} failed` }));
  let x = 0;
  const rects = ["completed", "failed", "cancelled", "skipped", "in_progress", "pending"].flatMap((status) => {
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
    const cell = element("a", { class: `cell ${tasks[n].status}`, href: urlOf(tasks[n].id), "data-task": tasks[n].id, tabindex: "-1" });
    const [column, row] = [number % size.columns, Math.floor(number / size.columns)];
    cell.append(titled(tasks[n]), element("rect", { x: MARGIN + column * PITCH, y: TITLE + row * PITCH, width: CELL, height: CELL, rx: 2.5 }));
    marks[n] = cell;
    node.append(cell);
  });
  return node;
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

function titleOf({ name, status }) {
  return `${name}: ${status === "in_progress" ? "running" : status}`;
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
