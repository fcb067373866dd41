// What makes the pages handier: they can be read and used without it.

const main = document.querySelector('main');
const words = document.body.dataset;

/** A piece of the server's HTML. It is our own, and escaped there; scripts in it do not run. */
const parsed = (html) => new DOMParser().parseFromString(html, 'text/html').body;

// --- What was said once is not said again when the page is loaded anew.
const here = new URL(window.location.href);
if (here.searchParams.has('said')) {
  here.searchParams.delete('said');
  window.history.replaceState(null, '', here);
}

// --- On a small screen the menu is wider than it.
const menu = document.querySelector('nav');
const place = menu?.querySelector('[aria-current]');
if (place) menu.scrollLeft = place.offsetLeft - menu.offsetLeft - (menu.clientWidth - place.offsetWidth) / 2;

// --- Questions before something is ended or removed.
document.addEventListener('submit', (event) => {
  const question = event.target.dataset.ask;
  if (question && !window.confirm(question)) event.preventDefault();
});

// --- Times: seconds since a moment, and moments in the reader's zone.
const two = (number) => String(number).padStart(2, '0');
function tick() {
  const now = Date.now() / 1000;
  for (const node of document.querySelectorAll('[data-since]')) {
    const all = Math.max(0, Math.floor(now - Number(node.dataset.since)));
    const [hours, minutes, seconds] = [Math.floor(all / 3600), Math.floor(all / 60) % 60, all % 60];
    const text = hours ? `${hours}:${two(minutes)}:${two(seconds)}` : `${minutes}:${two(seconds)}`;
    if (node.textContent !== text) node.textContent = text;
  }
  for (const node of document.querySelectorAll('time[data-at]:not([datetime])')) {
    const at = new Date(Number(node.dataset.at) * 1000);
    node.dateTime = at.toISOString();
    node.textContent = at.toLocaleString(document.documentElement.lang);
  }
}
tick();
setInterval(tick, 1000);

// --- Pages that change: the server sends their content when it is another.
/**
 * Puts new children in place of old ones where they differ, so that focus, open details and scrolling stay. A child with a
 * key is the one that had it before, wherever that stood; others go by their places.
 */
function merge(old, fresh) {
  const key = (node) => node?.dataset?.key;
  const keyed = (parent) => new Map([...parent.children].filter(key).map((node) => [key(node), node]));
  const [known, wanted] = [keyed(old), keyed(fresh)];
  let own = old.firstChild;
  for (const node of [...fresh.childNodes]) {
    while (own && key(own) && !wanted.has(key(own))) {
      const gone = own;
      own = own.nextSibling;
      gone.remove();
    }
    const same = key(node) ? known.get(key(node)) : key(own) ? undefined : own;
    // Of two with one key the second is another.
    known.delete(key(node));
    if (!same) { old.insertBefore(node, own); continue; }
    if (same === own) own = own.nextSibling;
    else old.insertBefore(same, own);
    update(same, node);
  }
  while (own) {
    const gone = own;
    own = own.nextSibling;
    gone.remove();
  }
}

/** Makes a node as another is. */
function update(own, node) {
  if (own.isEqualNode(node)) return;
  const isSame = own.nodeType === node.nodeType && own.nodeName === node.nodeName;
  if (!isSame || own.nodeType !== Node.ELEMENT_NODE) return own.replaceWith(node);
  if (own.matches('form, input, textarea, select') && own.contains(document.activeElement)) return;
  for (const { name } of [...own.attributes]) if (!node.hasAttribute(name) && name !== 'open') own.removeAttribute(name);
  for (const { name, value } of node.attributes) if (own.getAttribute(name) !== value) own.setAttribute(name, value);
  // A time that runs is this page's own.
  if (!own.dataset?.since) merge(own, node);
}

function live(path) {
  const note = document.querySelector('[data-lost-note]');
  const source = new EventSource(`/live?page=${encodeURIComponent(path)}`);
  source.onopen = () => { note.hidden = true; };
  source.onmessage = ({ data }) => {
    // Within an element, so that blanks before the first one stay: what is the same must be at the same place.
    merge(document.querySelector('[data-content]'), parsed(`<div>${data}</div>`).firstElementChild);
    tick();
  };
  source.onerror = () => { note.textContent = words.lost; note.hidden = false; };
  // A page in the back needs nothing.
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) source.close();
    else if (source.readyState === EventSource.CLOSED) live(path);
  }, { once: true });
}
if (main?.dataset.live) live(main.dataset.live);

// --- The list of all extensions: rows are fetched for what is on the screen.
const list = document.querySelector('[data-list]');
if (list) virtual(list);

function virtual(list) {
  const body = list.querySelector('[data-rows]');
  const field = document.querySelector('#search');
  const count = document.querySelector('[data-count]');
  let height = body.querySelector('.row')?.getBoundingClientRect().height || 44;
  let total = Number(list.dataset.total);
  let [shown, turn] = [null, 0];

  const pad = (rows) => {
    const row = document.createElement('tr');
    row.className = 'pad';
    row.setAttribute('aria-hidden', 'true');
    const cell = row.insertCell();
    cell.colSpan = 6;
    cell.style.height = `${rows * height}px`;
    return row;
  };

  let underWay = 0;
  async function show(isForced) {
    const visible = Math.ceil(list.clientHeight / height);
    const first = Math.max(0, Math.min(Math.floor(list.scrollTop / height), total - visible));
    const from = Math.max(0, first - visible);
    const most = Math.min(200, visible * 3);
    const isThere = shown && shown.from <= first && shown.from + shown.count >= Math.min(total, first + visible);
    if (isThere && !isForced) return;
    const own = ++turn;
    const query = new URLSearchParams({ q: field.value, from, count: most });
    underWay += 1;
    const answer = await fetch(`${list.dataset.list}?${query}`).catch(() => null);
    underWay -= 1;
    if (!answer?.ok || own !== turn) return;
    const table = parsed(`<table><tbody>${await answer.text()}</tbody></table>`).querySelector('tbody');
    const rows = [...table.children];
    const before = total;
    total = Number(rows[0]?.dataset.countNow ?? 0);
    const found = total ? rows.length : 0;
    shown = { from, count: found };
    const isAt = document.activeElement?.closest?.('.row')?.querySelector('a')?.textContent;
    body.replaceChildren(pad(from), ...rows, pad(Math.max(0, total - from - found)));
    if (isAt) [...body.querySelectorAll('.row a')].find((link) => link.textContent === isAt)?.focus({ preventScroll: true });
    if (before !== total) count.textContent = total;
    height = body.querySelector('.row')?.getBoundingClientRect().height || height;
  }

  let waiting = 0;
  list.addEventListener('scroll', () => {
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => show(false));
  });
  let typed = 0;
  field.addEventListener('input', () => {
    clearTimeout(typed);
    typed = setTimeout(() => {
      list.scrollTop = 0;
      history.replaceState(null, '', `?${new URLSearchParams({ q: field.value })}`);
      show(true);
    }, 120);
  });
  setInterval(() => { if (!document.hidden && !underWay) show(true); }, 2000);
  list.scrollTop = Number(list.dataset.from) * height;
  show(true);
}

// --- Keys: / searches, j and k move, Enter opens what has the focus.
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target.matches('input, textarea, select');
  if (event.key === 'Escape' && isTyping) return event.target.blur();
  if (isTyping || main.querySelector('[data-phone="root"]')) return;
  if (event.key === '/') {
    const field = document.querySelector('#search');
    if (field) { event.preventDefault(); field.focus(); field.select(); }
    return;
  }
  if (event.key !== 'j' && event.key !== 'k') return;
  const links = [...main.querySelectorAll('tbody tr a, li > a, .timeline a')].filter((link) => link.offsetParent);
  const at = links.indexOf(document.activeElement);
  const next = links[event.key === 'j' ? at + 1 : Math.max(0, at - 1)];
  if (next) { event.preventDefault(); next.focus(); }
});

// --- The editor: the cursor stands where the mistake is.
const mistake = document.querySelector('#config-error[data-line]');
const text = document.querySelector('#config-text');
if (mistake && text) {
  const lines = text.value.split('\n');
  const line = Number(mistake.dataset.line);
  const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
  text.focus();
  text.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
  text.scrollTop = (line - 5) * 21;
}
