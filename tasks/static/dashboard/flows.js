// The grid of runs has one stop for the Tab key; the arrow keys, Home and End move between its cells.

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

for (const grid of document.querySelectorAll("[data-grid]")) {
  const rows = [...grid.rows].map((row) => [...row.cells].slice(1).map((cell) => cell.querySelector("a")));
  const links = rows.flat().filter(Boolean);
  const choose = (link) => links.forEach((each) => (each.tabIndex = each === link ? 0 : -1));
  const newest = rows.map((row) => row.findLast(Boolean)).find(Boolean);
  if (newest) choose(newest);

  const next = (row, column, [down, right]) => {
    let [y, x] = [row + down, column + right];
    while (rows[y]?.[x] !== undefined) {
      if (rows[y][x]) return rows[y][x];
      [y, x] = [y + down, x + right];
    }
    return null;
  };

  grid.addEventListener("focusin", (event) => choose(event.target.closest("a")));
  grid.addEventListener("keydown", (event) => {
    const link = event.target.closest("a");
    const row = rows.findIndex((each) => each.includes(link));
    if (row < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const wanted = STEPS[event.key]
      ? next(row, rows[row].indexOf(link), STEPS[event.key])
      : { Home: rows[row].find(Boolean), End: rows[row].findLast(Boolean) }[event.key];
    if (!wanted) return;
    event.preventDefault();
    wanted.focus();
  });
  const wide = grid.closest(".wide");
  wide.scrollLeft = wide.scrollWidth; // the newest runs are on the right
}
