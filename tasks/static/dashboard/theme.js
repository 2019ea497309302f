// Applies the theme of this browser before the page is painted. Settings choose it.

{
  let theme = null;
  try {
    theme = localStorage.getItem("theme");
  } catch {
    // The browser stores nothing: the theme is that of the system.
  }
  if (["light", "dark"].includes(theme)) document.documentElement.dataset.theme = theme;
}
