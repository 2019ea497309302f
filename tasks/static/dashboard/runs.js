// The list of runs: says how many are selected, and selects all of the page.

const form = document.querySelector("#selected");

function show() {
  const boxes = [...document.querySelectorAll("input[name=run][form=selected]")];
  const count = boxes.filter((box) => box.checked).length;
  const all = document.querySelector("[data-all]");
  if (all) Object.assign(all, { checked: count > 0 && count === boxes.length, indeterminate: count > 0 && count < boxes.length });
  form.querySelector("[data-selected]").textContent = count ? `${count} selected` : "Select runs to cancel, run again or delete them.";
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
