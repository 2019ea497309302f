// Maps, loops and spawners: how far their parts are, as the server counts it (boxes.py, words.py).

const URGENT = ["failed", "cancelled", "in_progress"];
// The statuses that people see, in the order of bars (listing.py).
export const STATUSES = ["completed", "failed", "not_run", "cancelled", "handled", "skipped", "in_progress", "pending"];
export const isTerminal = (status) => !["in_progress", "pending"].includes(status);
const WORDS = { in_progress: "running", not_run: "not run", handled: "failed, handled" };
export const wordOf = (status) => WORDS[status] ?? status;

// The parts of each box: `partsOf.get(box)` are lists of task numbers. The tasks of a spawner are a part each.
export function partsOf(tasks) {
  const parts = new Map();
  tasks.forEach(({ of, part }, n) => {
    if (of === undefined) return;
    if (!parts.has(of)) parts.set(of, new Map());
    const key = tasks[of].box?.kind === "spawner" ? n : part;
    const found = parts.get(of);
    found.has(key) ? found.get(key).push(n) : found.set(key, [n]);
  });
  return parts;
}

// The text for a box, the number of its failed parts, and the number of parts by status.
export function sumOf(task, parts, tasks) {
  const { kind, most } = task.box;
  const counts = {};
  let count = 0;
  for (const members of parts?.values() ?? []) {
    const status = members.length === 1 ? tasks[members[0]].status : statusOf(new Set(members.map((n) => tasks[n].status)));
    counts[status] = (counts[status] ?? 0) + 1;
    count += 1;
  }
  const done = Object.entries(counts).reduce((sum, [status, number]) => sum + (isTerminal(status) ? number : 0), 0);
  return { text: textOf(kind, done, count, most, isTerminal(task.status)), failed: counts.failed ?? 0, counts, count };
}

// The same for the tasks of a group.
export function sumOfTasks(tasks) {
  const counts = {};
  for (const { status } of tasks) counts[status] = (counts[status] ?? 0) + 1;
  const done = Object.entries(counts).reduce((sum, [status, number]) => sum + (isTerminal(status) ? number : 0), 0);
  return { text: textOf("group", done, tasks.length, 0, false), failed: counts.failed ?? 0, counts, count: tasks.length };
}

export function statusOf(statuses) {
  const urgent = URGENT.find((status) => statuses.has(status));
  if (urgent) return urgent;
  if (statuses.has("pending")) return statuses.size === 1 ? "pending" : "in_progress";
  if (statuses.has("not_run")) return "not_run";
  return statuses.size === 1 && statuses.has("skipped") ? "skipped" : "completed";
}

function textOf(kind, done, count, most, isOver) {
  const number = (value) => value.toLocaleString("en");
  const plural = count === 1 ? "" : "s";
  if (!count) return kind;
  if (kind === "loop") return isOver ? `${number(count)} round${plural}` : `round ${number(count)} of ${number(most)}`;
  return `${number(done)} of ${number(count)} ${kind === "map" ? "item" : "task"}${plural}`;
}
