// The search in a tree: by name, id and executor, and by status.

const REST_MS = 1000; // the least time between two searches while statuses change

// `all` returns the tasks, `show` gets the numbers of those found or null, `choose` selects one of them.
export function findIn(bar, { all, chosen, show, choose }) {
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

  function tell() {
    const number = (value) => value.toLocaleString("en");
    const at = found.indexOf(chosen());
    count.textContent = !isOn() ? "" : !found.length ? "No task found" : at === -1 ? `${number(found.length)} found` : `${number(at + 1)} of ${number(found.length)}`;
    for (const button of buttons) button.disabled = !found.length;
  }

  function step(by) {
    if (!found.length) return;
    const at = found.indexOf(chosen());
    choose(found[at === -1 ? (by > 0 ? 0 : found.length - 1) : (at + by + found.length) % found.length]);
    tell();
  }

  text.addEventListener("input", search);
  status.addEventListener("change", search);
  bar.addEventListener("submit", (event) => event.preventDefault());
  buttons.forEach((button) => button.addEventListener("click", () => step(Number(button.dataset.step))));
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && !(event.key === "Escape" && text.value)) return;
    event.preventDefault();
    if (event.key === "Enter") return step(event.shiftKey ? -1 : 1);
    text.value = "";
    search();
  });
  bar.hidden = false;
  search(); // browsers fill in fields again when a page is loaded again

  return {
    tell,
    isOn,
    again: search,
    // The statuses have changed.
    soon() {
      if (!isOn()) return;
      timer ??= setTimeout(() => { timer = null; search(); }, REST_MS);
    },
  };
}
