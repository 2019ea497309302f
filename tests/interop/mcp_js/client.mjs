// The official client of MCP for JavaScript: a whole day of work, and what it saw as JSON.

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const client = new Client({ name: "interop", version: "1" });
const transport = new StreamableHTTPClientTransport(new URL(process.argv[2]));
await client.connect(transport);
const progress = [];
const call = (name, args, options) => client.callTool({ name, arguments: args }, undefined, options);
const sleep = { name: "long", schemas: { method: "sleep_executor" }, inputs: { seconds: 600 } };

const tools = (await client.listTools()).tools.map((tool) => tool.name);
const quick = await call("echo_executor", { say: "hello" });
const slow = await call("sleep_executor", { seconds: 2, steps: 4 }, { onprogress: (each) => progress.push(each.progress) });
const wrong = await call("run_tree", { tasks: [] });
const waiting = (await call("approval_executor", { question: "Publish?", options: ["yes", "no"] })).structuredContent;
await call("answer_question", { task_id: waiting.questions[0].task_id, answer: "yes" });
const approved = await call("get_run", { run_id: waiting.run_id, wait_seconds: 45 });
const long = (await call("run_tree", { tasks: [sleep] })).structuredContent;
await call("cancel_run", { run_id: long.run_id });
const cancelled = await call("get_run", { run_id: long.run_id, wait_seconds: 45 });
const { resources } = await client.listResources();
const read = await client.readResource({ uri: resources[0].uri });
const session = { "Mcp-Session-Id": transport.sessionId, Accept: "application/json", "Content-Type": "application/json" };
await transport.terminateSession();
const ping = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" });
const ended = await fetch(process.argv[2], { method: "POST", headers: session, body: ping });
await client.close();

console.log(
  JSON.stringify({
    tools,
    quick: quick.structuredContent.result,
    slow: slow.structuredContent.status,
    progress: progress.length > 2 && progress.every((each, index) => index === 0 || each > progress[index - 1]),
    wrong: wrong.isError,
    asked: waiting.status,
    approved: approved.structuredContent.status,
    long: long.status,
    ended: ended.status,
    cancelled: cancelled.structuredContent.status,
    resource: `task://${JSON.parse(read.contents[0].text).run_id}` === resources[0].uri,
  }),
);
