// The live view: asks /v1/stats and /v1/cache/stats once a second while it is looked at.
import { ApiError, getJson } from './api.js';
import { Parts, Trend } from './charts.js';
import { el } from './dom.js';
import { bytes, count, digits, percent } from './format.js';
import { ResidencyMap } from './map.js';

const EVERY_MS = 1000;

const OWNERS = {
  weights: 'Weights', expert_bank: 'Expert bank', expert_arena: 'Prefill arena', experts: 'Experts',
  kv: 'Keys and values', recurrent: 'Recurrent state', activations: 'Activations', requests: 'Requests',
  process: 'Process',
};

const speed = (value) => `${digits(value)} tok/s`;
const flow = (value) => `${bytes(Math.round(value))}/s`;

export class Live {
  #keyNeeded;
  #timer = 0;
  #asking = false;
  #before = null; // {time, stats, experts} a tick ago
  #residency = null; // of capabilities
  #note = el('p', { class: 'live-note', role: 'status' });
  #decode = new Trend('Decode', { note: 'last 5 s', format: speed });
  #prefill = new Trend('Prefill', { note: 'last prompt', format: speed });
  #hits = new Trend('Expert hits', { format: percent, top: 1 });
  #disk = new Trend('Disk reads', { format: flow });
  #parts = new Parts(bytes);
  #memory = el('p', { class: 'now' });
  #requests = el('dl', { class: 'facts' });
  #store = el('dl', { class: 'facts wide' });
  #map = new ResidencyMap();
  #noMap = el('p', { class: 'soft' });
  #table = el('tbody');
  #experts;

  constructor(root, { keyNeeded }) {
    this.#keyNeeded = keyNeeded;
    const details = el('details', { class: 'by-layer' }, el('summary', {}, 'Table by layer'),
      el('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'Experts by layer' }, el('table', {},
        el('thead', {}, el('tr', {}, ['Layer', 'In memory', 'Hits', 'Misses', 'Hit rate', 'Prefill hits', 'Prefill misses']
          .map((name) => el('th', { scope: 'col' }, name)))), this.#table)));
    this.#experts = el('div', {}, this.#store, this.#map.node, details);
    root.append(el('div', { class: 'live-inner' },
      el('h2', { class: 'unseen' }, 'Live view of the server'), this.#note,
      el('div', { class: 'cards' }, this.#decode.node, this.#prefill.node, this.#hits.node, this.#disk.node),
      el('div', { class: 'cards two' },
        el('section', { class: 'card' }, el('h3', {}, 'Memory'), this.#memory, this.#parts.node),
        el('section', { class: 'card' }, el('h3', {}, 'Requests'), this.#requests)),
      el('section', { class: 'card' }, el('h3', {}, 'Experts'), this.#noMap, this.#experts)));
    this.#experts.hidden = true;
    document.addEventListener('visibilitychange', () => { if (this.#timer) this.#tick(); });
  }

  about(capabilities) {
    this.#residency = capabilities.serving?.expert_residency ?? null;
  }

  show(shown) {
    clearInterval(this.#timer);
    this.#timer = 0;
    this.#before = null;
    if (!shown) return;
    this.#timer = setInterval(() => this.#tick(), EVERY_MS);
    this.#tick();
  }

  redraw() {
    this.#map.draw();
  }

  async #tick() {
    if (this.#asking || document.hidden) return;
    this.#asking = true;
    try {
      const [stats, cache] = await Promise.all([getJson('v1/stats'), getJson('v1/cache/stats?detail=1')]);
      const now = { time: performance.now() / 1000, stats, experts: cache.streaming_summary ?? null };
      this.#note.textContent = '';
      this.#show(now, this.#before);
      this.#before = now;
    } catch (error) {
      this.#before = null;
      this.#note.textContent = error instanceof ApiError ? error.message : `This view failed: ${error.message}`;
      if (error.status === 401) await this.#keyNeeded();
    } finally {
      this.#asking = false;
    }
  }

  #show(now, before) {
    const { stats, experts } = now;
    const passed = before ? now.time - before.time : 0;
    const { decode = {}, prefill = {}, process = {}, requests = {} } = stats;
    // The server's recent speeds stay when nothing runs; the lines do not.
    const recent = (after, then) => (then && after.tokens > then.tokens ? after.recent_tok_s : 0);
    this.#decode.add(recent(decode, before?.stats.decode), decode.recent_tok_s ?? null);
    this.#prefill.add(recent(prefill, before?.stats.prefill), prefill.recent_tok_s ?? null);
    this.#showMemory(process);
    this.#facts(this.#requests, [
      ['Running', requests.active], ['Waiting', requests.queued], ['Taken so far', requests.total],
      ['Cancelled', requests.cancelled], ['Failed', requests.failed, requests.failed > 0]]);
    for (const trend of [this.#hits, this.#disk]) trend.node.hidden = !experts;
    this.#experts.hidden = !experts;
    this.#noMap.hidden = Boolean(experts);
    if (!experts) {
      this.#noMap.textContent = this.#residency === 'stacked'
        ? 'All experts of this model are in memory, so there is nothing to map.'
        : 'This model has no experts that are read from disk, so there is nothing to map.';
      return;
    }
    const then = before?.experts;
    const hits = experts.hits - (then?.hits ?? experts.hits);
    const asked = hits + experts.misses - (then?.misses ?? experts.misses);
    this.#hits.add(asked > 0 ? hits / asked : null, asked > 0 ? hits / asked : experts.hit_rate);
    this.#disk.add(then ? Math.max(0, experts.bytes_read - then.bytes_read) / passed : null);
    this.#facts(this.#store, [
      ['In memory', `${count(experts.experts_resident)} of ${count(experts.capacity)} places`],
      ['Hit rate so far', percent(experts.hit_rate)], ['Evicted', experts.evictions],
      ['Read', bytes(experts.bytes_read)], ['Waited for the disk', `${digits(experts.stall_seconds)} s`],
      ['Policy', experts.policy], ['Reads', experts.direct_pread?.active ? `${experts.direct_pread.mode}, direct` : 'through the page cache',
        experts.direct_pread?.active === false],
      ['Read errors', experts.read_errors, experts.read_errors > 0]]);
    const layers = experts.per_layer ?? [];
    const drawn = layers.length > 0 && layers.every((layer) => layer.map);
    this.#map.node.hidden = !drawn;
    if (drawn) this.#map.show(layers);
    this.#showTable(layers);
  }

  #showMemory(process) {
    const owned = process.accounted_bytes ?? {};
    const booked = Object.values(owned).reduce((sum, value) => sum + value, 0);
    this.#memory.replaceChildren(
      el('span', { class: 'number-now' }, process.rss_bytes ? bytes(process.rss_bytes) : '–'),
      el('span', { class: 'soft' }, process.peak_rss_bytes ? `resident, ${bytes(process.peak_rss_bytes)} at most; ${bytes(booked)} booked, by owner:` : ''));
    const known = Object.keys(OWNERS);
    const names = [...known.filter((name) => name in owned), ...Object.keys(owned).filter((name) => !known.includes(name))];
    this.#parts.show(names.map((name) => (
      { name: OWNERS[name] ?? name, value: owned[name], kind: name in OWNERS ? name : 'other' })));
  }

  #facts(list, rows) {
    const known = rows.filter(([, value]) => value !== undefined && value !== null);
    while (list.childElementCount > known.length) list.lastChild.remove();
    known.forEach(([name, value, alarming], i) => {
      if (!list.children[i]) list.append(el('div', {}, el('dt'), el('dd')));
      const [term, text] = list.children[i].children;
      term.textContent = name;
      text.textContent = typeof value === 'number' ? count(value) : value;
      text.classList.toggle('bad', Boolean(alarming));
    });
  }

  #showTable(layers) {
    if (!this.#table.closest('details').open) return;
    this.#table.replaceChildren(...layers.map((layer) => {
      const asked = layer.hits + layer.misses;
      return el('tr', {}, el('th', { scope: 'row' }, String(layer.layer)),
        [layer.resident, layer.hits, layer.misses].map((value) => el('td', {}, count(value))),
        el('td', {}, asked > 0 ? percent(layer.hits / asked) : '–'),
        [layer.prefill_hits, layer.prefill_misses].map((value) => el('td', {}, count(value))));
    }));
  }
}
