// The official Node client, unmodified, against a running server with any model:
//   MACH_BASE_URL=http://127.0.0.1:8080/v1 npm test
import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';

const baseURL = process.env.MACH_BASE_URL;
assert.ok(baseURL, 'set MACH_BASE_URL to http://HOST:PORT/v1');
const client = new OpenAI({ baseURL, apiKey: 'local', maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const messages = [{ role: 'user', content: 'Count from one to ten in words.' }];
const chat = (fields = {}, options = {}) =>
  client.chat.completions.create(
    { model, messages, max_tokens: 16, temperature: 0, ...fields }, options);

const stats = async () => (await fetch(`${baseURL}/stats`)).json();
async function until(check, ms = 10000) {
  const deadline = Date.now() + ms;
  while (Date.now() < deadline) {
    if (await check()) return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return false;
}

test('models', async () => {
  const entry = await client.models.retrieve(model);
  assert.equal(entry.id, model);
  await assert.rejects(client.models.retrieve('no-such-model'), OpenAI.NotFoundError);
});

test('chat, whole and streamed, say the same', async () => {
  const whole = await chat();
  assert.equal(whole.object, 'chat.completion');
  assert.ok(whole.choices[0].message.content.length > 0);
  let text = '';
  let usage = null;
  let reason = null;
  const stream = await chat({ stream: true, stream_options: { include_usage: true } });
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? '';
    reason = chunk.choices[0]?.finish_reason ?? reason;
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(reason, whole.choices[0].finish_reason);
  assert.deepEqual(usage, whole.usage);
});

test('the stream helper assembles the final message', async () => {
  const stream = client.chat.completions.stream({ model, messages, max_tokens: 8, temperature: 0 });
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content, (await chat({ max_tokens: 8 })).choices[0].message.content);
});

test('n, stop and logprobs', async () => {
  const several = await chat({ n: 2, temperature: 1, seed: 5, max_tokens: 6 });
  assert.deepEqual(several.choices.map((choice) => choice.index), [0, 1]);
  const text = (await chat({ max_tokens: 30 })).choices[0].message.content;
  const stop = text.slice(text.length / 2).slice(0, 2);
  const stopped = await chat({ max_tokens: 30, stop });
  assert.equal(stopped.choices[0].message.content, text.slice(0, text.indexOf(stop)));
  assert.equal(stopped.choices[0].finish_reason, 'stop');
  const scored = await chat({ logprobs: true, top_logprobs: 2, max_tokens: 4 });
  assert.ok(scored.choices[0].logprobs.content.every((entry) => entry.top_logprobs.length === 2));
});

test('completions', async () => {
  const body = { model, prompt: 'Once upon a time', max_tokens: 8, temperature: 0 };
  const whole = await client.completions.create(body);
  assert.equal(whole.object, 'text_completion');
  let text = '';
  for await (const chunk of await client.completions.create({ ...body, stream: true })) {
    text += chunk.choices[0]?.text ?? '';
  }
  assert.equal(text, whole.choices[0].text);
});

test('errors have their types', async () => {
  await assert.rejects(chat({ temperature: -1 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, 'temperature');
    assert.ok(error.requestID);
    return true;
  });
  await assert.rejects(chat({ max_tokens: 1e9 }), { code: 'context_length_exceeded' });
  await assert.rejects(chat({ model: 'no-such-model' }), OpenAI.NotFoundError);
  await assert.rejects(chat({ stream: true, top_p: 5 }), OpenAI.BadRequestError);
});

test('aborting cancels the generation', async () => {
  const before = (await stats()).requests.cancelled;
  const stream = await chat({ stream: true, max_tokens: 2000, ignore_eos: true });
  let chunks = 0;
  for await (const chunk of stream) {
    if (++chunks === 3 && chunk) break; // leaving the loop aborts the request
  }
  assert.ok(await until(async () => (await stats()).requests.cancelled > before));

  const again = (await stats()).requests.cancelled;
  const controller = new AbortController();
  const whole = chat({ max_tokens: 2000, ignore_eos: true }, { signal: controller.signal });
  setTimeout(() => controller.abort(), 150);
  await assert.rejects(whole, OpenAI.APIUserAbortError);
  assert.ok(await until(async () => (await stats()).requests.cancelled > again));
  assert.ok(await until(async () => (await stats()).requests.active === 0));
});

test('parallel requests do not disturb each other', async () => {
  const alone = (await chat()).choices[0].message.content;
  const texts = await Promise.all(
    Array.from({ length: 6 }, async () => (await chat()).choices[0].message.content));
  assert.deepEqual(new Set(texts), new Set([alone]));
});
