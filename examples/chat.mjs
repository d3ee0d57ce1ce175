// A chat with a running mach-serve: node examples/chat.mjs [BASE_URL] (npm install openai)
import OpenAI from 'openai';

const baseURL = process.argv[2] ?? 'http://127.0.0.1:8080/v1';
const client = new OpenAI({ baseURL, apiKey: 'local' });
const model = (await client.models.list()).data[0].id;
const messages = [{ role: 'user', content: 'Write one sentence about the sea.' }];
const stream = await client.chat.completions.create({
  model, messages, stream: true, max_tokens: 100,
});
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? '');
process.stdout.write('\n');
