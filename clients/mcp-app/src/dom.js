// Elements, and texts for people.

/** Returns an element with these properties and children. Texts are never HTML. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const STATUSES = {
  pending: ["○", "pending"],
  in_progress: ["◐", "in progress"],
  completed: ["✓", "completed"],
  failed: ["✕", "failed"],
  handled: ["!", "failed, and handled"],
  not_run: ["–", "not run"],
  cancelled: ["◼", "cancelled"],
  skipped: ["–", "skipped"],
};

export const markOf = (status) => STATUSES[status][0];
export const wordsOf = (status) => STATUSES[status][1];
export const isOver = (status) => ["completed", "failed", "cancelled"].includes(status);

/** Returns a duration such as `0.4 s`, `12 s` or `3 min 5 s`. */
export function duration(milliseconds) {
  const seconds = Math.max(0, milliseconds) / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

/** Returns a size such as `48 KB`. */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  const units = ["KB", "MB", "GB", "TB"];
  const power = Math.min(units.length, Math.floor(Math.log10(bytes) / 3));
  return `${(bytes / 1000 ** power).toPrecision(3)} ${units[power - 1]}`;
}
