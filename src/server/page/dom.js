// Small helpers to build the page. Text always becomes text nodes: nothing here parses HTML.

export const $ = (id) => document.getElementById(id);

// el('button', {class: 'quiet', type: 'button', onclick: f, 'aria-label': 'Copy'}, children…)
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith('on')) {
      node.addEventListener(name.slice(2), value);
    } else if (name === 'class') {
      node.className = value;
    } else {
      node.setAttribute(name, value === true ? '' : value);
    }
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const SVG = 'http://www.w3.org/2000/svg';

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export function icon(name) {
  return svg('svg', { 'aria-hidden': 'true' }, svg('use', { href: `#i-${name}` }));
}

export function button(label, iconName, onclick, more = {}) {
  return el('button', { type: 'button', class: 'quiet', onclick, ...more },
    iconName ? icon(iconName) : null, label);
}

// For screen readers: read once, when they have time.
export function speak(text) {
  const spoken = $('spoken');
  if (spoken.childElementCount > 20) spoken.firstChild.remove();
  spoken.append(el('p', {}, text));
}

let toastTimer = 0;
export function toast(text) {
  const node = $('toast');
  node.textContent = text;
  node.classList.add('shown');
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => node.classList.remove('shown'), 4000);
}

export async function copy(text, from) {
  let copied = false;
  try {
    await navigator.clipboard.writeText(text);
    copied = true;
  } catch {
    // There is no clipboard outside of https and this machine.
    const area = el('textarea', { class: 'unseen', 'aria-hidden': 'true', tabindex: '-1' });
    area.value = text;
    document.body.append(area);
    area.select();
    copied = document.execCommand('copy');
    area.remove();
    from?.focus();
  }
  toast(copied ? 'Copied' : 'The browser does not let this page copy');
}

// A text area as tall as its text, up to what its style allows.
export function grow(area) {
  area.style.height = 'auto';
  area.style.height = `${area.scrollHeight + 2}px`;
  // A part of a pixel needs no scroll bar.
  area.style.overflowY = area.scrollHeight > area.clientHeight + 3 ? 'auto' : 'hidden';
}

export function newId() {
  return Date.now().toString(36) + Math.random().toString(36).slice(2, 8);
}
