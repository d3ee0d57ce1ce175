// What a conversation asks of the server beside its messages, and the panel to say so.
import { $, el, icon, grow } from './dom.js';
import { plural } from './format.js';

export function emptySettings() {
  return { system: '', effort: '', sampling: {}, tools: '', schemaOn: false, schema: '' };
}

const SAMPLING = [
  { name: 'temperature', min: 0, step: 0.1 },
  { name: 'top_p', min: 0, max: 1, step: 0.05 },
  { name: 'top_k', min: -1, step: 1 },
  { name: 'min_p', min: 0, max: 1, step: 0.01 },
  { name: 'max_tokens', min: 1, step: 1 },
  { name: 'seed', step: 1 },
  { name: 'presence_penalty', min: -2, max: 2, step: 0.1 },
  { name: 'frequency_penalty', min: -2, max: 2, step: 0.1 },
  { name: 'repetition_penalty', min: 0, step: 0.05 },
];

const EXAMPLE_TOOLS = [{
  type: 'function',
  function: {
    name: 'get_weather',
    description: 'The weather in a town now.',
    parameters: {
      type: 'object',
      properties: { town: { type: 'string' }, unit: { type: 'string', enum: ['C', 'F'] } },
      required: ['town'],
    },
  },
}];

const EXAMPLE_SCHEMA = {
  type: 'object',
  properties: { name: { type: 'string' }, year: { type: 'integer' } },
  required: ['name', 'year'],
  additionalProperties: false,
};

// {value} or {error}, in words; {} for nothing.
export function parsed(text, kind) {
  if (text.trim() === '') return {};
  let value;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return { error: `This is not JSON: ${error.message}` };
  }
  if (kind === 'tools') {
    if (!Array.isArray(value)) return { error: 'Tools are an array.' };
    if (value.length === 0) return {};
    const bad = value.findIndex((tool) => typeof tool?.function?.name !== 'string');
    if (bad >= 0) return { error: `Tool ${bad + 1} has no function.name.` };
  } else if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    return { error: 'A schema is an object.' };
  }
  return { value };
}

// The fields of a request. Throws what is wrong, in words.
export function requestFields(settings) {
  const fields = {};
  if (settings.effort) fields.reasoning_effort = settings.effort;
  for (const { name } of SAMPLING) {
    const value = settings.sampling[name];
    if (value !== undefined && value !== '') fields[name] = Number(value);
  }
  const tools = parsed(settings.tools, 'tools');
  if (tools.error) throw new Error(`The tools cannot be sent. ${tools.error}`);
  if (tools.value) fields.tools = tools.value;
  if (settings.schemaOn) {
    const schema = parsed(settings.schema, 'schema');
    if (schema.error) throw new Error(`The schema cannot be sent. ${schema.error}`);
    fields.response_format = schema.value
      ? { type: 'json_schema', json_schema: { name: 'answer', schema: schema.value, strict: true } }
      : { type: 'json_object' };
  }
  return fields;
}

// What differs from the defaults, in a few words each.
export function summary(settings) {
  const words = [];
  if (settings.system.trim()) words.push('system prompt');
  const tools = parsed(settings.tools, 'tools');
  if (tools.value) words.push(plural(tools.value.length, 'tool'));
  if (settings.schemaOn) words.push(settings.schema.trim() ? 'JSON schema' : 'JSON');
  if (settings.effort) words.push(settings.effort === 'none' ? 'no thinking' : `thinking ${settings.effort}`);
  for (const { name } of SAMPLING) {
    const value = settings.sampling[name];
    if (value !== undefined && value !== '') words.push(`${name} ${value}`);
  }
  return words;
}

function jsonEditor({ id, label, hint, value, kind, example, change }) {
  const problem = el('p', { class: 'bad', id: `${id}-problem`, role: 'status' });
  const area = el('textarea', {
    id, class: 'json', rows: '5', spellcheck: 'false', 'aria-describedby': `${id}-hint ${id}-problem`,
  });
  area.value = value;
  const check = () => {
    problem.textContent = parsed(area.value, kind).error ?? '';
    area.setAttribute('aria-invalid', problem.textContent ? 'true' : 'false');
  };
  area.addEventListener('input', () => { check(); change(area.value); });
  const fill = el('button', { type: 'button', class: 'quiet' }, 'Example');
  fill.addEventListener('click', () => {
    area.value = JSON.stringify(example, null, 2);
    area.dispatchEvent(new Event('input'));
    grow(area);
  });
  check();
  return [el('div', { class: 'label-row' }, el('label', { for: id }, label), fill),
    el('p', { class: 'soft', id: `${id}-hint` }, hint), area, problem];
}

// Fills the panel for `settings` and calls `changed` whenever they do.
export function fillPanel(settings, { changed, close }) {
  const panel = $('settings');
  const system = el('textarea', { id: 'system', rows: '4' });
  system.value = settings.system;
  system.addEventListener('input', () => { settings.system = system.value; changed(); });

  const effort = el('select', { id: 'effort' },
    ['', 'none', 'low', 'medium', 'high'].map((value) => el('option', { value },
      { '': 'default', none: 'off' }[value] ?? value)));
  effort.value = settings.effort;
  effort.addEventListener('change', () => { settings.effort = effort.value; changed(); });

  const numbers = SAMPLING.map(({ name, min, max, step }) => {
    const input = el('input', {
      id: `sampling-${name}`, type: 'number', min, max, step: name === 'seed' ? 1 : 'any',
      inputmode: 'decimal', placeholder: 'default',
    });
    input.step = step;
    input.value = settings.sampling[name] ?? '';
    input.addEventListener('input', () => { settings.sampling[name] = input.value; changed(); });
    return el('div', { class: 'number' }, el('label', { for: input.id }, name), input);
  });

  const schemaOn = el('input', { type: 'checkbox', id: 'schema-on' });
  schemaOn.checked = settings.schemaOn;
  const schema = el('div', {}, jsonEditor({
    id: 'schema', label: 'Schema', kind: 'schema', value: settings.schema, example: EXAMPLE_SCHEMA,
    hint: 'JSON Schema of the answer. Empty: any object.',
    change: (text) => { settings.schema = text; changed(); },
  }));
  schema.hidden = !settings.schemaOn;
  schemaOn.addEventListener('change', () => {
    settings.schemaOn = schemaOn.checked;
    schema.hidden = !schemaOn.checked;
    changed();
  });

  panel.replaceChildren(
    el('div', { class: 'settings-head' }, el('h2', {}, 'Settings'),
      el('button', { type: 'button', class: 'icon', 'aria-label': 'Close the settings', onclick: close }, icon('close'))),
    el('p', { class: 'soft' }, 'Of this conversation; new ones begin with them.'),
    el('section', {}, el('label', { for: 'system' }, 'System prompt'), system),
    el('section', {}, el('div', { class: 'number' }, el('label', { for: 'effort' }, 'Thinking'), effort)),
    el('section', {}, el('h3', {}, 'Sampling'),
      el('p', { class: 'soft' }, 'Empty fields are the server\u2019s defaults.'),
      el('div', { class: 'numbers' }, numbers)),
    el('section', {}, jsonEditor({
      id: 'tools', label: 'Tools', kind: 'tools', value: settings.tools, example: EXAMPLE_TOOLS,
      hint: 'An array as in the API. Calls wait for results that you write.',
      change: (text) => { settings.tools = text; changed(); },
    })),
    el('section', {}, el('label', { class: 'check', for: 'schema-on' }, schemaOn, 'Answer in JSON'), schema),
    el('section', {}, el('button', {
      type: 'button', class: 'quiet', id: 'settings-reset',
      onclick: () => {
        Object.assign(settings, emptySettings());
        changed();
        fillPanel(settings, { changed, close });
        $('settings-reset').focus();
      },
    }, 'Back to the defaults')),
  );
}
