// A stream of server-sent events that reconnects, and shows a note on the page while it is disconnected.

// A browser opens at most six connections to a server, shared by all tabs. So a hidden page closes its stream and reopens it when
// it is visible again, unless `inBackground` is set.
export function follow(address, take, { inBackground = false } = {}) {
  let source;

  function open() {
    source = new EventSource(address);
    source.onmessage = (message) => take(JSON.parse(message.data));
    source.onopen = () => showState(false);
    source.onerror = () => showState(source.readyState === EventSource.CONNECTING);
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

function showState(isLost) {
  let note = document.querySelector("#offline");
  if (!note && isLost) {
    note = document.createElement("p");
    note.id = "offline";
    note.className = "offline";
    note.setAttribute("role", "status");
    note.textContent = "Connection lost. Reconnecting…";
    document.body.append(note);
  }
  if (note) note.hidden = !isLost;
}
