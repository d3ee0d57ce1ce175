// Conversations, kept in the browser: an index of titles and one entry for each conversation.
//
// A conversation: {id, title, changed, settings, messages}. Messages: {role: 'user', content},
// {role: 'assistant', content, reasoning, calls, finish, usage, …}, {role: 'tool', call, content}.
import { newId, toast } from './dom.js';
import { emptySettings } from './settings.js';

const INDEX = 'mach.conversations';
const entry = (id) => `mach.conversation.${id}`;

function read(name) {
  try {
    return JSON.parse(localStorage.getItem(name));
  } catch {
    return null;
  }
}

let told = false;
function write(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
  } catch {
    if (!told) toast('The browser has no room to keep this conversation');
    told = true;
  }
}

// [{id, title, changed}], the newest first.
export function list() {
  const index = read(INDEX);
  return Array.isArray(index) ? index : [];
}

export function create(settings) {
  return {
    id: newId(), title: '', changed: Date.now(),
    settings: settings ? structuredClone(settings) : emptySettings(), messages: [],
  };
}

export function load(id) {
  const stored = read(entry(id));
  if (!stored || !Array.isArray(stored.messages)) return null;
  return { ...stored, settings: { ...emptySettings(), ...stored.settings } };
}

// A conversation without messages is not kept.
export function save(conversation) {
  if (conversation.messages.length === 0) return;
  conversation.changed = Date.now();
  const first = conversation.messages.find((message) => message.role === 'user');
  conversation.title = (first?.content ?? '').trim().replace(/\s+/g, ' ').slice(0, 80) || 'Untitled';
  const { id, title, changed } = conversation;
  write(entry(id), conversation);
  write(INDEX, [{ id, title, changed }, ...list().filter((other) => other.id !== id)]);
}

export function remove(id) {
  try {
    localStorage.removeItem(entry(id));
  } catch {
    // Nothing was kept.
  }
  write(INDEX, list().filter((other) => other.id !== id));
}

// The messages as a request would have them, between the page's own fields.
export function exported(conversation) {
  return JSON.stringify({ format: 'mach conversation 1', ...conversation }, null, 2);
}
