// Lines over time and a stacked bar, as SVG and boxes that take their colours from the style.
import { el, svg } from './dom.js';

const WIDTH = 240;
const HEIGHT = 56;

// A named number with its last two minutes. Values are numbers, or null for none.
export class Trend {
  #values = [];
  #line = svg('path', { class: 'line' });
  #area = svg('path', { class: 'area' });
  #number = el('span', { class: 'number-now' }, '–');
  #most = el('span', { class: 'soft most' });
  #options;

  // top: the value at the upper edge, or none: that of the largest
  constructor(name, { note = '', format, top = null, points = 120 }) {
    this.#options = { format, top, points };
    const chart = svg('svg', {
      class: 'trend', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true',
    }, this.#area, this.#line);
    this.node = el('section', { class: 'card' },
      el('h3', {}, name, note ? el('small', {}, note) : null), el('p', { class: 'now' }, this.#number),
      el('div', { class: 'chart' }, chart, this.#most));
  }

  // `shown` is what the number says, where that is not the newest value.
  add(value, shown = value) {
    const { format, top, points } = this.#options;
    this.#values.push(value);
    if (this.#values.length > points) this.#values.shift();
    this.#number.textContent = shown === null ? '–' : format(shown);
    const most = top ?? Math.max(...this.#values.map((number) => number ?? 0), 1e-9);
    this.#most.textContent = most > 1e-6 ? format(most) : '';
    const step = WIDTH / (points - 1);
    const from = points - this.#values.length;
    let line = '';
    let area = '';
    let start = null;
    const close = (x) => {
      if (start !== null) area += `L${x.toFixed(1)} ${HEIGHT}L${start.toFixed(1)} ${HEIGHT}Z`;
      start = null;
    };
    this.#values.forEach((number, i) => {
      const x = (from + i) * step;
      if (number === null) {
        close(x - step);
        return;
      }
      const y = (HEIGHT - 2 - (number / most) * (HEIGHT - 4)).toFixed(1);
      const move = `${start === null ? 'M' : 'L'}${x.toFixed(1)} ${y}`;
      start ??= x;
      line += move;
      area += move;
    });
    close(WIDTH);
    this.#line.setAttribute('d', line);
    this.#area.setAttribute('d', area);
  }
}

// Parts of a whole: {name, value}, in a fixed order; each keeps its colour.
export class Parts {
  #bar = el('div', { class: 'parts', 'aria-hidden': 'true' });
  #legend = el('dl', { class: 'legend' });
  #format;

  constructor(format) {
    this.#format = format;
    this.node = el('div', {}, this.#bar, this.#legend);
  }

  show(parts) {
    const some = parts.filter(({ value }) => value > 0);
    while (this.#bar.childElementCount < some.length) {
      this.#bar.append(el('span'));
      this.#legend.append(el('div', {}, el('dt'), el('dd')));
    }
    while (this.#bar.childElementCount > some.length) {
      this.#bar.lastChild.remove();
      this.#legend.lastChild.remove();
    }
    some.forEach(({ name, value, kind }, i) => {
      const piece = this.#bar.children[i];
      piece.className = `part-${kind}`;
      piece.style.flexGrow = value;
      const [term, text] = this.#legend.children[i].children;
      if (term.dataset.name !== name) term.replaceChildren(el('span', { class: `swatch part-${kind}` }), name);
      term.dataset.name = name;
      text.textContent = this.#format(value);
    });
  }
}
