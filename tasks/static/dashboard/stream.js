// A stream of server-sent events that comes back by itself, and says on the page when it is gone.

// A browser keeps six connections to a server, over all of its tabs. So a page that nobody looks at lets go of its stream and takes it
// up when it is looked at again, unless it is to go on in the background.
export function follow(address, take, { inBackground = false } = {}) {
  let source;

  function open() {
    source = new EventSource(address);
    source.onmessage = (message) => take(JSON.parse(message.data));
    source.onopen = () => tell(false);
    source.onerror = () => tell(source.readyState === EventSource.CONNECTING);
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
  addEventListener("submit", close); // another page follows, and what the form does is no news to this one
  return { close };
}

function tell(isGone) {
  let note = document.querySelector("#offline");
  if (!note && isGone) {
    note = document.createElement("p");
    note.id = "offline";
    note.className = "offline";
    note.setAttribute("role", "status");
    note.textContent = "The connection is gone. Trying again…";
    document.body.append(note);
  }
  if (note) note.hidden = !isGone;
}
