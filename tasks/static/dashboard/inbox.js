// The inbox: reloads when a question is asked or answered, unless the user is typing.

import { countQuestions } from "./page.js";
import { follow } from "./stream.js";

const inbox = document.querySelector("[data-live]");

follow(inbox.dataset.live, ({ questions }) => {
  if (questions === undefined) return;
  countQuestions(questions);
  const isWriting = [...inbox.querySelectorAll("input:not([type=hidden]), textarea")].some((field) => field.value !== "");
  if (questions !== Number(inbox.dataset.shown) && !isWriting) location.reload();
});
