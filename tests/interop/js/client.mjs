// A run through the agent with the official client of A2A for JavaScript. Prints what it saw as JSON.
// Arguments: the agent's address, the version of A2A, the binding, and the skills whose examples it runs.

import { randomUUID } from "node:crypto";

import {
  CancelTaskRequest,
  GetTaskRequest,
  ListTasksRequest,
  SendMessageRequest,
  StreamResponse,
  SubscribeToTaskRequest,
  Task,
} from "@a2a-js/sdk";
import { ClientFactory, DefaultAgentCardResolver, JsonRpcTransportFactory, RestTransportFactory } from "@a2a-js/sdk/client";

const [url, version, binding, skills] = process.argv.slice(2);
const legacyCompat = { enabled: version === "0.3" };
const fetchImpl = (address) => fetch(address, { headers: { "A2A-Version": version } });
const card = await new DefaultAgentCardResolver({ legacyCompat, fetchImpl }).resolve(url);
const supportedInterfaces = card.supportedInterfaces.filter(
  (each) => each.protocolBinding === binding && each.protocolVersion === version,
);
const transports = [new JsonRpcTransportFactory({ legacyCompat }), new RestTransportFactory({ legacyCompat })];
const client = await new ClientFactory({ transports }).createFromAgentCard({ ...card, supportedInterfaces });

const ECHO = { data: { skill: "echo_executor", inputs: { say: "hello" } } };
const sleeping = (seconds, steps) => ({ data: { skill: "sleep_executor", inputs: { seconds, steps } } });

const requestOf = (part, { taskId, returnImmediately = false } = {}) =>
  SendMessageRequest.fromJSON({
    message: { messageId: randomUUID(), role: "ROLE_USER", parts: [part], taskId },
    configuration: { returnImmediately },
  });
const send = async (part, options) => Task.toJSON(await client.sendMessage(requestOf(part, options)));
const stateOf = (task) => task.status.state;
const all = async (stream) => {
  const seen = [];
  for await (const response of stream) seen.push(StreamResponse.toJSON(response));
  return seen;
};
const kindsOf = (responses) => responses.map((response) => Object.keys(response)[0]);
const refused = async (call) => {
  try {
    await call;
    return ["nothing", ""];
  } catch (error) {
    return [error.constructor.name, error.message];
  }
};

const seen = { card: { name: card.name, skills: card.skills.length, streaming: card.capabilities.streaming } };
const done = await send(ECHO);
seen.send = { state: stateOf(done), last: done.artifacts.at(-1).artifactId };
const streamed = await all(client.sendMessageStream(requestOf(sleeping(0.6, 3))));
seen.stream = { kinds: kindsOf(streamed), last: stateOf(streamed.at(-1).statusUpdate) };
const asking = await send({ text: "hello" });
seen.ask = { state: stateOf(asking), says: asking.status.message.parts[0].text };
const outcome = async (example) => {
  let task = await send({ text: example });
  if (stateOf(task) === "TASK_STATE_INPUT_REQUIRED") task = await send({ text: "yes" }, { taskId: task.id });
  return stateOf(task) === "TASK_STATE_FAILED" ? `${stateOf(task)} ${task.status.message.parts[0].text}` : stateOf(task);
};
seen.skills = {};
for (const skill of card.skills.filter((each) => each.examples.length)) {
  if (skills === "all" || skills.split(",").includes(skill.id)) seen.skills[skill.id] = await outcome(skill.examples[0]);
}
seen.answer = stateOf(await send(ECHO, { taskId: asking.id }));
seen.get = stateOf(Task.toJSON(await client.getTask(GetTaskRequest.fromJSON({ id: done.id }))));
if (version === "1.0") {
  const page = await client.listTasks(ListTasksRequest.fromJSON({ contextId: done.contextId }));
  seen.list = page.tasks.map((task) => task.id === done.id);
}

const brief = await send(sleeping(1.2, 6), { returnImmediately: true });
const again = await all(client.resubscribeTask(SubscribeToTaskRequest.fromJSON({ id: brief.id })));
seen.resubscribe = { first: kindsOf(again)[0], last: stateOf(again.at(-1).statusUpdate) };
const doomed = await send(sleeping(60, 600), { returnImmediately: true });
const cancelled = await client.cancelTask(CancelTaskRequest.fromJSON({ id: doomed.id }));
seen.cancel = stateOf(Task.toJSON(cancelled));
seen.errors = [
  await refused(client.getTask(GetTaskRequest.fromJSON({ id: "nowhere" }))),
  await refused(client.cancelTask(CancelTaskRequest.fromJSON({ id: done.id }))),
  await refused(send({ data: { skill: "nothing" } })),
  await refused(all(client.sendMessageStream(requestOf({ data: { skill: "nothing" } })))),
  await refused(all(client.resubscribeTask(SubscribeToTaskRequest.fromJSON({ id: done.id })))),
];
console.log(JSON.stringify(seen));
