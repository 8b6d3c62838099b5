// The keys of whoever looks: for as long as this tab is open, in a header alone, and never in an address.

const STORED = 'paylog-keys';
const KINDS = { plk_: 'merchant', plo_: 'operator' };

// A page without storage knows its keys until it is loaded again.
const stored = () => { try { return JSON.parse(sessionStorage.getItem(STORED)) || {}; } catch { return {}; } };
const keys = stored();
let hears = () => {};

// What has anything else in it is sent in no header.
export const kindOfKey = (text) => (/^[\x21-\x7e]+$/.test(text) && KINDS[text.slice(0, 4)]) || null;

export const has = (kind) => Boolean(keys[kind]);

// What may be seen of it: its id is no secret.
export const nameOf = (kind) => keys[kind].split('_').slice(0, 2).join('_');

export function hold(kind, key) {
  if (key) keys[kind] = key;
  else delete keys[kind];
  try { sessionStorage.setItem(STORED, JSON.stringify(keys)); } catch { /* as above */ }
}

// Told of every answer of a merchant's route: why nobody is let in, or null if somebody is.
export function onAnswer(then) {
  hears = then;
}

// As fetch, with the key of those whose routes these are, or with another.
export async function request(path, options = {}, key = undefined) {
  const isOperators = path.startsWith('/v1/operator/');
  const shown = key || keys[isOperators ? 'operator' : 'merchant'];
  const headers = shown ? { ...options.headers, Authorization: `Bearer ${shown}` } : options.headers;
  const answer = await fetch(path, { ...options, headers });
  if (isOperators || key || !path.startsWith('/v1/')) return answer;
  if (answer.status === 401) {
    const { detail } = await answer.clone().json().catch(() => ({}));
    hears(detail || 'an API key is needed');
  } else if (answer.ok) hears(null);
  return answer;
}
