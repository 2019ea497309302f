// The search in a tree: by name, id and executor, and by status.

const REST_MS = 1000; // the least time between two searches while statuses change

// `all` returns the tasks, `show` gets the numbers of those found or null, `choose` selects one of them. Of a `large` tree the server
// finds them: `large.search` asks it, `large.state` returns how many there are and at which of them the selected task is, and
// `large.go` selects one by its place.
export function findIn(bar, { all, chosen, show, choose, large = null }) {
  const [text, status, count] = ["[data-find]", "[data-find-status]", "[data-found]"].map((each) => bar.querySelector(each));
  const buttons = bar.querySelectorAll("[data-step]");
  let found = [];
  let timer = null;

  const isOn = () => text.value.trim() !== "" || status.value !== "";

  function search() {
    const wanted = text.value.trim().toLowerCase();
    found = !isOn() ? [] : all().flatMap((task, n) => {
      if (task.at === -1 || (status.value && task.status !== status.value)) return []; // a template with copies is not shown
      task.words ??= `${task.name}\n${task.id}\n${task.executor ?? ""}`.toLowerCase();
      return task.words.includes(wanted) ? [n] : [];
    });
    show(isOn() ? found : null);
    tell();
  }

  function ask() {
    search();
    if (!large) return;
    count.textContent = "";
    large.search();
  }

  function tell() {
    const number = (value) => value.toLocaleString("en");
    const { all: many, at } = state();
    count.textContent = !isOn() ? "" : !many ? "No task found" : at === -1 ? `${number(many)} found` : `${number(at + 1)} of ${number(many)}`;
    for (const button of buttons) button.disabled = !isOn() || !many;
  }

  function state() {
    return large ? large.state() : { all: found.length, at: found.indexOf(chosen()) };
  }

  function step(by) {
    const { all: many, at } = state();
    if (!isOn() || !many) return;
    const next = at === -1 ? (by > 0 ? 0 : many - 1) : (at + by + many) % many;
    if (large) return large.go(next);
    choose(found[next]);
    tell();
  }

  text.addEventListener("input", ask);
  status.addEventListener("change", ask);
  bar.addEventListener("submit", (event) => event.preventDefault());
  buttons.forEach((button) => button.addEventListener("click", () => step(Number(button.dataset.step))));
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && !(event.key === "Escape" && text.value)) return;
    event.preventDefault();
    if (event.key === "Enter") return step(event.shiftKey ? -1 : 1);
    text.value = "";
    ask();
  });
  bar.hidden = false;
  search();
  if (isOn()) ask(); // browsers fill in fields again when a page is loaded again

  return {
    tell,
    isOn,
    again: search,
    wanted: () => ({ q: text.value.trim(), status: status.value }),
    // The statuses have changed.
    soon() {
      if (!isOn()) return;
      timer ??= setTimeout(() => { timer = null; search(); }, REST_MS);
    },
  };
}
