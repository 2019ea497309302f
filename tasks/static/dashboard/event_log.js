// The newest events of a run. The pieces of a text that a model streams are one line.

import { clock } from "./page.js";

const LINES = 500;

export function eventLogOf(list, { nameOf, isStreaming }) {
  const texts = new Map(); // task id → the line of its text, until another event of the task
  for (const item of list.children) note(item, item.dataset.of, item.querySelector(".what")?.textContent);
  list.scrollTop = list.scrollHeight;

  function note(item, id, type) {
    type === "log" && isStreaming(id) ? texts.set(id, item) : texts.delete(id);
  }

  // Whether the event has become a part of a line that is there.
  function isJoined({ type, task_id: id, message }) {
    const item = type === "log" && texts.get(id);
    if (!item?.isConnected) return false;
    item.querySelector(".said").append(message);
    return true;
  }

  return {
    add(events) {
      const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 30;
      for (const event of events.slice(-LINES)) {
        if (isJoined(event)) continue;
        const item = list.appendChild(lineOf(event, nameOf(event.task_id)));
        note(item, event.task_id, event.type);
      }
      for (let left = list.childElementCount - LINES; left > 0; left -= 1) list.firstElementChild.remove();
      if (isAtEnd) list.scrollTop = list.scrollHeight;
    },
  };
}

function lineOf(event, name) {
  const item = document.createElement("li");
  item.className = event.status;
  item.dataset.of = event.task_id;
  const time = item.appendChild(document.createElement("time"));
  time.dateTime = event.timestamp;
  clock(time);
  for (const [kind, text] of [["what", event.type], ["which", name], ["said", event.error || event.message]]) {
    item.appendChild(Object.assign(document.createElement("span"), { className: kind, textContent: text }));
  }
  return item;
}
