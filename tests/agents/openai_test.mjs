// The official Node client with tools: what its helpers make of our streams.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import OpenAI from 'openai';
import { call, serve, until } from './rules.mjs';

const server = await serve([
  { after_tool: true, contains: '18 degrees', text: 'It is 18 degrees.' },
  { last: 'weather', reasoning: 'Paris.', text: call('get_weather', { city: 'Zürich "x" \\', days: 2 }) },
  { last: 'slow', token_ms: 20, text: 'word '.repeat(2000) },
]);
after(async () => assert.equal(await server.stop(), 0));
const client = new OpenAI({ baseURL: server.url, apiKey: 'local', maxRetries: 0 });
const parameters = { type: 'object', required: ['city'],
  properties: { city: { type: 'string' }, days: { type: 'integer' } } };
const tools = [{ type: 'function', function: { name: 'get_weather', parameters } }];
const ask = (content) => ({ model: 'scripted', tools, messages: [{ role: 'user', content }] });

test('a call, whole', async () => {
  const reply = await client.chat.completions.create(ask('weather'));
  const [choice] = reply.choices;
  assert.equal(choice.finish_reason, 'tool_calls');
  assert.equal(choice.message.content, null);
  assert.equal(choice.message.reasoning_content.trimEnd(), 'Paris.');
  assert.deepEqual(JSON.parse(choice.message.tool_calls[0].function.arguments),
    { city: 'Zürich "x" \\', days: 2 });
});

test('the stream helper assembles calls', async () => {
  const stream = client.chat.completions.stream(
    { ...ask('weather'), stream_options: { include_usage: true } });
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].finish_reason, 'tool_calls');
  const [made] = final.choices[0].message.tool_calls;
  assert.equal(made.function.name, 'get_weather');
  assert.equal(JSON.parse(made.function.arguments).city, 'Zürich "x" \\');
  assert.ok(final.usage.completion_tokens > 10);
});

test('runTools goes through the loop', async () => {
  const cities = [];
  const runner = client.chat.completions.runTools({
    model: 'scripted', stream: true, messages: [{ role: 'user', content: 'weather' }],
    tools: [{ type: 'function', function: { name: 'get_weather', parameters, parse: JSON.parse,
      function: ({ city }) => { cities.push(city); return '18 degrees'; } } }],
  });
  assert.equal((await runner.finalContent()).trimStart(), 'It is 18 degrees.');
  assert.deepEqual(cities, ['Zürich "x" \\']);
});

test('an aborted stream ends its request', async () => {
  const stream = await client.chat.completions.create({ ...ask('slow'), stream: true });
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) break;
  }
  stream.controller.abort();
  assert.ok(await until(async () => (await server.stats()).requests.active === 0, 1000));
});
