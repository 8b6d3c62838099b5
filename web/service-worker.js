// Shows what a browser is told by Web Push, also when no page of paylog is open, and leads to the payment. It keeps nothing and
// answers no request.

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
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

self.addEventListener('push', (event) => {
  const { title, ...options } = messageOf(event.data);
  // Of one payment the later takes the place of the earlier.
  event.waitUntil(self.registration.showNotification(title, options));
});

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
