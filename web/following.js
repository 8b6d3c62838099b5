// One payment as it goes on, for the checkout: its steps as they arrive, by the channel that was chosen.

import { Follow } from './channels.js';
import { Connection } from './connection.js';
import { byId, element, timeOf } from './dom.js';
import { shown } from './money.js';
import { detailOf, hasEnded, kindOf, showStatus } from './payment.js';
import { getJson } from './server.js';

let following = null;

export function followPayment(payment) {
  if (following) following.follow.close();
  byId('steps').replaceChildren();
  byId('follow').hidden = false;
  byId('follow-empty').hidden = true;
  byId('follow-amount').textContent = shown(payment);
  byId('follow-link').textContent = payment.id;
  byId('follow-link').href = `#/payments/${payment.id}`;
  showStatus(byId('follow-badge'), payment);
  following = new FollowedPayment(payment);
}

class FollowedPayment {
  constructor(payment) {
    this.steps = byId('steps');
    this.events = payment.links.events;
    this.version = 0;
    const atLeast = new URL(payment.links.stream, location.href).searchParams.get('at_least');
    const wish = { payment_id: payment.id, at_least: atLeast };
    this.connection = new Connection(byId('payment-connection'));
    this.follow = new Follow(wish, this.connection, (event, data) => this.hears(event, data));
  }

  async hears(event, { event: happened, payment }) {
    if (event === 'reset') {
      this.steps.replaceChildren();
      this.version = 0;
      return;
    }
    if (happened) step(this.steps, happened);
    if (payment.version >= this.version) {
      this.version = payment.version;
      showStatus(byId('follow-badge'), payment);
    }
    if (hasEnded(payment)) queueMicrotask(() => this.follow.end());
    if (event === 'snapshot') await this.history(payment);
  }

  // What happened before the channel began.
  async history(payment) {
    const { data } = await getJson(payment.links.events).catch(() => ({ data: [] }));
    if (following === this) for (const event of data) step(this.steps, event);
  }
}

// The history and the channel may both bring an event; its version says whether it is new.
function step(steps, event) {
  const items = [...steps.children];
  if (items.some((item) => item.dataset.version === String(event.version))) return;
  const item = element('li', undefined, kindOf(event));
  item.dataset.version = String(event.version);
  const detail = detailOf(event);
  item.append(element('strong', event.type), element('span', timeOf(event.occurred_at) + (detail && ` · ${detail}`)));
  const after = items.find((other) => Number(other.dataset.version) > event.version);
  steps.insertBefore(item, after || null);
}
