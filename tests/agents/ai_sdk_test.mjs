// The Vercel AI SDK, on which OpenCode and others are built.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText, isStepCount, jsonSchema, streamText, tool } from 'ai';
import { call, serve, until } from './rules.mjs';

const body = Array.from({ length: 30 }, (_, i) => `line ${i}: "ü" \\ <b> 🚀\n\tindented\n`).join('');
const server = await serve([
  { after_tool: true, contains: 'sunny', reasoning: 'Both are known.', text: 'Sunny in both.' },
  { last: 'weather', reasoning: 'Two cities.',
    text: `I ask.\n\n${call('weather', { city: 'Paris', days: 2 })}\n${call('weather', { city: 'Zürich' })}` },
  { last: 'write', token_ms: 4, text: call('write', { path: 'a.txt', content: body }) },
  { last: 'wrong', nth: 1, text: call('weather', { city: 'Nowhere' }) },
  { after_tool: true, contains: ['wrong', 'no city'], text: 'I was wrong.' },
  { last: 'slow', token_ms: 20, text: 'word '.repeat(2000) },
  { last: 'plain', reasoning: 'Simple.', text: 'A plain answer.' },
]);
after(async () => assert.equal(await server.stop(), 0));
const model = createOpenAICompatible(
  { name: 'mach', baseURL: server.url, apiKey: 'local', includeUsage: true })('scripted');
const weather = tool({
  description: 'The weather of a city',
  inputSchema: jsonSchema({ type: 'object', required: ['city'],
    properties: { city: { type: 'string' }, days: { type: 'integer' } } }),
  execute: async ({ city }) => {
    assert.notEqual(city, 'Nowhere', 'no city');
    return `sunny in ${city}`;
  },
});
const write = tool({
  description: 'Writes a file',
  inputSchema: jsonSchema({ type: 'object', required: ['path', 'content'],
    properties: { path: { type: 'string' }, content: { type: 'string' } } }),
});
const options = { model, tools: { weather, write }, stopWhen: isStepCount(5), maxRetries: 0 };

test('generateText: text, reasoning and usage', async () => {
  const result = await generateText({ model, prompt: 'plain', maxRetries: 0 });
  assert.equal(result.text.trimStart(), 'A plain answer.');
  assert.equal(result.reasoningText.trimEnd(), 'Simple.');
  assert.equal(result.finishReason, 'stop');
  assert.ok(result.usage.inputTokens > 0 && result.usage.outputTokens > 5);
});

test('generateText: a loop over two parallel calls', async () => {
  const result = await generateText({ ...options, prompt: 'weather' });
  assert.equal(result.text.trimStart(), 'Sunny in both.');
  assert.equal(result.steps.length, 2);
  const [first] = result.steps;
  assert.equal(first.finishReason, 'tool-calls');
  assert.equal(first.reasoningText.trimEnd(), 'Two cities.');
  assert.deepEqual(first.toolCalls.map((c) => c.input), [{ city: 'Paris', days: 2 }, { city: 'Zürich' }]);
  assert.deepEqual(first.toolResults.map((r) => r.output), ['sunny in Paris', 'sunny in Zürich']);
});

test('streamText: the same loop, part by part', async () => {
  const result = streamText({ ...options, prompt: 'weather' });
  const kinds = [];
  for await (const part of result.fullStream) {
    assert.notEqual(part.type, 'error');
    if (kinds.at(-1) !== part.type) kinds.push(part.type);
  }
  for (const kind of ['reasoning-delta', 'text-delta', 'tool-input-delta', 'tool-call', 'tool-result']) {
    assert.ok(kinds.includes(kind), kind);
  }
  assert.equal((await result.text).trimStart(), 'Sunny in both.');
  assert.equal((await result.steps).length, 2);
  assert.ok((await result.totalUsage).outputTokens > 10);
});

test('streamText: arguments come as they are written', async () => {
  const result = streamText({ ...options, prompt: 'write' });
  let input = '';
  let pieces = 0;
  let made;
  for await (const part of result.fullStream) {
    if (part.type === 'tool-input-delta') {
      input += part.delta;
      ++pieces;
    } else if (part.type === 'tool-call') {
      made = part;
    }
  }
  assert.ok(pieces > 50, `${pieces}`);
  assert.equal(JSON.parse(input).content, body);
  assert.deepEqual(made.input, { path: 'a.txt', content: body });
});

test('what a tool throws goes back to the model', async () => {
  const result = await generateText({ ...options, prompt: 'wrong' });
  assert.equal(result.text.trimStart(), 'I was wrong.');
});

test('an aborted stream ends its request', async () => {
  const abort = new AbortController();
  const result = streamText({ model, prompt: 'slow', abortSignal: abort.signal, maxRetries: 0 });
  for await (const part of result.fullStream) {
    if (part.type === 'text-delta') abort.abort();
    if (part.type === 'abort') break;
  }
  assert.ok(await until(async () => (await server.stats()).requests.active === 0, 1000));
});

test('errors keep their message and are not sent again', async () => {
  await assert.rejects(generateText({ model, prompt: 'plain', maxOutputTokens: 70000, maxRetries: 2 }),
    /maximum context length is 65536 tokens/);
});
