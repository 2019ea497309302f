// Forms: the choice of an executor shows its form at once, Ctrl+Enter sends, and broken JSON is named while it is typed.

for (const form of document.querySelectorAll("[data-submit-on-change]")) {
  form.addEventListener("change", () => form.requestSubmit());
}

for (const form of document.querySelectorAll("[data-submit-by-keys]")) {
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit(form.querySelector("[name=then]"));
  });
}

for (const text of document.querySelectorAll("[data-json]")) {
  const problem = document.querySelector("[data-json-problem]");
  text.addEventListener("input", () => {
    let said = "";
    try {
      JSON.parse(text.value);
    } catch (error) {
      said = error.message;
    }
    problem.textContent = said;
    text.closest(".field").classList.toggle("wrong", said !== "");
    text.setAttribute("aria-invalid", said !== "");
  });
}
