// CopilotKit's core with its runtime before this server, and with this server as its agent: what each saw as JSON.

globalThis.window ??= globalThis; // the core connects in browsers only
process.env.COPILOTKIT_TELEMETRY_DISABLED = "true";
const { createServer } = await import("node:http");
const { HttpAgent } = await import("@ag-ui/client");
const { CopilotKitCore } = await import("@copilotkit/core");
const { CopilotRuntime, InMemoryAgentRunner } = await import("@copilotkit/runtime/v2");
const { createCopilotNodeListener } = await import("@copilotkit/runtime/v2/node");
const { z } = await import("zod");

const url = process.argv[2];
const ours = () => new HttpAgent({ url: `${url}/ag-ui` });
const said = (content) => ({ id: crypto.randomUUID(), role: "user", content });
const rpc = (method, params) =>
  fetch(`${url}/tasks`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
  });

async function seenBy(core, name) {
  const errors = [];
  const calls = [];
  core.subscribe({ onError: ({ code, error }) => void errors.push(`${code}: ${error.message}`) });
  const agentOf = (threadId) => {
    const agent = core.getAgent("default").clone();
    agent.threadId = `${name}-${threadId}`;
    return agent;
  };
  core.addTool({
    name: "clock",
    description: "The time.",
    parameters: z.object({}),
    handler: async () => void calls.push("clock") ?? "12:00",
  });

  // A tool of the front end: CopilotKit calls it, and runs the agent again with what it returned.
  const chat = agentOf("chat");
  chat.addMessage(said("What is the time?"));
  await core.runAgent({ agent: chat });

  // A cancelled run, and a run after it in the same thread.
  core.removeTool("clock"); // a tree has no use for it, and is refused with it
  const id = `${name}-long`;
  const long = { id, name: id, schemas: { method: "sleep_executor" }, inputs: { seconds: 600 } };
  const cancelled = agentOf("cancelled");
  await core.runAgent({
    agent: cancelled,
    forwardedProps: { tasks: [long] },
    ...void cancelled.subscribe({ onStepStartedEvent: () => void rpc("tasks.cancel", { task_ids: [id] }) }),
  });
  const status = cancelled.state.run.status;
  cancelled.addMessage(said("hello"));
  await core.runAgent({ agent: cancelled });
  return { roles: chat.messages.map((each) => each.role), calls, status, then: cancelled.messages.at(-1).role, errors };
}

const runtime = new CopilotRuntime({ agents: { default: ours() }, runner: new InMemoryAgentRunner() });
const server = createServer(createCopilotNodeListener({ runtime, basePath: "/api/copilotkit" }));
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const behind = new CopilotKitCore({ runtimeUrl: `http://127.0.0.1:${server.address().port}/api/copilotkit` });
await new Promise((done) => {
  behind.subscribe({ onRuntimeConnectionStatusChanged: ({ status }) => status === "connected" && done() });
  if (behind.runtimeConnectionStatus === "connected") done();
});
const seen = {
  core: await seenBy(new CopilotKitCore({ agents__unsafe_dev_only: { default: ours() } }), "core"),
  runtime: await seenBy(behind, "runtime"),
};
console.log(JSON.stringify(seen));
process.exit();
