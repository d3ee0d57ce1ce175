// The residency map: a row for each layer with experts, a cell for each expert, as bright as it is
// hot. Drawn once a second from what the server says; nothing moves in between.
import { el } from './dom.js';
import { percent } from './format.js';

const LABEL = 34; // left of the rows
const RATES = 58; // right of them
const GAP = 10;

export class ResidencyMap {
  #canvas = el('canvas', { tabindex: '0', role: 'img' });
  #said = el('p', { class: 'said', role: 'status' });
  #layers = [];
  #before = new Map(); // layer -> its map a tick ago
  #cursor = null; // {row, expert}
  #geometry = null;
  #probe = el('span', { class: 'unseen', 'aria-hidden': 'true' });

  constructor() {
    const legend = el('div', { class: 'map-legend soft' },
      el('span', {}, el('i', { class: 'key key-none' }), 'on disk'),
      el('span', {}, 'in memory, cold', el('i', { class: 'key-scale' }), 'hot'),
      el('span', {}, el('i', { class: 'key key-new' }), 'read in the last second'));
    this.node = el('div', { class: 'map' }, legend,
      el('div', { class: 'map-scroll' }, this.#canvas), this.#said, this.#probe);
    this.#canvas.addEventListener('pointermove', (event) => this.#point(event));
    this.#canvas.addEventListener('pointerleave', () => this.#move(null));
    this.#canvas.addEventListener('keydown', (event) => this.#key(event));
    this.#canvas.addEventListener('blur', () => this.#move(null));
    new ResizeObserver(() => requestAnimationFrame(() => this.draw())).observe(this.node);
  }

  // per_layer of /v1/cache/stats?detail=1
  show(layers) {
    this.#before = new Map(this.#layers.map(({ layer, map }) => [layer, map]));
    this.#layers = layers;
    const experts = layers[0]?.map.length ?? 0;
    const inMemory = layers.reduce((sum, layer) => sum + layer.resident, 0);
    this.#canvas.setAttribute('aria-label',
      `Experts in memory by layer: ${layers.length} layers of ${experts} experts, ${inMemory} in memory. ` +
      'Arrow keys go from one to the next; the table below has the numbers.');
    this.draw();
    this.#say();
  }

  #colour(name) {
    this.#probe.style.color = `var(${name})`;
    return getComputedStyle(this.#probe).color;
  }

  #palette() {
    const stops = ['--heat-1', '--heat-2', '--heat-3', '--heat-4'].map((name) => (
      this.#colour(name).match(/[\d.]+/g).slice(0, 3).map(Number)));
    const colours = [this.#colour('--heat-none')];
    for (let digit = 1; digit <= 15; ++digit) {
      const at = ((digit - 1) / 14) * (stops.length - 1);
      const from = Math.min(Math.floor(at), stops.length - 2);
      const mix = stops[from].map((value, i) => Math.round(value + (stops[from + 1][i] - value) * (at - from)));
      colours.push(`rgb(${mix.join(' ')})`);
    }
    return colours;
  }

  draw() {
    const experts = this.#layers[0]?.map.length ?? 0;
    const room = this.node.clientWidth;
    if (experts === 0 || room === 0) return;
    const rows = this.#layers.length;
    const scale = window.devicePixelRatio || 1;
    // Cells of whole device pixels, or the grid shimmers.
    const fit = Math.floor(((room - LABEL - RATES) / experts) * scale) / scale;
    const width = Math.min(Math.max(fit, 2), 22);
    const height = Math.min(rows <= 16 ? 18 : rows <= 28 ? 13 : rows <= 50 ? 10 : 7, Math.max(width * 3, 6));
    const gap = width >= 4 ? 1 : 0;
    const total = { width: LABEL + experts * width + RATES, height: rows * height + 2 };
    this.#geometry = { width, height, experts, rows };
    const canvas = this.#canvas;
    canvas.width = Math.round(total.width * scale);
    canvas.height = Math.round(total.height * scale);
    canvas.style.width = `${total.width}px`;
    canvas.style.height = `${total.height}px`;
    const context = canvas.getContext('2d');
    context.scale(scale, scale);
    const palette = this.#palette();
    const fresh = this.#colour('--heat-new');
    const soft = this.#colour('--soft');
    const track = this.#colour('--line');
    const rate = this.#colour('--heat-2');
    const every = Math.max(1, Math.ceil(14 / height));
    context.font = '10px system-ui, sans-serif';
    context.textBaseline = 'middle';
    this.#layers.forEach(({ layer, map, hits, misses }, row) => {
      const y = row * height + 1;
      const before = this.#before.get(layer);
      for (let expert = 0; expert < experts; ++expert) {
        const digit = Number.parseInt(map[expert], 16);
        const isNew = digit > 0 && before !== undefined && before[expert] === '0';
        context.fillStyle = isNew ? fresh : palette[digit];
        context.fillRect(LABEL + expert * width, y, width - gap, height - 1);
      }
      context.fillStyle = soft;
      if (row % every === 0) {
        context.textAlign = 'right';
        context.fillText(String(layer), LABEL - 8, y + (height - 1) / 2);
      }
      // The share of hits: how well the bank serves this layer.
      const left = LABEL + experts * width + GAP;
      const long = RATES - GAP;
      context.fillStyle = track;
      const thin = Math.max(2, Math.round(height / 3));
      const middle = y + Math.floor((height - 1 - thin) / 2);
      context.fillRect(left, middle, long, thin);
      if (hits + misses > 0) {
        context.fillStyle = rate;
        context.fillRect(left, middle, long * (hits / (hits + misses)), thin);
      }
    });
    if (this.#cursor) {
      const { row, expert } = this.#cursor;
      context.strokeStyle = this.#colour('--ink');
      context.lineWidth = 1.5;
      context.strokeRect(LABEL + expert * width - 1, row * height, width + 1, height + 1);
    }
  }

  #point(event) {
    const { width, height, experts, rows } = this.#geometry ?? {};
    const box = this.#canvas.getBoundingClientRect();
    const expert = Math.floor((event.clientX - box.left - LABEL) / width);
    const row = Math.floor((event.clientY - box.top - 1) / height);
    const inside = row >= 0 && row < rows && expert >= 0 && expert < experts;
    this.#move(inside ? { row, expert } : null);
  }

  #key(event) {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!step || !this.#geometry) return;
    event.preventDefault();
    const { experts, rows } = this.#geometry;
    const { row, expert } = this.#cursor ?? { row: -step[0], expert: -step[1] };
    this.#move({
      row: Math.min(Math.max(row + step[0], 0), rows - 1),
      expert: Math.min(Math.max(expert + step[1], 0), experts - 1),
    });
  }

  #move(cursor) {
    if (cursor?.row === this.#cursor?.row && cursor?.expert === this.#cursor?.expert) return;
    this.#cursor = cursor;
    this.draw();
    this.#say();
  }

  #say() {
    const layer = this.#cursor && this.#layers[this.#cursor.row];
    let words = 'A row is a layer, a cell an expert; the bars are each layer\u2019s share of hits.';
    if (layer) {
      const digit = Number.parseInt(layer.map[this.#cursor.expert], 16);
      const asked = layer.hits + layer.misses;
      words = `Layer ${layer.layer}, expert ${this.#cursor.expert}: ` +
        (digit > 0 ? `in memory, heat ${digit} of 15` : 'on disk') +
        `. Layer: ${layer.resident} of ${layer.map.length} in memory` +
        (asked > 0 ? `, ${percent(layer.hits / asked)} hits.` : '.');
    }
    if (this.#said.textContent !== words) this.#said.textContent = words;
  }
}
