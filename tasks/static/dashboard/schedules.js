// The next times of the schedule in the form, while it is being filled in.

const WAIT_MILLISECONDS = 250;

for (const form of document.querySelectorAll("[data-preview]")) {
  const place = form.querySelector("[data-preview-of]");
  let timer;
  let asked = 0;

  const show = async () => {
    const number = ++asked;
    const given = new FormData(form);
    const names = ["kind", "cron", "every_seconds", "at", "timezone", "starts_at", "ends_at"];
    const query = new URLSearchParams(names.map((name) => [name, given.get(name) ?? ""]));
    const response = await fetch(`${form.dataset.preview}?${query}`, { headers: { Accept: "text/html" } }).catch(() => null);
    if (response?.ok && number === asked) place.innerHTML = await response.text();
  };

  form.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(show, WAIT_MILLISECONDS);
  });
  show();
}
