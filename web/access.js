// The view of the keys, and what stands above every view while nobody is let in. A key is looked at by the server before it is
// used, and the page begins anew with it: nothing of another merchant's stays on it.

import { byId, element, say } from './dom.js';
import { has, hold, kindOfKey, nameOf, onAnswer, request } from './keys.js';

const KINDS = {
  merchant: { name: "A merchant's", path: '/v1/payments?limit=1', to: '#/' },
  operator: { name: "An operator's", path: '/v1/operator/parked?limit=1', to: '#/operations' },
};

const ended = (sentence) => (/[.?!]$/.test(sentence) ? sentence : `${sentence}.`);

export function startAccess() {
  onAnswer((why) => {
    byId('refusal').hidden = why === null;
    say(byId('refusal-why'), why === null ? '' : ended(`The server says: ${why}`));
  });
  byId('enter').addEventListener('submit', (submit) => {
    submit.preventDefault();
    enter(byId('api-key').value.trim());
  });
}

export function openKey() {
  complain('');
  const held = Object.keys(KINDS).filter(has);
  byId('held').replaceChildren(...held.map(item));
  byId('held-none').hidden = held.length > 0;
}

function item(kind) {
  const made = element('li');
  const text = element('span', `${KINDS[kind].name}: `);
  text.append(element('span', nameOf(kind), 'mono'));
  const forget = element('button', 'Forget', 'quiet');
  forget.type = 'button';
  forget.setAttribute('aria-label', `Forget ${nameOf(kind)}`);
  forget.addEventListener('click', () => {
    hold(kind, null);
    location.reload();
  });
  made.append(text, forget);
  return made;
}

function complain(text) {
  say(byId('key-error'), text);
  byId('api-key').setAttribute('aria-invalid', String(text !== ''));
  if (text) byId('api-key').focus();
}

async function enter(key) {
  complain('');
  const kind = kindOfKey(key);
  if (!kind) {
    complain("This is no key: a merchant's begins with plk_, an operator's with plo_, and all that follows is letters, digits and _.");
    return;
  }
  byId('use').disabled = true;
  const why = await refusalOf(key, KINDS[kind].path);
  byId('use').disabled = false;
  if (why !== null) {
    complain(why);
    return;
  }
  byId('api-key').value = '';
  hold(kind, key);
  location.hash = KINDS[kind].to;
  location.reload();
}

async function refusalOf(key, path) {
  try {
    const answer = await request(path, { cache: 'no-store' }, key);
    if (answer.ok) return null;
    const { detail } = await answer.json().catch(() => ({}));
    return ended(`The server does not take it: ${detail || `it answered with ${answer.status}`}`);
  } catch {
    return 'The server cannot be reached: try again.';
  }
}
