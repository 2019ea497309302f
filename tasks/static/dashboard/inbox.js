// The inbox: reloads when a question is asked or answered, unless the user is typing.

import { countQuestions } from "./page.js";
import { follow } from "./stream.js";

const inbox = document.querySelector("[data-live]");
const fields = [...inbox.querySelectorAll("input:not([type=hidden]), textarea, select")];
const shown = new Map(fields.map((field) => [field, field.value]));

follow(inbox.dataset.live, ({ questions }) => {
  if (questions === undefined) return;
  countQuestions(questions);
  const isWriting = inbox.querySelector("[role=alert]") || fields.some((field) => field.value !== shown.get(field));
  if (questions !== Number(inbox.dataset.shown) && !isWriting) location.reload();
});
