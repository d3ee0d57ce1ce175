// Reads server-sent events as the chat endpoint sends them: one `data:` line each, comments between.

// The data of each event, as text.
export async function* events(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += decoder.decode(value, { stream: !done });
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === '') {
          if (data.length > 0) yield data.join('\n');
          data = [];
        } else if (line.startsWith('data:')) {
          data.push(line.slice(line[5] === ' ' ? 6 : 5));
        }
      }
      if (done) return;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// What the chunks of an answer add up to. `add` takes one chunk, parsed.
export class Answer {
  content = '';
  reasoning = '';
  calls = []; // {id, name, arguments}
  finish = null;
  usage = null;
  began = performance.now();
  firstToken = null; // times of performance.now()
  reasoningEnd = null;

  add(chunk) {
    if (chunk.usage) this.usage = chunk.usage;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    const delta = choice.delta ?? {};
    const thought = delta.reasoning_content ?? delta.reasoning ?? '';
    const now = performance.now();
    if (thought || delta.content || delta.tool_calls) this.firstToken ??= now;
    if (thought) this.reasoning += thought;
    if ((delta.content || delta.tool_calls) && this.reasoning) this.reasoningEnd ??= now;
    if (delta.content) this.content += delta.content;
    for (const part of delta.tool_calls ?? []) {
      const call = (this.calls[part.index ?? 0] ??= { id: '', name: '', arguments: '' });
      if (part.id) call.id += part.id;
      call.name += part.function?.name ?? '';
      call.arguments += part.function?.arguments ?? '';
    }
    if (choice.finish_reason) this.finish = choice.finish_reason;
  }

  get reasoningSeconds() {
    if (!this.reasoning) return 0;
    return ((this.reasoningEnd ?? performance.now()) - (this.firstToken ?? this.began)) / 1000;
  }
}
