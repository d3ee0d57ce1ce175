// Markdown as models write it, made of elements and text nodes: what a model says is never HTML.
import { copy, el, icon } from './dom.js';

const MOST_DEPTH = 6;
const LONGEST_INLINE = 20000; // beyond it, text is shown as it is
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;
const DIVIDER = /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/;

const begins = (line) => FENCE.test(line) || HEADING.test(line) || RULE.test(line) ||
  ITEM.test(line) || /^ {0,3}>/.test(line);

// Top-level blocks: {type, lines, …}.
export function blocks(lines) {
  const found = [];
  let i = 0;
  while (i < lines.length) {
    const start = i;
    const line = lines[i++];
    const fence = FENCE.exec(line);
    const heading = HEADING.exec(line);
    if (line.trim() === '') continue;
    if (fence) {
      const end = new RegExp(`^ {0,3}${fence[1][0]}{${fence[1].length},}\\s*$`);
      while (i < lines.length && !end.test(lines[i])) ++i;
      found.push({ type: 'code', language: fence[2].trim(), lines: lines.slice(start + 1, i) });
      ++i;
    } else if (heading) {
      found.push({ type: 'heading', level: heading[1].length, lines: [heading[2]] });
    } else if (RULE.test(line)) {
      found.push({ type: 'rule', lines: [] });
    } else if (ITEM.test(line)) {
      const indented = (text) => /^\s{2,}\S/.test(text);
      while (i < lines.length && (ITEM.test(lines[i]) && !RULE.test(lines[i]) || indented(lines[i]) ||
          lines[i].trim() === '' && i + 1 < lines.length && (ITEM.test(lines[i + 1]) || indented(lines[i + 1])) ||
          lines[i].trim() !== '' && lines[i - 1].trim() !== '' && !begins(lines[i]))) ++i;
      found.push({ type: 'list', lines: lines.slice(start, i) });
    } else if (/^ {0,3}>/.test(line)) {
      while (i < lines.length && /^ {0,3}>/.test(lines[i])) ++i;
      found.push({ type: 'quote', lines: lines.slice(start, i).map((text) => text.replace(/^ {0,3}> ?/, '')) });
    } else if (line.includes('|') && i < lines.length && lines[i].includes('-') && DIVIDER.test(lines[i])) {
      while (i < lines.length && lines[i].includes('|')) ++i;
      found.push({ type: 'table', lines: lines.slice(start, i) });
    } else {
      while (i < lines.length && lines[i].trim() !== '' && !begins(lines[i])) ++i;
      found.push({ type: 'text', lines: lines.slice(start, i) });
    }
  }
  return found;
}

const INLINE = new RegExp([
  /(`+)(?!`)(?<code>[\s\S]*?[^`])\1(?!`)/,
  /(?<strong>\*\*(?=\S)[\s\S]*?\S\*\*(?!\*)|(?<!\w)__(?=\S)[\s\S]*?\S__(?!\w))/,
  /(?<em>\*(?=[^\s*])[\s\S]*?[^\s*]\*(?!\*)|(?<!\w)_(?=[^\s_])[\s\S]*?[^\s_]_(?!\w))/,
  /~~(?<del>(?=\S)[\s\S]*?\S)~~/,
  /\[(?<label>[^\]\n]+)\]\((?<href>https?:\/\/[^\s)]+)\)/,
  /(?<url>https?:\/\/[^\s<>"'`)\]]*[^\s<>"'`)\].,;:!?])/,
  /\\(?<plain>[\\`*_{}[\]()#+\-.!|~>])/,
].map((part) => part.source).join('|'), 'g');

function link(href, ...children) {
  return el('a', { href, target: '_blank', rel: 'noopener noreferrer' }, ...children);
}

// The nodes of a line or paragraph.
export function inline(text, depth = 0) {
  if (depth > MOST_DEPTH || text.length > LONGEST_INLINE) return [text];
  const nodes = [];
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    if (match.index > at) nodes.push(text.slice(at, match.index));
    at = match.index + match[0].length;
    const { code, strong, em, del, label, href, url, plain } = match.groups;
    if (code !== undefined) nodes.push(el('code', {}, code.replace(/^ (.+) $/s, '$1')));
    else if (strong) nodes.push(el('strong', {}, inline(strong.slice(2, -2), depth + 1)));
    else if (em) nodes.push(el('em', {}, inline(em.slice(1, -1), depth + 1)));
    else if (del) nodes.push(el('del', {}, inline(del, depth + 1)));
    else if (href) nodes.push(link(href, inline(label, depth + 1)));
    else if (url) nodes.push(link(url, url));
    else if (plain) nodes.push(plain);
  }
  if (at < text.length) nodes.push(text.slice(at));
  return nodes;
}

// Lines with two spaces, or a backslash, at their ends break there.
function paragraph(lines) {
  const nodes = [];
  lines.join('\n').split(/(?: {2,}|\\)\n/).forEach((part, i) => {
    if (i > 0) nodes.push(el('br'));
    nodes.push(...inline(part));
  });
  return nodes;
}

export function codeBlock(text, language = '') {
  const code = el('code', {}, text);
  const copier = el('button', { type: 'button', class: 'quiet', 'aria-label': 'Copy the code' }, icon('copy'), 'Copy');
  copier.addEventListener('click', () => copy(code.textContent, copier));
  return el('div', { class: 'code' },
    el('div', { class: 'code-head' }, el('span', {}, language || 'text'), copier),
    el('pre', { tabindex: '0', 'aria-label': `${language || 'text'}, code` }, code));
}

function listBlock(lines, depth) {
  const first = ITEM.exec(lines[0]);
  const ordered = /\d/.test(first[2]);
  const base = first[1].length;
  const items = [];
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (item && item[1].length < base + 2) {
      items.push({ indent: item[0].length - item[3].length, lines: [item[3]] });
    } else {
      const { indent, lines: inner } = items.at(-1);
      const lead = /^\s*/.exec(line)[0].length;
      inner.push(line.slice(Math.min(lead, indent)));
    }
  }
  const start = ordered ? Number.parseInt(first[2], 10) : 1;
  return el(ordered ? 'ol' : 'ul', { start: start === 1 ? undefined : start }, items.map((item) => {
    const inner = blocks(item.lines);
    // What is one paragraph, with or without a list below, needs none of its own.
    const tight = inner[0]?.type === 'text' && inner.slice(1).every((block) => block.type === 'list');
    return el('li', {}, inner.map((block, i) => (
      tight && i === 0 ? el('span', {}, paragraph(block.lines)) : render(block, depth + 1))));
  }));
}

function tableBlock(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, '').split(/(?<!\\)\|/).map((cell) => cell.trim().replace(/\\\|/g, '|'));
  const row = (line, tag) => el('tr', {}, cells(line).map((cell) => el(tag, {}, inline(cell))));
  return el('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'Table' }, el('table', {},
    el('thead', {}, row(lines[0], 'th')), el('tbody', {}, lines.slice(2).map((line) => row(line, 'td')))));
}

function render(block, depth = 0) {
  if (depth > MOST_DEPTH) return el('p', {}, block.lines.join('\n'));
  switch (block.type) {
    case 'code': return codeBlock(block.lines.join('\n'), block.language);
    case 'heading': return el(`h${Math.min(block.level + 2, 6)}`, {}, inline(block.lines[0]));
    case 'rule': return el('hr');
    case 'list': return listBlock(block.lines, depth);
    case 'quote': return el('blockquote', {}, blocks(block.lines).map((inner) => render(inner, depth + 1)));
    case 'table': return tableBlock(block.lines);
    default: return el('p', {}, paragraph(block.lines));
  }
}

// An element that shows a text which grows: only blocks that have changed are made anew.
export class Markdown {
  #root;
  #shown = []; // {source, node}

  constructor(root) {
    this.#root = root;
  }

  // `finished` is told, once, about blocks that will not change any more, as plain text.
  update(text, finished = null) {
    const now = blocks(text.replace(/\r\n?/g, '\n').split('\n'));
    now.forEach((block, i) => {
      const source = JSON.stringify(block);
      const old = this.#shown[i];
      if (old?.source === source) return;
      const code = old?.node.querySelector?.(':scope > pre > code');
      if (block.type === 'code' && code && source.startsWith(old.source.slice(0, 30))) {
        code.textContent = block.lines.join('\n'); // its scroll position and focus stay
        old.source = source;
        return;
      }
      const node = render(block);
      if (old) old.node.replaceWith(node);
      else this.#root.append(node);
      this.#shown[i] = { source, node, told: old?.told };
    });
    while (this.#shown.length > now.length) this.#shown.pop().node.remove();
    this.#shown.slice(0, finished?.all ? undefined : -1).forEach((block) => {
      if (finished && !block.told) finished.tell(block.node.textContent);
      block.told = true;
    });
  }
}
