// Forms: selecting an executor loads its form, Ctrl+Enter submits, and malformed JSON is reported while typing.

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

for (const text of document.querySelectorAll("[data-json]")) {
  const problem = document.querySelector("[data-json-problem]");
  text.addEventListener("input", () => {
    let message = "";
    try {
      JSON.parse(text.value);
    } catch (error) {
      message = error.message;
    }
    problem.textContent = message;
    text.closest(".field").classList.toggle("wrong", message !== "");
    text.setAttribute("aria-invalid", message !== "");
  });
}
