// Which of the views is seen: the address says it, so that each can be linked to, and gone back from.

import { openKey, startAccess } from './access.js';
import { startCheckout } from './checkout.js';
import { byId } from './dom.js';
import { closeOperations, openOperations } from './operations.js';
import { followBrowser } from './push.js';
import { closePayment, openPayment } from './timeline.js';

const VIEWS = [
  { id: 'checkout', path: /^#\/$/, title: 'Checkout', open() {}, close() {} },
  { id: 'payment', path: /^#\/payments\/([\w-]+)$/, title: 'Payment', open: openPayment, close: closePayment },
  { id: 'operations', path: /^#\/operations$/, title: 'Operations', open: openOperations, close: closeOperations },
  { id: 'key', path: /^#\/key$/, title: 'Key', open: openKey, close() {} },
];

let seen = null;

function route(isFirst) {
  // Another fragment is a place within the view, as the skip link's is.
  if (location.hash && !location.hash.startsWith('#/')) return;
  const view = VIEWS.find(({ path }) => path.test(location.hash || '#/')) || VIEWS[0];
  if (seen) seen.close();
  seen = view;
  for (const { id } of VIEWS) {
    byId(id).hidden = id !== view.id;
    const link = byId(`to-${id}`);
    if (link && id === view.id) link.setAttribute('aria-current', 'page');
    else if (link) link.removeAttribute('aria-current');
  }
  document.title = `${view.title} · paylog`;
  const [, argument] = view.path.exec(location.hash) || [];
  view.open(argument);
  // Whoever does not see the page hears where they have come to.
  if (!isFirst) {
    scrollTo(0, 0);
    byId(`${view.id}-title`).focus({ preventScroll: true });
  }
}

startAccess();
startCheckout();
route(true);
addEventListener('hashchange', () => route(false));
// What cannot be done now is done the next time.
followBrowser().catch(() => {});
