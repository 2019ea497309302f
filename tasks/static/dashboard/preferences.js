// The preferences of this browser, which only it stores: the theme, and whether single keys are shortcuts.

export function preference(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null; // the browser stores nothing
  }
}

function store(name, value) {
  try {
    value ? localStorage.setItem(name, value) : localStorage.removeItem(name);
  } catch {
    // It lasts as long as the page.
  }
}

const form = document.querySelector("[data-preferences]");
if (form) {
  const { theme, shortcuts } = form.elements;
  theme.value = preference("theme") ?? "";
  shortcuts.checked = preference("shortcuts") !== "off";
  theme.addEventListener("change", () => {
    store("theme", theme.value);
    theme.value ? (document.documentElement.dataset.theme = theme.value) : delete document.documentElement.dataset.theme;
  });
  shortcuts.addEventListener("change", () => store("shortcuts", shortcuts.checked ? "" : "off"));
  form.hidden = false;
}
