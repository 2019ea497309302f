// A part of the page that the server writes: a newer request for it replaces an older one.

import { showConnection } from "./connection.js";

// `shown` is called after each load, `failed` with the reason if there was no answer, or no page. A
// dialog or menu that is open there stays: the load waits until it is closed. So does all of it while
// `isKept`: what was loaded is dropped.
export function partOf(target, { shown, failed, isKept = () => false }) {
  let controller = null;

  return async function load(address) {
    controller?.abort();
    const mine = (controller = new AbortController());
    try {
      await closed(target);
      mine.signal.throwIfAborted();
      const reply = await fetch(address, { signal: mine.signal, headers: { Accept: "text/html" } });
      if (reply.redirected) return location.reload(); // the session has ended
      if (!reply.ok) return failed(`The server answered with ${reply.status}.`);
      const html = await reply.text();
      if (openIn(target)) return load(address); // opened meanwhile
      if (isKept()) return;
      replace(target, html);
      shown();
    } catch (error) {
      if (error.name === "AbortError") return; // replaced by a newer one
      if (!(error instanceof TypeError)) throw error; // how fetch says that the server is not reached
      showConnection(true);
      failed("The server cannot be reached.");
    }
  };
}

function openIn(target) {
  return target.querySelector(":popover-open");
}

async function closed(target) {
  for (let open; (open = openIn(target)); ) {
    await new Promise((done) => open.addEventListener("toggle", done, { once: true }));
  }
}

// The focus stays where it was if that is there again.
function replace(target, html) {
  const focused = target.contains(document.activeElement) ? document.activeElement.id : "";
  target.innerHTML = html;
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}
