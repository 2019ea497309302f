// The official clients of MCP for JavaScript, 1.x and 2.x, leave calls: they abort one, and lose the connection of another.

import { createInterface } from "node:readline/promises";

const [url, library, mode] = process.argv.slice(2);
const { Client, StreamableHTTPClientTransport } =
  library === "1"
    ? {
        ...(await import("@modelcontextprotocol/sdk/client/index.js")),
        ...(await import("@modelcontextprotocol/sdk/client/streamableHttp.js")),
      }
    : await import("@modelcontextprotocol/client");
const patient = { maxRetries: 1000, initialReconnectionDelay: 100, maxReconnectionDelay: 500, reconnectionDelayGrowFactor: 1 };
const client = new Client({ name: "interop", version: "1" }, mode ? { versionNegotiation: { mode } } : {});
await client.connect(new StreamableHTTPClientTransport(new URL(url), { reconnectionOptions: patient }));
const call = (name, args, options) =>
  client.callTool({ name, arguments: args }, ...(library === "1" ? [undefined, options] : [options]));
const newest = async () => (await call("list_runs", { limit: 1 })).structuredContent.runs[0];

// An abort.
const controller = new AbortController();
const aborted = await call("sleep_executor", { seconds: 600 }, {
  signal: controller.signal,
  onprogress: () => controller.abort(),
}).then(() => false, () => true);
const left = await newest();
const ended = await call("get_run", { run_id: left.id, wait_seconds: 45 });

// A cut: the server stops and starts again meanwhile.
const errors = [];
client.onerror = (error) => errors.push(error);
const { promise: going, resolve: goes } = Promise.withResolvers();
const resumed = call("sleep_executor", { seconds: 12, steps: 24 }, { onprogress: goes, timeout: 240_000 }).catch(() => null);
await going;
console.log("going");
await createInterface({ input: process.stdin }).question("");
const after = mode === "auto" ? null : await resumed;
await client.close();

console.log(JSON.stringify({ aborted, ended: ended.structuredContent.status, resumed: after?.structuredContent.status }));
process.exit();
