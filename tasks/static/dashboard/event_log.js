// The newest events of a run. The words of a model call are one line.

import { clock } from "./page.js";

// `most`: the number of lines that stay.
export function eventLogOf(list, { nameOf, most }) {
  const texts = new Map(); // id of a model call → the line of its words
  for (const item of list.querySelectorAll("[data-call]")) texts.set(item.dataset.call, item);
  list.scrollTop = list.scrollHeight;

  // Whether the event has become a part of a line that is there.
  function isJoined({ call_id, message }) {
    const item = texts.get(call_id);
    if (!item?.isConnected) return false;
    item.querySelector(".said").append(message);
    return true;
  }

  return {
    add(events) {
      const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 30;
      for (const event of events.slice(-most)) {
        if (isJoined(event)) continue;
        const name = nameOf(event.task_id);
        const parts = [name];
        if (event.agent && event.agent !== name) parts.push(event.agent);
        if (event.is_reasoning) parts.push("reasoning");
        const item = list.appendChild(lineOf(event, parts.join(" · ")));
        if (event.call_id) texts.set(event.call_id, item);
      }
      for (let left = list.childElementCount - most; left > 0; left -= 1) list.firstElementChild.remove();
      if (isAtEnd) list.scrollTop = list.scrollHeight;
    },
  };
}

function lineOf(event, name) {
  const item = document.createElement("li");
  item.className = event.not_run ? "not_run" : event.status;
  item.dataset.of = event.task_id;
  const time = item.appendChild(document.createElement("time"));
  time.dateTime = event.timestamp;
  clock(time);
  for (const [kind, text] of [["what", event.type], ["which", name], ["said", event.error || event.message]]) {
    item.appendChild(Object.assign(document.createElement("span"), { className: kind, textContent: text }));
  }
  return item;
}
