// The timeline: one row per task, with its time spans in milliseconds since the run was created.

import { STATUSES, wordOf } from "./boxes.js";

const SVG = "http://www.w3.org/2000/svg";
const MOST_FOUND = 200; // rows for tasks that are found and have none
const ROW = 30; // pixels
const BEFORE = 7; // rows of a large tree that are loaded before those in view
const LEAD = 4; // rows above one that is scrolled into view (picture.py has the sum of both)
const SPARE = 3; // rows: closer to the end of what is loaded, more is loaded
const ROOM = 1.25; // the scale grows in steps of this factor, so that bars seldom move

// `range` says which rows of a large tree are loaded, `{first, total, place}`, and `load` loads those in view. The others are empty room.
export function timelineOf(table, axis, { span, isOpen, range, load }) {
  let lines = rowsOf(table);
  const rooms = ["before", "after"].map(() => document.createElement("div"));
  let frame = null;
  const seen = new Set(); // only visible rows are updated
  const watcher = new IntersectionObserver((entries) => entries.forEach(({ target, isIntersecting }) => (isIntersecting ? seen.add(target) : seen.delete(target))), { rootMargin: "100px" });
  let scale = span;
  let isHidden = () => false; // in a folded group
  let found = null;

  function settle() {
    if (!range) return;
    const sizes = [range.first, Math.max(0, range.total - range.first - lines.size)];
    rooms.forEach((room, number) => { room.style.blockSize = `${ROW * sizes[number]}px`; });
    table.prepend(rooms[0]);
    table.append(rooms[1]);
  }

  function look() {
    frame = null;
    const [top, bottom] = [table.scrollTop, table.scrollTop + table.clientHeight].map((each) => each / ROW);
    const end = range.first + lines.size;
    if ((range.first && top < range.first + SPARE) || (end < range.total && bottom > end - SPARE)) load();
  }

  function hide() {
    if (range) return; // the server chooses the rows
    const shown = new Map([...table.children].map((part) => [part, 0]));
    for (const [n, row] of lines) {
      row.hidden = found ? !found.has(n) : isHidden(n);
      const part = row.closest(".part");
      if (!row.hidden) shown.set(part, shown.get(part) + 1);
    }
    for (const [part, count] of shown) {
      part.hidden = !count;
      part.style.containIntrinsicBlockSize = `auto ${ROW * count}px`; // until it is in view
    }
  }

  function rescale(to) {
    scale = Math.max(1, Math.ceil(to));
    for (const row of lines.values()) row.querySelector(".bars svg").setAttribute("viewBox", `0 0 ${scale} 1`);
    [...axis.children].forEach((label, number, { length }) => { label.textContent = duration((scale * number) / (length - 1) / 1000); });
  }

  function end(bar, at) {
    const width = Math.max(0, at - bar.x.baseVal.value);
    bar.setAttribute("width", width);
    if (bar.classList.contains("last")) bar.closest("tr").cells[1].textContent = duration(width / 1000);
  }

  function close(row, at) {
    for (const bar of row.querySelectorAll("rect.open")) {
      end(bar, at);
      bar.classList.remove("open");
    }
  }

  if (isOpen) {
    rescale(span * ROOM);
    lines.forEach((row) => watcher.observe(row));
  }
  if (range) {
    settle();
    table.scrollTop = ROW * Math.max(0, range.place - LEAD);
    table.addEventListener("scroll", () => { frame ??= requestAnimationFrame(look); }, { passive: true });
  }
  return {
    has: (n) => lines.has(n),
    // The number of the row that is wanted first, and the task of the row with this number if it is loaded.
    start: () => Math.max(0, Math.floor(table.scrollTop / ROW) - BEFORE),
    at: (number) => [...lines.keys()][number - range.first],
    numberOf: (n) => range.first + [...lines.keys()].indexOf(n),
    // Scrolls the row with this number into view.
    reveal(number) {
      const top = ROW * number;
      if (top < table.scrollTop || top + ROW > table.scrollTop + table.clientHeight) table.scrollTop = Math.max(0, top - ROW * LEAD);
    },
    // Shows other rows, as the server writes them.
    replace(html, to, fresh) {
      const { scrollTop } = table;
      range = fresh;
      watcher.disconnect();
      seen.clear();
      table.innerHTML = html;
      lines = rowsOf(table);
      settle();
      if (range) table.scrollTop = scrollTop;
      rescale(isOpen ? Math.max(scale, to) : to);
      if (isOpen) lines.forEach((row) => watcher.observe(row));
    },
    // Gives the rows of groups a button, and hides rows.
    fold(groups, isInFolded) {
      for (const { n, name, id, isOpen: isUnfolded } of groups) {
        const cell = lines.get(n)?.cells[0];
        if (!cell) continue;
        const toggle = cell.querySelector(".fold") ?? cell.insertAdjacentElement("afterbegin", toggleOf(name, id));
        toggle.setAttribute("aria-expanded", isUnfolded);
      }
      isHidden = isInFolded;
      hide();
    },
    // Shows only the rows of these tasks, in short those that have no row. Null: all rows.
    find(numbers, tasks, urlOf) {
      if (range) return;
      found = numbers && new Set(numbers);
      hide();
      table.querySelector("[data-others]")?.remove();
      const others = (numbers ?? []).filter((n) => !lines.has(n)).slice(0, MOST_FOUND);
      if (!others.length) return;
      const body = document.createElement("table");
      body.dataset.others = "";
      body.append(...others.map((n) => shortRow(tasks[n], urlOf)));
      table.append(body);
    },
    sum(n, { text, failed }) {
      const [sum, bad] = lines.get(n)?.querySelectorAll(".sum") ?? [];
      if (!sum) return;
      sum.textContent = text;
      bad.textContent = failed ? `${failed.toLocaleString("en")} failed` : "";
    },
    // `because`: the name of the task because of which this one was not run.
    show(n, { look }, because) {
      const row = lines.get(n);
      if (!row || row.classList.contains(look)) return;
      if (because && !row.querySelector(".because, .bars rect")) row.cells[2].prepend(Object.assign(document.createElement("span"), { className: "because", textContent: `needs ${because}` }));
      row.classList.remove(...STATUSES);
      row.classList.add(look);
      const icon = row.querySelector(".status-icon");
      icon.setAttribute("aria-label", wordOf(look));
      icon.firstElementChild.setAttribute("href", `#i-${look}`);
    },
    close(n, at) {
      if (lines.has(n)) close(lines.get(n), at);
    },
    open(n, kind, at) {
      const row = lines.get(n);
      if (!row || isDrawn(row, kind, at)) return;
      close(row, at);
      if (kind === "last") row.querySelectorAll("rect.last").forEach((bar) => bar.setAttribute("class", "attempt"));
      const bar = document.createElementNS(SVG, "rect");
      for (const [name, value] of Object.entries({ class: `${kind} open`, x: at, width: 0, height: 1 })) bar.setAttribute(name, value);
      row.querySelector(".bars svg").append(bar);
    },
    grow(now) {
      if (now > scale) rescale(now * ROOM);
      for (const row of seen) row.querySelectorAll("rect.open").forEach((bar) => end(bar, now));
    },
    end(at) {
      isOpen = false;
      watcher.disconnect();
      for (const row of lines.values()) close(row, at);
      rescale(at);
    },
    choose(n) {
      table.querySelectorAll("tr.selected").forEach((row) => mark(row, false));
      if (lines.has(n)) mark(lines.get(n), true);
    },
  };
}

function shortRow({ id, name, look, executor }, urlOf) {
  const row = document.createElement("tr");
  row.className = look;
  const cell = row.insertCell();
  const icon = cell.appendChild(document.createElementNS(SVG, "svg"));
  for (const [key, value] of Object.entries({ class: "i status-icon", role: "img", "aria-label": wordOf(look) })) icon.setAttribute(key, value);
  icon.appendChild(document.createElementNS(SVG, "use")).setAttribute("href", `#i-${look}`);
  const link = cell.appendChild(Object.assign(document.createElement("a"), { href: urlOf(id), textContent: name }));
  link.dataset.task = id;
  if (executor && executor !== name) cell.appendChild(Object.assign(document.createElement("span"), { className: "by", textContent: executor }));
  return row;
}

function toggleOf(name, id) {
  const toggle = Object.assign(document.createElement("button"), { type: "button", className: "fold", ariaLabel: `Parts of ${name}` });
  toggle.dataset.group = id;
  const icon = toggle.appendChild(document.createElementNS(SVG, "svg"));
  icon.setAttribute("class", "i");
  icon.setAttribute("aria-hidden", "true");
  icon.appendChild(document.createElementNS(SVG, "use")).setAttribute("href", "#i-chevron");
  return toggle;
}

function mark(row, isSelected) {
  row.classList.toggle("selected", isSelected);
  const link = row.querySelector("a");
  isSelected ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
}

function rowsOf(table) {
  return new Map([...table.querySelectorAll("tr[data-n]")].map((row) => [Number(row.dataset.n), row]));
}

// A row that the server has written just now may have what an event says; its times are in whole milliseconds.
function isDrawn(row, kind, at) {
  return [...row.querySelectorAll(`rect.${kind}`)].some((bar) => Math.abs(bar.x.baseVal.value - at) <= 1);
}

// Formats durations as the server does.
export function duration(seconds) {
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${two(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${two((seconds % 3600) / 60)} m`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}
