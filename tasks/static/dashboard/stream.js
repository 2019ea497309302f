// A stream of server-sent events that reconnects, and reports to the page while it is disconnected.

import { showConnection } from "./connection.js";

// A browser opens at most six connections to a server, shared by all tabs. So a hidden page closes its stream and reopens it when
// it is visible again, unless `inBackground` is set.
export function follow(address, take, { inBackground = false } = {}) {
  let source;

  function open() {
    source = new EventSource(address);
    source.onmessage = (message) => take(JSON.parse(message.data));
    source.onopen = () => showConnection(false);
    source.onerror = () => showConnection(source.readyState === EventSource.CONNECTING);
  }

  function look() {
    source?.close();
    if (!document.hidden || inBackground) open();
  }

  function close() {
    document.removeEventListener("visibilitychange", look);
    source?.close();
  }

  look();
  if (!inBackground) document.addEventListener("visibilitychange", look);
  addEventListener("pagehide", close);
  addEventListener("submit", close); // another page follows, which shows the result of the form
  return { close };
}
