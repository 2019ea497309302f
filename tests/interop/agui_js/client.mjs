// The official client of AG-UI: a whole day of work, and what it saw as JSON.

const [url, library, name] = process.argv.slice(2);
const { buildResumeArray, HttpAgent } = await import(library);
const agentOf = (threadId) => new HttpAgent({ url: `${url}/ag-ui`, threadId: `${name}-${threadId}` });
const said = (content) => ({ id: crypto.randomUUID(), role: "user", content });
const task = (name, method, inputs, more = {}) => ({ id: name, name, schemas: { method }, inputs, ...more });
const tree = (...tasks) => ({ forwardedProps: { tasks } });
const rpc = async (method, params) =>
  (
    await fetch(`${url}/tasks`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
    })
  ).json();

// A conversation: the client keeps the messages, and sends them all.
const chat = agentOf("chat");
chat.addMessage(said("hello"));
await chat.runAgent();
chat.addMessage(said("and again"));
await chat.runAgent();

// A tree: the state follows its progress.
const trees = agentOf("trees");
const progress = [];
const steps = [];
const ran = await trees.runAgent(
  tree(
    { id: `${name}-root`, name: "root" },
    task(`${name}-left`, "sleep_executor", { seconds: 0.4, steps: 4 }, { parent_id: `${name}-root` }),
    task(`${name}-right`, "llm_executor", { prompt: "hi", model: "demo/demo" }, { parent_id: `${name}-root` }),
  ),
  {
    onStateChanged: ({ state }) => void progress.push(state.run.progress),
    onStepFinishedEvent: ({ event }) => void steps.push(event.stepName),
  },
);

// A question: the run stops, and goes on with the answer.
const approval = agentOf("approval");
await approval.runAgent(tree(task(`${name}-ask`, "approval_executor", { question: "Publish?", options: ["yes", "no"] })));
const [interrupt] = approval.pendingInterrupts;
const answers = { [interrupt.id]: { status: "resolved", payload: { answer: "yes" } } };
const approved = await approval.runAgent({ resume: buildResumeArray([interrupt], answers) });

// A cancelled run.
let cancelled;
await agentOf("cancel").runAgent(tree(task(`${name}-long`, "sleep_executor", { seconds: 600 })), {
  onStepStartedEvent: () => void rpc("tasks.cancel", { task_ids: [`${name}-long`] }),
  onRunFinishedEvent: ({ event }) => void (cancelled = event.outcome?.type ?? "finished"),
});

// A run that fails, and a request that is refused.
let failed;
const failing = agentOf("fail");
await failing
  .runAgent(tree(task(`${name}-bad`, "rest_executor", { url: "http://127.0.0.1:1/" })), {
    onRunErrorEvent: ({ event }) => void (failed = event.code),
  })
  .catch(() => {});
const refused = await agentOf("refused")
  .runAgent({ forwardedProps: { task: 1 } })
  .then(() => null)
  .catch((error) => error.payload.error.code);

// A tool of the front end.
const tools = agentOf("tools");
const clock = { name: "clock", description: "The time.", parameters: { type: "object", properties: {} } };
tools.addMessage(said("What is the time?"));
await tools.runAgent({ tools: [clock] });
const call = tools.messages.at(-1).toolCalls[0];
tools.addMessage({ id: "tool-1", role: "tool", toolCallId: call.id, content: "12:00" });
await tools.runAgent({ tools: [clock] });

// An agent with tools of the server.
const agent = agentOf("agent");
await agent.runAgent(tree(task(`${name}-agent`, "llm_executor", { prompt: "Go.", model: "demo/demo", tools: ["echo_executor"] })));

console.log(
  JSON.stringify({
    chat: chat.messages.map((each) => each.role),
    answer: chat.messages.at(-1).content.trim().endsWith("You asked: and again"),
    tree: trees.state.tasks.map((each) => each.status),
    progress: progress.length > 3 && progress.every((each, index) => index === 0 || each >= progress[index - 1]),
    steps: steps.sort(),
    subagent: ran.newMessages[0].subagentRunId,
    asked: interrupt.message,
    approved: approved.result.answer,
    cancelled,
    failed,
    refused,
    call: call.function.name,
    agent: agent.messages.map((each) => each.role),
    then: tools.messages.at(-1).role,
  }),
);
