// One payment as it goes on, for the checkout: its steps as they arrive, by the channel that was chosen.

import { Follow } from './channels.js';
import { Connection } from './connection.js';
import { byId, element, timeOf } from './dom.js';
import { shown } from './money.js';
import { detailOf, hasEnded, kindOf, showStatus } from './payment.js';
import { offerPush, withdrawPush } from './push.js';
import { backoff, getJson, pause } from './server.js';

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
  offerPush('follow-push', payment);
  // On a phone it is below the form.
  const { top } = byId('follow-title').getBoundingClientRect();
  if (top < 0 || top > innerHeight * 0.8) byId('follow-title').scrollIntoView();
}

class FollowedPayment {
  constructor(payment) {
    this.steps = byId('steps');
    this.version = 0;
    this.whole = Promise.resolve();
    const atLeast = new URL(payment.links.stream, location.href).searchParams.get('at_least');
    const wish = { payment_id: payment.id, at_least: atLeast, of: payment.customer_id };
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
    if (event === 'snapshot') this.whole = this.history(payment.links.events);
    if (!hasEnded(payment)) return;
    withdrawPush('follow-push', payment);
    this.follow.close();
    await this.whole;
    if (following === this) this.connection.becomes('ended');
  }

  // What happened before the channel began. The channel goes on from its cursor, so that nobody else would tell it.
  async history(path) {
    for (let tries = 0; following === this; tries += 1) {
      const { data } = await getJson(path).catch(() => ({ data: null }));
      if (data && following === this) data.forEach((event) => step(this.steps, event));
      if (data) return;
      await pause(backoff(tries));
    }
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
