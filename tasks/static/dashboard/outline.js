// Which boxes and edges the graph has. Many tasks with the same dependencies and dependents share one box.

const MANY = 8;
const TOO_MANY = 120; // boxes: above this, tasks at the same depth share a box

// `nodes` are lists of task numbers, `edges` refer to node numbers. A folded group stands for the tasks below it.
export function outline(tasks, folded = new Set()) {
  const place = placesOf(tasks, folded);
  const shown = tasks.flatMap((_, n) => (place[n] === n ? [n] : []));
  const ways = joined(waysOf(tasks), place);
  const leadsTo = tasks.map(() => []);
  const comesFrom = tasks.map(() => []);
  ways.forEach(({ from, to, kind }) => { leadsTo[from].push(to); comesFrom[to].push([from, kind]); });
  const isAlone = (n) => Boolean(tasks[n].box || folded.has(n));
  let nodes = boxes(shown, isAlone, (n) => [tasks[n].parent, tasks[n].executor, comesFrom[n], leadsTo[n]]);
  const isLarge = nodes.length > TOO_MANY;
  if (isLarge) {
    const ranks = ranksOf(tasks, ways);
    nodes = boxes(shown, isAlone, (n) => [ranks[n], tasks[n].parent, tasks[n].executor]);
  }
  const nodeOf = [];
  nodes.forEach((members, node) => members.forEach((n) => { nodeOf[n] = node; }));
  const edges = new Map();
  for (const { from, to, kind } of isLarge ? ways : [...ways, ...joined(hintsOf(tasks, ways), place)]) {
    const [a, b] = [nodeOf[from], nodeOf[to]];
    if (a !== b && !edges.has(`${a} ${b}`)) edges.set(`${a} ${b}`, { from: a, to: b, kind });
  }
  return { nodes, edges: [...edges.values()], nodeOf, place };
}

// The task itself, or the outermost folded group around it.
export function placesOf(tasks, folded) {
  return tasks.map((task, n) => {
    let place = n;
    for (let around = task.parent; around !== null; around = tasks[around].parent) if (folded.has(around)) place = around;
    return place;
  });
}

// The tasks that others are below, without the root and without those whose parts the server folds.
export function groupsOf(tasks) {
  const below = new Map();
  tasks.forEach(({ parent }, n) => {
    if (parent === null || tasks[parent].parent === null || tasks[parent].box) return;
    below.has(parent) ? below.get(parent).push(n) : below.set(parent, [n]);
  });
  return below;
}

function joined(ways, place) {
  return ways
    .map(({ from, to, kind }) => ({ from: place[from], to: place[to], kind }))
    .filter(({ from, to }) => from !== to);
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

function boxes(shown, isAlone, trait) {
  const groups = new Map();
  shown.forEach((n) => {
    const alike = isAlone(n) ? n : JSON.stringify(trait(n));
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
