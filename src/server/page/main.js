// What the page is made of: the key, loading, the list of conversations, settings, views, theme.
import { ApiError, call, getJson, hasKey, setKey } from './api.js';
import { Chat } from './chat.js';
import { $, el, grow, icon } from './dom.js';
import { bytes, count } from './format.js';
import { Live } from './live.js';
import { fillPanel } from './settings.js';
import * as store from './store.js';

const narrow = matchMedia('(max-width: 860px)');
let model = null;

// ---- the key

let keyAsked = null;
function keyNeeded() {
  keyAsked ??= new Promise((resolve) => {
    $('key-error').textContent = hasKey() ? 'The server does not take that key.' : '';
    $('key').value = '';
    $('key-form').onsubmit = (event) => {
      event.preventDefault();
      const key = $('key').value.trim();
      if (!/^[\x21-\x7e]+$/.test(key)) {
        $('key-error').textContent = 'A key is made of letters, digits and signs, without spaces.';
        return;
      }
      setKey(key);
      keyAsked = null;
      $('key-dialog').close();
      resolve();
    };
    $('key-dialog').showModal();
  });
  return keyAsked;
}
// There is nothing to do here without one.
$('key-dialog').addEventListener('cancel', (event) => event.preventDefault());

// ---- loading

const sleep = (ms) => new Promise((resolve) => { setTimeout(resolve, ms); });

let waiting = null;
function untilReady() {
  waiting ??= (async () => {
    const bar = $('loading-bar');
    for (let shown = false; ; await sleep(500)) {
      let health = null;
      try {
        health = await getJson('health');
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
      }
      if (health?.status === 'ok') break;
      if (!shown) $('loading').hidden = false;
      shown = true;
      const progress = health?.progress;
      $('loading-text').textContent = health ? 'The model is loading' : 'The server does not answer. Asking again';
      if (progress?.bytes_total > 0) {
        bar.value = progress.fraction;
        $('loading-detail').textContent = `${Math.floor(progress.fraction * 100)} %, ` +
          `${bytes(progress.bytes_done)} of ${bytes(progress.bytes_total)}`;
      } else {
        bar.removeAttribute('value');
        $('loading-detail').textContent = '';
      }
    }
    $('loading').hidden = true;
    waiting = null;
  })();
  return waiting;
}

// Calls the server as often as it takes to have a key that it likes, and a model.
async function ask(path) {
  for (;;) {
    try {
      return await (await call(path)).json();
    } catch (error) {
      if (error.status === 401) await keyNeeded();
      else if (error.status === 503 || error.status === 0) {
        await untilReady();
        await sleep(200);
      } else throw error;
    }
  }
}

const RESIDENCY = { streaming: 'experts from disk', stacked: 'experts in memory', none: 'dense' };

async function showModel() {
  await untilReady();
  const models = await ask('v1/models');
  model = models.data?.[0] ?? null;
  if (!model) return;
  $('model-name').textContent = model.id;
  document.title = `${model.id} \u2013 mach`;
  const words = [];
  try {
    const capabilities = await ask('v1/capabilities');
    if (capabilities.arch?.model_type) words.push(capabilities.arch.model_type);
    words.push(RESIDENCY[capabilities.serving?.expert_residency]);
    live.about(capabilities);
  } catch {
    // The name is enough.
  }
  if (model.max_model_len) words.push(`${count(model.max_model_len)} tokens of context`);
  $('model-detail').textContent = words.filter(Boolean).join(', ');
}

// ---- conversations

const chat = new Chat({ saved: drawList, keyNeeded, loading: untilReady, model: () => model?.id ?? null });
const live = new Live($('live'), { keyNeeded });

function drawList() {
  const items = store.list().map(({ id, title }) => {
    const current = id === chat.conversation.id;
    return el('li', { class: current ? 'current' : '' },
      el('button', {
        type: 'button', class: 'title', title, 'aria-current': current ? 'true' : undefined,
        onclick: () => openConversation(store.load(id) ?? store.create()),
      }, title),
      el('button', {
        type: 'button', class: 'icon delete', 'aria-label': `Delete ${title}`,
        onclick: (event) => remove(id, title, event.currentTarget),
      }, icon('close')));
  });
  if (items.length === 0) items.push(el('li', { class: 'soft none' }, 'None yet'));
  $('conversations').replaceChildren(...items);
}

function remove(id, title, from) {
  // A second press within four seconds: quieter than a dialog, safer than none.
  if (from.dataset.sure !== 'yes') {
    from.dataset.sure = 'yes';
    from.textContent = 'Delete?';
    from.setAttribute('aria-label', `Really delete ${title}`);
    setTimeout(() => { if (from.isConnected) drawList(); }, 4000);
    return;
  }
  store.remove(id);
  if (id === chat.conversation.id) chat.open(store.create(chat.conversation.settings));
  drawList();
  $('new').focus();
}

function openConversation(conversation) {
  chat.open(conversation);
  drawList();
  if (!$('settings').hidden) fillPanel(conversation.settings, panelHooks);
  showView('chat');
  if (narrow.matches) showSide(false);
  else $('text').focus();
}

$('new').addEventListener('click', () => openConversation(store.create(chat.conversation.settings)));
$('export').addEventListener('click', () => chat.exportJson());

// ---- panels

function showSide(shown) {
  $('app').classList.toggle('side-shown', shown);
  $('side-open').setAttribute('aria-expanded', String(shown));
  $('side').inert = narrow.matches && !shown;
  if (shown) $('side-close').focus();
}
$('side-open').addEventListener('click', () => showSide(true));
$('side-close').addEventListener('click', () => { showSide(false); $('side-open').focus(); });
document.querySelector('.column').addEventListener('click', (event) => {
  if (!$('app').classList.contains('side-shown')) return;
  event.preventDefault();
  event.stopPropagation();
  showSide(false);
}, true);
narrow.addEventListener('change', () => showSide(false));

const panelHooks = {
  changed: () => {
    chat.showModes();
    store.save(chat.conversation);
    drawList();
  },
  close: () => showSettings(false),
};

function showSettings(shown) {
  $('settings').hidden = !shown;
  $('app').classList.toggle('settings-shown', shown);
  $('settings-open').setAttribute('aria-expanded', String(shown));
  if (shown) {
    fillPanel(chat.conversation.settings, panelHooks);
    // Where a keyboard would come up from below, it waits to be asked for.
    (narrow.matches ? $('settings').querySelector('.icon') : $('system')).focus({ preventScroll: true });
  } else {
    $('settings-open').focus();
  }
}
$('settings-open').addEventListener('click', () => showSettings($('settings').hidden));

// What is closest to the reader ends first.
document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || $('key-dialog').open) return;
  if ($('app').classList.contains('side-shown')) {
    showSide(false);
    $('side-open').focus();
  } else if (!$('settings').hidden && $('settings').contains(document.activeElement)) showSettings(false);
  else chat.stop();
});

// ---- views

const VIEWS = ['chat', 'live'];

function showView(name) {
  for (const view of VIEWS) {
    const tab = $(`tab-${view}`);
    tab.setAttribute('aria-selected', String(view === name));
    tab.tabIndex = view === name ? 0 : -1;
    $(view).hidden = view !== name;
  }
  live.show(name === 'live');
  const hash = name === 'live' ? '#live' : '';
  if (location.hash !== hash) history.replaceState(null, '', `${location.pathname}${location.search}${hash}`);
}
for (const view of VIEWS) {
  $(`tab-${view}`).addEventListener('click', () => showView(view));
  $(`tab-${view}`).addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowLeft' && event.key !== 'ArrowRight') return;
    const other = VIEWS.find((name) => name !== view);
    showView(other);
    $(`tab-${other}`).focus();
  });
}
addEventListener('hashchange', () => showView(location.hash === '#live' ? 'live' : 'chat'));

// ---- theme

const THEMES = ['system', 'light', 'dark'];

function setTheme(theme) {
  if (theme === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem('mach.theme', theme);
  } catch {
    // Until the page is closed, then.
  }
  $('theme-name').textContent = { system: 'Colours: system', light: 'Colours: light', dark: 'Colours: dark' }[theme];
  live.redraw();
}
$('theme').addEventListener('click', () => {
  const now = document.documentElement.dataset.theme ?? 'system';
  setTheme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => live.redraw());

// ---- start

setTheme(document.documentElement.dataset.theme ?? 'system');
showSide(false);
const newest = store.list()[0];
chat.open((newest && store.load(newest.id)) || store.create());
drawList();
showView(location.hash === '#live' ? 'live' : 'chat');
if (!narrow.matches) $('text').focus();
addEventListener('resize', () => grow($('text')));
showModel().catch((error) => { $('model-detail').textContent = error.message; });
