// OpenAI's own library: responses, a question, a stream that is taken up again, and chat completions, as JSON.

import OpenAI from "openai";

const [url, flow, asking] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });

const answer = await client.responses.create({ model: flow, input: "hello" });

const kinds = [];
let streamed;
for await (const event of await client.responses.create({ model: flow, input: "hello", stream: true })) {
  kinds.push(event.type);
  streamed = event.response ?? streamed;
}
const resumed = [];
for await (const event of await client.responses.retrieve(streamed.id, { stream: true, starting_after: 1 })) {
  resumed.push(event.type);
}

const asked = await client.responses.create({ model: asking });
const [call] = asked.output;
const answered = await client.responses.create({
  model: asking,
  previous_response_id: asked.id,
  input: [{ type: "function_call_output", call_id: call.call_id, output: "yes" }],
});

const begun = await client.responses.create({ model: asking, background: true });
const cancelled = await client.responses.cancel(begun.id);

const completion = await client.chat.completions.create({ model: flow, messages: [{ role: "user", content: "hello" }] });
let words = "";
const chunks = await client.chat.completions.create({
  model: flow,
  messages: [{ role: "user", content: "hello" }],
  stream: true,
});
for await (const chunk of chunks) words += chunk.choices[0]?.delta?.content ?? "";

const refused = await client.responses.create({ model: flow, input: "hello", temperature: 0.1 }).catch((error) => error);
const models = [];
for await (const model of client.models.list()) models.push(model.id);

console.log(
  JSON.stringify({
    text: answer.output_text,
    first: kinds.slice(0, 2),
    last: kinds.at(-1),
    resumed: JSON.stringify(resumed) === JSON.stringify(kinds.slice(2)),
    call: call.name,
    answered: answered.status,
    cancelled: ["cancelled", "completed"].includes(cancelled.status),
    completion: completion.choices[0].message.content,
    words,
    refused: [refused.status, refused.param],
    lists: models.includes(flow),
  }),
);
