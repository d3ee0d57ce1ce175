// What an answer cost, from its usage: a line, and all of it when opened.
import { el } from './dom.js';
import { bytes, count, digits, percent, plural, seconds } from './format.js';

// [name, text] of what there is; servers may leave any of it out.
function rows(usage) {
  const mach = usage.mach ?? {};
  const found = [];
  const add = (name, value, text) => {
    if (value !== undefined && value !== null) found.push([name, text(value)]);
  };
  const tokens = usage.completion_tokens;
  add('Prompt', usage.prompt_tokens, (value) => plural(value, 'token'));
  add('of it cached', mach.cached_tokens ?? usage.prompt_tokens_details?.cached_tokens, (value) => plural(value, 'token'));
  add('Answer', tokens, (value) => plural(value, 'token'));
  const thought = usage.completion_tokens_details?.reasoning_tokens;
  if (thought) add('of it thinking', thought, (value) => plural(value, 'token'));
  add('Waited for others', mach.queue_seconds, seconds);
  add('Prefill', mach.prefill_seconds, (value) => {
    const computed = (usage.prompt_tokens ?? 0) - (mach.cached_tokens ?? 0);
    return seconds(value) + (value > 0 && computed > 0 ? `, ${digits(computed / value)} tok/s` : '');
  });
  add('Decode', mach.decode_seconds, (value) => (
    seconds(value) + (value > 0 && tokens > 0 ? `, ${digits(tokens / value)} tok/s` : '')));
  add('Read from disk', mach.bytes_read, bytes);
  if (mach.expert_hit_rate !== null) add('Expert hit rate', mach.expert_hit_rate, percent);
  const experts = (mach.expert_hits ?? 0) + (mach.expert_misses ?? 0) +
    (mach.expert_prefill_hits ?? 0) + (mach.expert_prefill_misses ?? 0);
  if (experts > 0) {
    add('Experts while decoding', mach.expert_hits, (value) => `${count(value)} in memory, ${count(mach.expert_misses ?? 0)} read`);
    add('Experts in prefill', mach.expert_prefill_hits, (value) => `${count(value)} in memory, ${count(mach.expert_prefill_misses ?? 0)} read`);
    add('Waited for the disk', mach.stall_seconds, seconds);
  }
  return found;
}

function line(usage) {
  const mach = usage.mach ?? {};
  const words = [];
  if (usage.completion_tokens !== undefined) words.push(plural(usage.completion_tokens, 'token'));
  if (mach.decode_seconds > 0) words.push(`${digits(usage.completion_tokens / mach.decode_seconds)} tok/s`);
  if (mach.prefill_seconds !== undefined) words.push(`prefill ${seconds(mach.prefill_seconds)}`);
  if (mach.bytes_read > 0) words.push(`${bytes(mach.bytes_read)} read`);
  if (typeof mach.expert_hit_rate === 'number') words.push(`${percent(mach.expert_hit_rate)} hits`);
  if (mach.cached_tokens > 0) words.push(`${count(mach.cached_tokens)} cached`);
  return words.join('  \u00b7  ');
}

// Null without usage.
export function receipt(usage) {
  if (!usage) return null;
  const text = line(usage);
  if (!text) return null;
  return el('details', { class: 'receipt' },
    el('summary', {}, el('span', { class: 'unseen' }, 'Receipt: '), text),
    el('dl', {}, rows(usage).map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value)))));
}
