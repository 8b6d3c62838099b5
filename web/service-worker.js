// Shows what a browser is told by Web Push, also when no page of paylog is open, and leads to the payment. When the browser is
// given another address it tells the server, of each payment that a page has asked for here, as far as that lets it in without a
// key: it has none, and what it cannot do the page does when it is open next. It answers no request.

// What a page has asked for, and for which address: written there, and taken out when the payment has ended.
const ASKED = 'paylog-asked';

const TITLES = { PaymentSuccessful: 'Payment successful', PaymentFailed: 'Payment failed' };

const isPayment = (id) => typeof id === 'string' && /^pay_[a-z2-7]{26}$/.test(id);

function amountOf({ amount, currency }) {
  if (!Number.isSafeInteger(amount) || typeof currency !== 'string') return '';
  try {
    const format = new Intl.NumberFormat(undefined, { style: 'currency', currency });
    return format.format(amount / 10 ** format.resolvedOptions().maximumFractionDigits);
  } catch {
    return `${amount} ${currency}`;
  }
}

// Browsers that show nothing for a message are told nothing more: what cannot be read is shown as that something has happened.
function messageOf(data) {
  try {
    const { type, data: { payment } } = data.json();
    if (isPayment(payment.id)) {
      const title = TITLES[type] || 'A payment has changed';
      return { title, body: amountOf(payment), tag: payment.id, data: { payment: payment.id } };
    }
  } catch { /* as below */ }
  return { title: 'A payment has changed', body: '', tag: 'paylog', data: {} };
}

self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(Promise.all([self.clients.claim(), followWhatIs()])));

self.addEventListener('push', (event) => {
  const { title, ...options } = messageOf(event.data);
  // Of one payment the later takes the place of the earlier.
  const told = forget(options.data.payment).then(followWhatIs);
  event.waitUntil(Promise.all([self.registration.showNotification(title, options), told]));
});

async function forget(payment) {
  if (payment) await (await caches.open(ASKED)).delete(`/page/asked/${payment}`);
}

// W3C Push API, 11.4: the browser's address is another, or it has none any more; there may be no page that could say so.
self.addEventListener('pushsubscriptionchange', (event) => event.waitUntil(moved(event.newSubscription)));

async function moved(given) {
  const asked = await caches.open(ASKED);
  if ((await asked.keys()).length > 0) await follow(given || await subscribeAnew());
}

// One that fails is asked for again with the next message, when a worker starts anew, or by the next page.
async function follow(browser) {
  if (!browser) return;
  const asked = await caches.open(ASKED);
  for (const entry of await asked.keys()) await ask(asked, entry, browser).catch(() => {});
}

async function ask(asked, entry, browser) {
  const kept = await (await asked.match(entry)).json();
  const json = browser.toJSON();
  if (kept.endpoint === json.endpoint) return;
  const body = JSON.stringify({ ...json, payment_id: kept.payment, application_server_key: text(browser.options?.applicationServerKey) });
  const answer = await fetch(kept.path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body });
  const { code } = await answer.json().catch(() => ({}));
  if (answer.ok) await asked.put(entry, new Response(JSON.stringify({ ...kept, endpoint: json.endpoint })));
  else if (answer.status === 404 || code === 'payment_ended') await asked.delete(entry);
}

const text = (key) => (key ? btoa(String.fromCharCode(...new Uint8Array(key))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '') : undefined);

// By the key that the server has now: it may be for another one that the old address was given up.
async function subscribeAnew() {
  const { application_server_key: applicationServerKey } = await (await fetch('/v1/push')).json();
  return self.registration.pushManager.subscribe({ userVisibleOnly: true, applicationServerKey });
}

const followWhatIs = () => self.registration.pushManager.getSubscription().then(follow).catch(() => {});

self.addEventListener('notificationclick', (event) => {
  event.notification.close();
  event.waitUntil(show(event.notification.data && event.notification.data.payment));
});

async function show(payment) {
  const url = new URL(isPayment(payment) ? `/#/payments/${payment}` : '/', self.location.origin).href;
  const pages = await self.clients.matchAll({ type: 'window', includeUncontrolled: true });
  const page = pages.find((one) => new URL(one.url).origin === self.location.origin && new URL(one.url).pathname === '/');
  if (!page) return self.clients.openWindow(url);
  page.postMessage({ show: new URL(url).hash || '#/' });
  return page.focus();
}
