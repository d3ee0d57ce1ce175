// How messages look. The conversation itself is chat.js's; views call its handlers.
import { button, copy, el, grow, speak } from './dom.js';
import { digits, plural, seconds } from './format.js';
import { Markdown, codeBlock } from './markdown.js';
import { receipt } from './receipt.js';

const FINISH = {
  length: 'It ends here because max_tokens or the context was reached.',
  stopped: 'Stopped.',
  content_filter: 'The server held the rest back.',
};

export function userView(message, handlers) {
  const text = el('div', { class: 'words' }, message.content);
  const actions = el('div', { class: 'actions' });
  const node = el('article', { class: 'message user', 'aria-label': 'You' }, text, actions);
  const edit = () => {
    const area = el('textarea', { 'aria-label': 'Edit the message', rows: '1' });
    area.value = message.content;
    const done = () => { node.replaceChildren(text, actions); node.classList.remove('editing'); };
    const resend = () => { if (area.value.trim()) handlers.resend(message, area.value); };
    area.addEventListener('input', () => grow(area));
    area.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') {
        event.stopPropagation();
        done();
        editButton.focus();
      } else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        resend();
      }
    });
    node.replaceChildren(area, el('div', { class: 'row' },
      el('p', { class: 'soft' }, 'What follows it is dropped.'),
      button('Cancel', null, done), button('Send again', null, resend, { class: 'primary' })));
    node.classList.add('editing');
    grow(area);
    area.focus();
  };
  const editButton = button('Edit', 'edit', edit);
  actions.append(button('Copy', 'copy', (event) => copy(message.content, event.currentTarget)), editButton);
  return node;
}

// {text, good} of an answer that was to be JSON.
export function pretty(text) {
  try {
    return { text: JSON.stringify(JSON.parse(text), null, 2), good: true };
  } catch (error) {
    return { text, good: false, why: error.message };
  }
}

export class AssistantView {
  #message;
  #handlers;
  #body = el('div', { class: 'words' });
  #markdown = new Markdown(this.#body);
  #thinking = null; // {details, summary, text}
  #calls = el('div', { class: 'calls' });
  #end = el('div', { class: 'end' });
  #live = el('p', { class: 'pace', 'aria-hidden': 'true' });

  constructor(message, handlers) {
    this.#message = message;
    this.#handlers = handlers;
    this.node = el('article', { class: 'message assistant', 'aria-label': 'Answer' },
      this.#body, this.#calls, this.#end);
  }

  // While it streams: what the Answer has come to.
  stream(answer) {
    this.node.setAttribute('aria-busy', 'true');
    const message = this.#message;
    message.content = answer.content;
    message.reasoning = answer.reasoning;
    message.calls = answer.calls.filter(Boolean);
    message.reasoningSeconds = answer.reasoningSeconds;
    this.#showThinking(answer.reasoning && !answer.reasoningEnd);
    if (message.json) this.#showJson(false);
    else this.#markdown.update(message.content, { tell: speak });
    this.#showCalls(true);
    if (!this.#live.isConnected) this.#end.append(this.#live);
    this.#live.textContent = this.#pace(answer);
  }

  #pace(answer) {
    const now = performance.now();
    if (!answer.firstToken) return `Reading the prompt, ${seconds(Math.floor((now - answer.began) / 1000))}`.replace('0 ms', '0 s');
    const tokens = answer.usage?.completion_tokens;
    if (!tokens) return 'Answering';
    const time = (now - answer.firstToken) / 1000;
    const rate = time > 0.5 && tokens > 1 ? `  \u00b7  ${digits((tokens - 1) / time)} tok/s` : '';
    return plural(tokens, 'token') + rate;
  }

  // When it has ended, and when it comes from storage.
  finish({ last, results }) {
    const message = this.#message;
    this.node.removeAttribute('aria-busy');
    this.#showThinking(false);
    if (message.json) this.#showJson(true);
    else this.#markdown.update(message.content, message.streamed ? { tell: speak, all: true } : null);
    delete message.streamed;
    this.#showCalls(false, results, last);
    const notice = FINISH[message.finish] ??
      (['stop', 'tool_calls', null, undefined].includes(message.finish) ? '' : `Ended: ${message.finish}.`);
    const error = message.error;
    const actions = [];
    if (message.content) actions.push(button('Copy', 'copy', (event) => copy(message.content, event.currentTarget)));
    actions.push(button(error ? 'Try again' : 'Regenerate', 'again', () => this.#handlers.regenerate(message)));
    this.#end.replaceChildren(
      notice ? el('p', { class: 'notice' }, notice) : '',
      error ? el('div', { class: 'error' }, el('p', {}, error.message),
        error.requestId ? el('p', { class: 'soft' }, 'Request ', el('code', {}, error.requestId)) : '') : '',
      receipt(message.usage) ?? '',
      el('div', { class: 'actions' }, actions));
  }

  #showThinking(running) {
    const { reasoning, reasoningSeconds } = this.#message;
    if (!reasoning) return;
    if (!this.#thinking) {
      const summary = el('summary');
      const text = el('div', { class: 'thoughts' });
      const details = el('details', { class: 'thinking' }, summary, text);
      this.#thinking = { details, summary, text };
      this.node.prepend(details);
    }
    const { details, summary, text } = this.#thinking;
    details.classList.toggle('running', Boolean(running));
    const time = Math.round(reasoningSeconds ?? 0);
    summary.textContent = running ? `Thinking\u2026 ${time} s` : `Thought for ${time > 0 ? `${time} s` : 'a moment'}`;
    if (text.textContent !== reasoning) text.textContent = reasoning;
  }

  #showJson(ended) {
    const { text, good, why } = pretty(this.#message.content);
    const block = codeBlock(ended ? text : this.#message.content, 'json');
    const verdict = good ? 'It parses as JSON.' : `It does not parse as JSON: ${why}`;
    this.#body.replaceChildren(block,
      ended ? el('p', { class: good ? 'good' : 'bad' }, verdict) : '');
    if (ended && this.#message.streamed) speak(`${text} ${verdict}`);
  }

  #showCalls(running, results = new Map(), last = false) {
    const calls = this.#message.calls ?? [];
    if (calls.length === 0) return;
    // While they stream only the texts change, so that nothing loses its place.
    while (this.#calls.childElementCount > calls.length) this.#calls.lastChild.remove();
    calls.forEach((call, i) => {
      let node = this.#calls.children[i];
      if (!node?.classList.contains('call')) {
        node = el('div', { class: 'call' },
          el('div', { class: 'call-head' }, el('span', { class: 'soft' }, 'Call'), el('code', { class: 'call-name' })),
          el('pre', { tabindex: '0', 'aria-label': 'Arguments' }, el('code')));
        if (this.#calls.children[i]) this.#calls.children[i].replaceWith(node);
        else this.#calls.append(node);
      }
      node.querySelector('.call-name').textContent = call.name;
      node.classList.toggle('running', running);
      const shown = running ? call.arguments : pretty(call.arguments).text;
      const code = node.querySelector('pre code');
      if (code.textContent !== shown) code.textContent = shown;
    });
    if (running) return;
    const open = last && this.#message.finish !== 'stopped' && !this.#message.error &&
      calls.some((call) => !results.has(call.id));
    const areas = calls.map((call, i) => {
      const node = this.#calls.children[i];
      if (results.has(call.id)) {
        node.append(el('div', { class: 'call-head' }, el('span', { class: 'soft' }, 'Result')),
          el('pre', { tabindex: '0', 'aria-label': 'Result' }, el('code', {}, results.get(call.id))));
        return null;
      }
      if (!open) return null;
      const id = `result-${call.id || i}`;
      const area = el('textarea', { id, class: 'json', rows: '2', spellcheck: 'false' });
      area.addEventListener('input', () => grow(area));
      node.append(el('label', { class: 'soft', for: id }, `Result of ${call.name}`), area);
      return area;
    });
    if (!open) return;
    const send = () => this.#handlers.answerCalls(calls.map((call, i) => (
      { role: 'tool', call: call.id, name: call.name, content: areas[i]?.value ?? '' })));
    areas.forEach((area) => area?.addEventListener('keydown', (event) => {
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        send();
      }
    }));
    this.#calls.append(el('div', { class: 'row' },
      button(calls.length > 1 ? 'Send the results' : 'Send the result', null, send, { class: 'primary' })));
  }
}
