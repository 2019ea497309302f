// What a page does while the server cannot be reached: it says so, its clocks stop, and its forms cannot be sent.

const REASON = "The server cannot be reached";
const listeners = [];
let lost = false;

export const isLost = () => lost;

// Calls `listener` when the server is reached again.
export function onReturn(listener) {
  listeners.push(listener);
}

export function showConnection(isGone) {
  if (isGone === lost) return;
  lost = isGone;
  document.documentElement.toggleAttribute("data-offline", lost);
  note().hidden = !lost;
  showButtons(document);
  if (!lost) listeners.forEach((listener) => listener());
}

// Disables the buttons of forms, or enables them again. Call it for a part of the page that has been replaced.
export function showButtons(part) {
  for (const button of part.querySelectorAll("form[method=post] button:not([type=button])")) {
    if (lost && !button.disabled) {
      button.dataset.title ??= button.title;
      button.dataset.offline = "";
      button.disabled = true;
      button.title = REASON;
    } else if (!lost && "offline" in button.dataset) {
      delete button.dataset.offline;
      button.disabled = false;
      button.title = button.dataset.title;
    }
  }
}

function note() {
  const found = document.querySelector("#offline");
  if (found) return found;
  const made = Object.assign(document.createElement("p"), { id: "offline", className: "offline", hidden: true });
  made.setAttribute("role", "status");
  made.textContent = "Connection lost. Reconnecting… What is shown may be out of date.";
  return document.body.appendChild(made);
}

addEventListener("submit", (event) => {
  if (lost && event.target.method === "post") event.preventDefault();
}, { capture: true });
