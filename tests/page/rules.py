"""Scripts that a browser runs in the page: each returns what breaks a rule, in words."""

# Controls without a name, labels without controls, roles and languages that are missing.
NAMES = """
const name = (e) => (e.getAttribute('aria-label') || (e.labels && [...e.labels].map((l) => l.innerText).join(' '))
  || (e.getAttribute('aria-labelledby') || '').split(' ').map((id) => document.getElementById(id)?.innerText).join(' ')
  || e.innerText || e.title || '').trim();
const seen = (e) => e.checkVisibility();
const bad = [...document.querySelectorAll('button, a[href], input, textarea, select, summary, dialog[open], [role=tab], [role=tabpanel], [role=region], [role=img], [tabindex="0"]')]
  .filter((e) => seen(e) && !name(e)).map((e) => e.outerHTML.slice(0, 80));
const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
ids.filter((id, i) => ids.indexOf(id) !== i).forEach((id) => bad.push('twice: ' + id));
document.querySelectorAll('[aria-controls], [aria-labelledby], [aria-describedby]').forEach((e) => {
  for (const a of ['aria-controls', 'aria-labelledby', 'aria-describedby'])
    for (const id of (e.getAttribute(a) || '').split(' ').filter(Boolean))
      if (!document.getElementById(id)) bad.push(a + ' names nothing: ' + id);
});
document.querySelectorAll('img:not([alt])').forEach((e) => bad.push(e.outerHTML));
if (!document.documentElement.lang || !document.title) bad.push('no language or title');
if (document.querySelectorAll('h1').length !== 1) bad.push('not one h1');
return bad;
"""
# Text whose contrast with what lies behind it is less than AA asks for.
CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const rgba = (text) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
  const d = canvas.getImageData(0, 0, 1, 1).data; return [d[0], d[1], d[2], d[3] / 255]; };
const over = (a, b) => a.slice(0, 3).map((v, i) => v * a[3] + b[i] * (1 - a[3])).concat(1);
const behind = (e) => { const layers = []; for (; e; e = e.parentElement) layers.push(rgba(getComputedStyle(e).backgroundColor));
  return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255, 1]); };
const light = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
const bad = [];
for (const e of document.querySelectorAll('body *')) {
  const text = [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join('').trim();
  if (!text || !e.checkVisibility({opacityProperty: true, visibilityProperty: true}) || e.closest('.unseen, .skip, .toast, noscript')) continue;
  const back = behind(e), front = over(rgba(getComputedStyle(e).color), back);
  const [x, y] = [light(front), light(back)].sort((p, q) => q - p);
  const ratio = (x + 0.05) / (y + 0.05);
  if (ratio < 4.5) bad.push(ratio.toFixed(2) + ' ' + text.slice(0, 40));
}
return bad;
"""
OVERFLOW = """
return [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility({visibilityProperty: true}) &&
  !e.closest('pre, .table, .map-scroll, .unseen, .toast, svg') && e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.tagName + '.' + e.className + ' ' + e.getBoundingClientRect().right)
  .concat(document.documentElement.scrollWidth > innerWidth ? ['the page itself'] : []);
"""
