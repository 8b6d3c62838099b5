// "Notify this device": a browser asks its push service for an address, and gives it to paylog for one payment. Where that is not
// possible the page says why.

import { byId, say } from './dom.js';
import { request } from './keys.js';
import { hasEnded } from './payment.js';
import { Refused, getJson } from './server.js';

const WORKER = '/page/service-worker.js';
// Where the worker finds what was asked for, if the browser is given another address.
const ASKED = 'paylog-asked';
// A browser that has no way to its push service may ask it for ever.
const SLOW_MS = 10_000;

// A script is loaded by its name alone, and by this name alone: the page's policy lets nothing else make names of scripts.
const policy = globalThis.trustedTypes && trustedTypes.createPolicy('paylog-worker', {
  createScriptURL: (url) => {
    if (url !== WORKER) throw new TypeError('the page has one worker');
    return url;
  },
});

const WORDS = {
  insecure: 'Notifications need https.',
  absent: 'This browser has no Web Push.',
  denied: 'Notifications are blocked: allow them for this page in the browser’s settings.',
  asking: 'Asking the browser …',
  slow: 'The browser’s push service does not answer yet.',
  subscribed: 'This device will be notified of how this payment ends, also when the page is closed.',
  ended: 'This payment has ended.',
};

// Which payment the button is for, in each place where there is one.
const places = new Map();

// The server may do no Web Push: then there is nothing to be offered, and nothing to be explained.
let asked = null;
const serversKey = () => {
  // What could not be asked is asked again next time.
  asked ||= getJson('/v1/push').then(({ application_server_key: key }) => key, () => { asked = null; return null; });
  return asked;
};

function obstacle() {
  if (!globalThis.isSecureContext) return 'insecure';
  if (!('serviceWorker' in navigator) || !('PushManager' in globalThis) || !('Notification' in globalThis)) return 'absent';
  return Notification.permission === 'denied' ? 'denied' : null;
}

// `place` is the id of an element with a button and a status in it.
export async function offerPush(place, payment) {
  const [box, button] = [byId(place), byId(place).querySelector('button')];
  places.set(place, payment);
  if (!button.dataset.ready) {
    button.dataset.ready = 'yes';
    button.addEventListener('click', () => subscribe(place));
  }
  const key = await serversKey();
  if (places.get(place) !== payment) return; // another payment is looked at
  box.hidden = !key || hasEnded(payment);
  tell(place, obstacle() || '');
}

// It has ended: there is nothing to be told any more.
export function withdrawPush(place, payment) {
  if (places.get(place)?.id === payment.id) clearPush(place);
}

// Another payment is looked at there, or none: what is still on its way for this one shows nothing any more.
export function clearPush(place) {
  places.delete(place);
  byId(place).hidden = true;
}

function tell(place, state, text) {
  const [button, note] = [byId(place).querySelector('button'), byId(place).querySelector('.note')];
  const hadFocus = document.activeElement === button;
  button.hidden = ['insecure', 'absent', 'denied', 'subscribed', 'ended'].includes(state);
  button.disabled = ['asking', 'slow'].includes(state);
  say(note, text || WORDS[state] || '');
  // Whoever has asked by the keyboard goes on from what was answered, and not from the top of the page.
  if (hadFocus && (button.hidden || button.disabled)) note.focus();
}

async function subscribe(place) {
  const payment = places.get(place);
  const isStill = () => places.get(place) === payment;
  tell(place, 'asking');
  let slow = null;
  try {
    if (await Notification.requestPermission() !== 'granted') {
      if (isStill()) tell(place, obstacle() || '', 'Without permission nothing can be shown.');
      return;
    }
    slow = setTimeout(() => isStill() && tell(place, 'slow'), SLOW_MS);
    const key = await serversKey();
    if (!key) throw new Error('The server cannot be reached, or does no Web Push.');
    const browser = await subscriptionFor(key);
    clearTimeout(slow);
    await post(browser, payment);
    if (isStill()) tell(place, 'subscribed');
  } catch (error) {
    clearTimeout(slow);
    // The server may have another key than when it was asked.
    if (error.status === 409) asked = null;
    if (isStill()) tell(place, error.status === 409 && /ended/.test(error.message) ? 'ended' : '', wordsOf(error));
  }
}

const wordsOf = (error) => (error.name === 'AbortError' ? 'The browser’s push service cannot be reached.' : error.message);

export async function registered() {
  await navigator.serviceWorker.register(policy ? policy.createScriptURL(WORKER) : WORKER, { scope: '/' });
  return navigator.serviceWorker.ready;
}

// One that was made with another key is of no use to anybody any more.
async function subscriptionFor(key) {
  const { pushManager } = await registered();
  const known = await pushManager.getSubscription();
  if (known && text(known.options.applicationServerKey) === key) return known;
  if (known) await known.unsubscribe();
  return pushManager.subscribe({ userVisibleOnly: true, applicationServerKey: bytes(key) });
}

async function post(browser, payment) {
  const path = `/v1/push_subscriptions${new URL(payment.links.self, location.href).search}`;
  const answer = await ask(browser, payment.id, path);
  if (!answer.ok) throw new Refused(answer.status, (await answer.json().catch(() => ({}))).detail);
  // It is subscribed, whether that can be kept here or not.
  await keep(browser, payment.id, path).catch(() => {});
}

function ask(browser, payment, path) {
  const body = JSON.stringify({ ...browser.toJSON(), payment_id: payment, application_server_key: text(browser.options.applicationServerKey) });
  return request(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
}

async function keep(browser, payment, path) {
  const entry = { payment, path, endpoint: browser.toJSON().endpoint };
  await (await caches.open(ASKED)).put(`/page/asked/${payment}`, new Response(JSON.stringify(entry)));
}

// The browser may have been given another address while no page was open, and the worker have told the server in vain: it has no
// key, and may have had no network.
export async function followBrowser() {
  if (obstacle() || Notification.permission !== 'granted' || !(await caches.has(ASKED))) return;
  const asked = await caches.open(ASKED);
  const entries = await asked.keys();
  const key = entries.length > 0 && await serversKey();
  if (!key) return;
  const browser = await subscriptionFor(key);
  for (const entry of entries) await askAgain(asked, entry, browser).catch(() => {});
}

// What is not taken now is asked for when the page is opened next.
async function askAgain(asked, entry, browser) {
  const { payment, path, endpoint } = await (await asked.match(entry)).json();
  if (endpoint === browser.toJSON().endpoint) return;
  const answer = await ask(browser, payment, path);
  const { code } = await answer.json().catch(() => ({}));
  if (answer.ok) await keep(browser, payment, path);
  else if (code === 'payment_ended') await asked.delete(entry);
}

// Base64 of URLs, without padding.
const bytes = (key) => Uint8Array.from(atob(key.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
const text = (key) => key && btoa(String.fromCharCode(...new Uint8Array(key))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');

// A notification was clicked, and this page is to show what it is about.
if ('serviceWorker' in navigator) {
  navigator.serviceWorker.addEventListener('message', ({ data }) => {
    if (data && typeof data.show === 'string' && data.show.startsWith('#/')) location.hash = data.show;
  });
}
