// The list of runs: filters act when they change; says how many are selected, and selects all of the page.

const FOCUS = "filter";
const form = document.querySelector("#selected");
const filters = document.querySelector(".run-filters");

function show() {
  const boxes = [...document.querySelectorAll("input[name=run][form=selected]")];
  const count = boxes.filter((box) => box.checked).length;
  const all = document.querySelector("[data-all]");
  if (all) Object.assign(all, { checked: count > 0 && count === boxes.length, indeterminate: count > 0 && count < boxes.length });
  form.querySelector("[data-selected]").textContent = count ? `${count} selected` : "Select runs first.";
  for (const button of form.querySelectorAll("button")) button.disabled = count === 0;
}

if (form) {
  document.addEventListener("change", ({ target }) => {
    if ("all" in target.dataset) document.querySelectorAll("input[name=run][form=selected]").forEach((box) => (box.checked = target.checked));
    show();
  });
  document.addEventListener("live", show);
  show();
}

// The page that a filter loads has the focus where it was.
filters.addEventListener("change", ({ target }) => {
  if (target.type === "datetime-local") return; // it changes with each part that is typed
  sessionStorage.setItem(FOCUS, target.name);
  filters.requestSubmit();
});
filters.elements[sessionStorage.getItem(FOCUS)]?.focus();
sessionStorage.removeItem(FOCUS);
