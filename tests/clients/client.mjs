// OpenAI's client for Node: what it gets, as one line of JSON, for a test to look at.
import OpenAI from "openai";

const [baseURL] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const asked = { model: "echo", messages: [{ role: "user", content: "one two three" }] };

const whole = await client.chat.completions.create(asked);
let streamed = "";
let usage = null;
for await (const chunk of await client.chat.completions.create({
  ...asked,
  stream: true,
  stream_options: { include_usage: true },
})) {
  streamed += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.usage ?? usage;
}
const embedded = await client.embeddings.create({
  model: "echo",
  input: "sea",
  encoding_format: "float",
});
const models = (await client.models.list()).data.map((model) => model.id);
const failed = async (asking) => {
  try {
    await asking;
  } catch (error) {
    return [error.constructor.name, error.status, error.code];
  }
};
console.log(
  JSON.stringify({
    whole: whole.choices[0].message.content,
    streamed,
    tokens: usage?.total_tokens,
    numbers: embedded.data[0].embedding.length,
    models,
    retrieved: (await client.models.retrieve("echo")).id,
    unknown: await failed(client.chat.completions.create({ ...asked, model: "gpt-5" })),
    empty: await failed(client.chat.completions.create({ ...asked, messages: [] })),
  }),
);
