// What a user of the TypeScript client does: `node program.mts TASK URL [URL OF A PROXY]`. Prints what came of it as JSON.
import { Client } from "../../clients/typescript/src/index.ts";

const [doing = "", url = "", other = ""] = process.argv.slice(2);
const steps = { name: "sleep_executor", inputs: { seconds: 0.4, steps: 8 } };

async function kindOf(promise: Promise<unknown>): Promise<unknown[]> {
  return promise.then(
    () => ["no error"],
    (error) => [error.name, error.code, error.data ?? null],
  );
}

const doings: Record<string, () => Promise<unknown>> = {
  async runs() {
    const client = new Client(url);
    const run = await client.start({ tasks: [steps] });
    const seen = [];
    for await (const event of run.events()) seen.push([event.seq, event.type]);
    const tree = await run.wait();
    const again = await client.start({ task_id: run.taskId });
    const ended = await again.wait();
    return { seen, status: [tree.run_status, ended.run_status], result: tree.result };
  },

  async inputs() {
    const client = new Client(url);
    const tasks = [{ name: "echo_executor", inputs: { text: "{{run.inputs.word}}" } }];
    const name = "typescript-inputs";
    await client.call("flows.save", { name, tasks });
    const runs = [client.start({ tasks, inputs: { word: "a" } }), client.start({ tasks, run_inputs: { word: "b" } })];
    runs.push(client.start({ flow: name, inputs: { word: "c" } }), client.start({ flow: name, run_inputs: { word: "d" } }));
    const ended = await Promise.all(runs.map(async (run) => (await run).wait()));
    return ended.map((tree) => tree.result);
  },

  async resumes() {
    const run = await new Client(url).start({ tasks: [steps] });
    const seen = [];
    for await (const event of new Client(other).follow(run.taskId)) seen.push(event.seq);
    const late = [];
    for await (const event of new Client(url).follow(run.taskId, { after: 3 })) late.push(event.seq);
    return { seen, late };
  },

  async calls() {
    const client = new Client(url + "/");
    const body = { tasks: [{ name: "echo_executor", inputs: { say: "hello" } }] };
    const stored = await client.request("post", "/api/tasks/", { body, idempotencyKey: "only-once" });
    const same = await client.request("post", "/api/tasks/", { body, idempotencyKey: "only-once" });
    const path = { task_id: stored.id };
    const changed = await client.request("patch", "/api/tasks/{task_id}/", { path, body: { name: "Hello" } });
    const listed = await client.request("get", "/api/tasks/", { query: { limit: 1, name: "Hello" } });
    const done = await client.call<{ task: { result: unknown } }>("tasks.execute", { task_id: stored.id, wait: true });
    return {
      once: stored.id === same.id,
      name: changed.name,
      listed: listed.tasks.map((task) => task.id === stored.id),
      result: done.task.result,
    };
  },

  async cancels() {
    const run = await new Client(url).start({ tasks: [{ name: "sleep_executor", inputs: { seconds: 600 } }] });
    for await (const event of run.events()) if (event.type === "task_start") break;
    await run.cancel({ force: true });
    return { status: (await run.wait()).run_status };
  },

  async fails() {
    const client = new Client(url);
    const stop = new AbortController();
    const run = await client.start({ tasks: [{ name: "sleep_executor", inputs: { seconds: 600 } }] });
    const waiting = kindOf(run.wait({ signal: stop.signal }));
    stop.abort();
    const kinds = {
      aborted: (await waiting)[0],
      absent: await kindOf(client.tree("no-such-task")),
      called: (await kindOf(client.call("tasks.get", { task_id: "no-such-task" }))).slice(0, 2),
      wrong: (await kindOf(client.call("tasks.get", { id: 7 }))).slice(0, 2),
      unknown: (await kindOf(client.follow("no-such-task").next())).slice(0, 2),
      nowhere: (await kindOf(new Client(other).call("tasks.count")))[0],
      unfollowed: (await kindOf(new Client(other).follow("any").next()))[0],
    };
    await run.cancel({ force: true });
    return kinds;
  },

  async files() {
    const client = new Client(url);
    const text = "Rivers flow to the sea. ".repeat(50_000);
    const sent = await client.files.put(new File([text], "rivers.txt", { type: "text/plain" }));
    const streamed = await client.files.put(new Blob([text]).stream(), { name: "stream.csv" });
    const whole = await (await client.files.get(sent)).text();
    const part = await client.files.get(sent.$file, { start: 7, end: 11 });
    const link = await client.files.link(sent, { minutes: 1 });
    const run = await client.start({ tasks: [{ name: "echo_executor", inputs: { doc: "{{run.inputs.doc}}" } }], inputs: { doc: sent } });
    await run.wait();
    const page = await client.call<{ runs: { id: string }[] }>("runs.list", { task_id: run.taskId });
    const listed = await client.files.list({ run_id: page.runs[0]?.id ?? "" });
    return {
      sent: [sent.name, sent.media_type, sent.bytes === text.length],
      streamed: [streamed.name, streamed.media_type, streamed.sha256 === sent.sha256],
      whole: whole === text,
      part: [part.status, await part.text()],
      linked: (await (await fetch(link.url)).text()) === text,
      listed: listed.files.map((file) => file.name),
      absent: (await kindOf(client.files.get("no-such-file"))).slice(0, 2),
      nameless: (await kindOf(client.files.put(new Blob(["x"]))))[0],
    };
  },

  async uploads() {
    const bytes = new Uint8Array(1_500_000).map((_, index) => index % 251);
    const sent = await new Client(other).files.put(new Blob([bytes]), { name: "broken.bin" });
    const got = new Uint8Array(await (await new Client(url).files.get(sent)).arrayBuffer());
    return { whole: got.length === bytes.length && got.every((byte, index) => byte === bytes[index]) };
  },

  async authenticates() {
    const nameless = await kindOf(new Client(url).call("tasks.count"));
    const counted = await new Client(url, { token: async () => other }).call<{ total: number }>("tasks.count");
    return { nameless: nameless.slice(0, 2), total: counted.total };
  },
};

console.log(JSON.stringify(await doings[doing]?.()));
