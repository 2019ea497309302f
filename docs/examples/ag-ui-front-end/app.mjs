// A front end for a tree: its tasks as they run, the words of its model, and its question.

import { buildResumeArray, HttpAgent } from "@ag-ui/client";

const query = new URLSearchParams(location.search);
const token = query.get("token");
const agent = new HttpAgent({
  url: new URL("/ag-ui", query.get("server") ?? "http://localhost:8000").href,
  headers: token ? { Authorization: `Bearer ${token}` } : {},
});
const at = (id) => document.getElementById(id);

function treeOf(topic) {
  const task = (name, method, inputs, more) => ({ id: crypto.randomUUID(), name, schemas: { method }, inputs, ...more });
  const root = { id: crypto.randomUUID(), name: "Publish a text" };
  const write = task("Write", "llm_executor", { prompt: `Write about ${topic}.`, model: "demo/demo" });
  const ask = task("Ask", "approval_executor", { question: `Publish the text about ${topic}?`, options: ["yes", "no"] });
  const publish = task("Publish", "echo_executor", { topic });
  const after = (one, other) => ({ ...one, parent_id: root.id, dependencies: other ? [other.id] : [] });
  return [root, after(write), after(ask, write), after(publish, ask)];
}

const subscriber = {
  onStateChanged: ({ state }) => {
    at("status").textContent = `${state.run.status}, ${Math.round(100 * state.run.progress)} %`;
    at("tasks").replaceChildren(
      ...state.tasks.map((task) => {
        const item = document.createElement("li");
        item.textContent = `${task.name}: ${task.status}`;
        return item;
      }),
    );
  },
  onTextMessageContentEvent: ({ event }) => at("words").append(event.delta),
  onRunErrorEvent: ({ event }) => (at("status").textContent = event.message),
};

async function run(parameters) {
  const { result } = await agent.runAgent(parameters, subscriber);
  const [interrupt] = agent.pendingInterrupts;
  at("question").hidden = !interrupt;
  if (interrupt) {
    at("question").querySelector("legend").textContent = interrupt.message;
    const buttons = interrupt.responseSchema.properties.answer.enum.map((answer) => {
      const button = document.createElement("button");
      button.textContent = answer;
      button.onclick = () => {
        const answers = { [interrupt.id]: { status: "resolved", payload: { answer } } };
        return run({ resume: buildResumeArray([interrupt], answers) });
      };
      button.type = "button";
      return button;
    });
    at("question").querySelector("fieldset").replaceChildren(at("question").querySelector("legend"), ...buttons);
  } else if (result !== undefined) {
    at("result").textContent = JSON.stringify(result, null, 2);
  }
}

at("run").onsubmit = (event) => {
  event.preventDefault();
  at("words").textContent = at("result").textContent = "";
  return run({ forwardedProps: { tasks: treeOf(new FormData(event.target).get("topic")) } });
};
