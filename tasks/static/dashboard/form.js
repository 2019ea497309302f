// Forms: selecting an executor loads its form, Ctrl+Enter submits, and the field for a tree is an editor.

import { editorOf } from "./json_editor.js";

for (const form of document.querySelectorAll("[data-submit-on-change]")) {
  form.addEventListener("change", () => form.requestSubmit());
  // A choice may have been made before this script ran.
  const isChanged = (select) => !(select.querySelector("option[selected]") ?? select.selectedOptions[0])?.selected;
  if ([...form.querySelectorAll("select")].some(isChanged)) form.requestSubmit();
}

for (const form of document.querySelectorAll("[data-submit-by-keys]")) {
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(form.querySelector("[name=then]"));
  });
}

document.querySelectorAll("[data-json]").forEach(editorOf);
