// The conversation that is open: sends it, streams answers, edits it. One answer at a time.
import { ApiError, call } from './api.js';
import { $, el, grow, icon, speak, toast } from './dom.js';
import { AssistantView, userView } from './message.js';
import { requestFields, summary } from './settings.js';
import { Answer, events } from './stream.js';
import * as store from './store.js';

// The messages as the API wants them.
function wireMessages(conversation) {
  const wire = [];
  const system = conversation.settings.system.trim();
  if (system) wire.push({ role: 'system', content: system });
  for (const message of conversation.messages) {
    if (message.role === 'user') {
      wire.push({ role: 'user', content: message.content });
    } else if (message.role === 'tool') {
      wire.push({ role: 'tool', tool_call_id: message.call, content: message.content });
    } else {
      const calls = message.calls ?? [];
      if (!message.content && calls.length === 0) continue; // it failed or was stopped at once
      const out = { role: 'assistant', content: message.content || null };
      if (message.reasoning) out.reasoning_content = message.reasoning;
      if (calls.length > 0) {
        out.tool_calls = calls.map((made) => (
          { id: made.id, type: 'function', function: { name: made.name, arguments: made.arguments } }));
      }
      wire.push(out);
    }
  }
  return wire;
}

export class Chat {
  conversation = store.create();
  #running = null; // {controller, conversation, message}
  #views = new Map(); // message -> its view
  #hooks;

  // hooks: saved(), keyNeeded() -> promise, loading(), model() -> id or null
  constructor(hooks) {
    this.#hooks = hooks;
    const text = $('text');
    text.addEventListener('input', () => grow(text));
    text.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        if (!this.#running) this.#submit();
      }
    });
    $('composer').addEventListener('submit', (event) => {
      event.preventDefault();
      if (this.#running) this.stop();
      else this.#submit();
    });
  }

  get running() {
    return this.#running !== null;
  }

  open(conversation) {
    this.stop();
    this.conversation = conversation;
    this.#drawAll();
    this.showModes();
    this.#scrollDown();
  }

  stop() {
    this.#running?.controller.abort();
  }

  showModes() {
    $('modes').replaceChildren(...summary(this.conversation.settings).map((word) => el('span', { class: 'mode' }, word)));
  }

  #submit() {
    const text = $('text');
    const content = text.value.trim();
    if (!content) return;
    this.conversation.messages.push({ role: 'user', content });
    text.value = '';
    grow(text);
    this.#answer();
  }

  #handlers = {
    resend: (message, content) => this.#cut(message, [{ role: 'user', content: content.trim() }]),
    regenerate: (message) => this.#cut(message, []),
    answerCalls: (results) => {
      this.conversation.messages.push(...results);
      this.#answer();
    },
  };

  // Drops a message and what follows it, and asks again.
  #cut(message, instead) {
    this.stop();
    const { messages } = this.conversation;
    messages.splice(messages.indexOf(message), Infinity, ...instead);
    this.#answer();
    $('text').focus();
  }

  async #answer() {
    const { conversation } = this;
    let fields;
    try {
      fields = requestFields(conversation.settings);
    } catch (error) {
      fields = null;
      this.#addAnswer({ error: { message: error.message } });
    }
    if (!fields) {
      this.#drawAll();
      this.#scrollDown();
      return;
    }
    const body = {
      ...fields,
      messages: wireMessages(conversation),
      stream: true,
      stream_options: { include_usage: true, continuous_usage_stats: true },
      receipt: true,
    };
    const model = this.#hooks.model();
    if (model) body.model = model;
    const message = this.#addAnswer({ json: Boolean(fields.response_format), streamed: true });
    const controller = new AbortController();
    const run = { controller, conversation, message };
    this.#running = run;
    this.#drawAll();
    this.#scrollDown();
    this.#showSend();
    this.#save(conversation);
    const answer = new Answer();
    const view = this.#views.get(message);
    let frame = 0;
    const draw = () => {
      frame = 0;
      if (this.#running !== run) return;
      const follow = this.#atEnd();
      view.stream(answer);
      if (follow) this.#scrollDown();
    };
    const schedule = () => { frame ||= requestAnimationFrame(draw); };
    const ticking = setInterval(schedule, 500); // the clock of what has not begun
    schedule();
    try {
      const response = await this.#send(body, controller.signal);
      message.requestId = response.headers.get('x-request-id');
      let done = false;
      for await (const data of events(response)) {
        if (data === '[DONE]') {
          done = true;
          break;
        }
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ApiError(chunk.error.message ?? 'The answer failed.', { requestId: message.requestId });
        answer.add(chunk);
        schedule();
      }
      if (!done && !answer.finish) throw new ApiError('The connection ended before the answer did.', { requestId: message.requestId });
    } catch (error) {
      if (controller.signal.aborted) answer.finish = 'stopped';
      else message.error = this.#inWords(error, message);
    } finally {
      clearInterval(ticking);
      cancelAnimationFrame(frame);
    }
    const follow = this.#atEnd();
    view.stream(answer);
    message.finish = answer.finish;
    message.usage = answer.usage;
    message.reasoningSeconds = answer.reasoningSeconds;
    speak(message.error ? `Error: ${message.error.message}` : message.finish === 'stopped' ? 'Stopped' : 'End of the answer');
    // Another answer may have begun, or another conversation be open.
    if (this.#running === run) this.#running = null;
    this.#showSend();
    if (this.conversation === conversation) this.#finishView(message);
    delete message.streamed;
    if (conversation.messages.includes(message)) this.#save(conversation);
    if (follow && this.conversation === conversation) this.#scrollDown();
  }

  // Asks for a key, and again, for as long as the server does.
  async #send(body, signal) {
    for (;;) {
      try {
        return await call('v1/chat/completions', { body, signal });
      } catch (error) {
        if (error.status !== 401) throw error;
        await this.#hooks.keyNeeded();
      }
    }
  }

  #inWords(error, message) {
    if (error.code === 'model_loading') this.#hooks.loading();
    if (error instanceof ApiError) return { message: error.message, requestId: error.requestId ?? message.requestId };
    return {
      message: error instanceof SyntaxError ? 'The server sent an event that is not JSON.' : 'The connection was lost.',
      requestId: message.requestId,
    };
  }

  #addAnswer(fields) {
    const message = { role: 'assistant', content: '', reasoning: '', calls: [], finish: null, usage: null, ...fields };
    this.conversation.messages.push(message);
    return message;
  }

  #finishView(message) {
    const { messages } = this.conversation;
    const at = messages.indexOf(message);
    const results = new Map();
    let next = at + 1;
    for (; messages[next]?.role === 'tool'; ++next) results.set(messages[next].call, messages[next].content);
    this.#views.get(message)?.finish({ last: next === messages.length, results });
  }

  #drawAll() {
    this.#views.clear();
    const { messages } = this.conversation;
    const nodes = messages.filter((message) => message.role !== 'tool').map((message) => {
      if (message.role === 'user') return userView(message, this.#handlers);
      const view = new AssistantView(message, this.#handlers);
      this.#views.set(message, view);
      if (this.#running?.message !== message) this.#finishView(message);
      return view.node;
    });
    $('messages').replaceChildren(...(nodes.length > 0 ? nodes : [this.#greeting()]));
  }

  #greeting() {
    return el('div', { class: 'greeting' },
      el('h2', {}, 'What would you like to know?'),
      el('p', { class: 'soft' }, 'Conversations are kept in this browser and nowhere else.'));
  }

  #showSend() {
    const send = $('send');
    send.setAttribute('aria-label', this.running ? 'Stop' : 'Send');
    send.classList.toggle('stops', this.running);
    send.replaceChildren(icon(this.running ? 'stop' : 'send'));
  }

  #save(conversation) {
    store.save(conversation);
    this.#hooks.saved();
  }

  #atEnd() {
    const scroll = $('scroll');
    return scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
  }

  #scrollDown() {
    const scroll = $('scroll');
    scroll.scrollTop = scroll.scrollHeight;
  }

  exportJson() {
    if (this.conversation.messages.length === 0) {
      toast('There is nothing to export yet');
      return;
    }
    const url = URL.createObjectURL(new Blob([store.exported(this.conversation)], { type: 'application/json' }));
    const name = this.conversation.title.replace(/[^\p{L}\p{N}]+/gu, '-').replace(/^-|-$/g, '').slice(0, 40) || 'conversation';
    el('a', { href: url, download: `${name}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }
}
