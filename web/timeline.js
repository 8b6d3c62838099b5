// A payment as the log has it: every event with its offset and its times, the attempts at the provider, and who was told.

import { Follow } from './channels.js';
import { badge, byId, cell, element, fill, momentOf, row, say, took } from './dom.js';
import { unwatchDeliveries, watchDeliveries } from './deliveries.js';
import { shown } from './money.js';
import { detailOf, hasEnded, kindOf, showStatus } from './payment.js';
import { clearPush, offerPush, withdrawPush } from './push.js';
import { getJson } from './server.js';

let open = null;

export function openPayment(id) {
  byId('payment-body').hidden = true;
  byId('payment-title').replaceChildren('Payment ', element('span', id, 'mono'));
  say(byId('payment-error'), '');
  open = new OpenPayment(id);
}

export function closePayment() {
  if (open) open.close();
  open = null;
}

// Nobody looks at the connection here; a timeline that does not move says so by its badge.
const unseen = { becomes() {}, stands() {} };

class OpenPayment {
  constructor(id) {
    this.id = id;
    this.path = `/v1/payments/${encodeURIComponent(id)}`;
    clearPush('payment-push');
    this.load().then((payment) => {
      if (!payment || open !== this) return;
      watchDeliveries(id);
      if (hasEnded(payment)) return;
      offerPush('payment-push', payment);
      const atLeast = new URL(payment.links.stream, location.href).searchParams.get('at_least');
      const wish = { payment_id: id, at_least: atLeast, of: payment.customer_id };
      this.follow = new Follow(wish, unseen, (_, { payment: now }) => this.hears(now));
    });
  }

  hears(payment) {
    this.load();
    if (!payment || !hasEnded(payment)) return;
    withdrawPush('payment-push', payment);
    this.follow.close();
  }

  async load() {
    try {
      const payment = await getJson(this.path);
      const { data: events } = await getJson(`${this.path}/events?all=true`);
      if (open !== this) return null;
      show(payment, events);
      return payment;
    } catch (error) {
      if (open === this) say(byId('payment-error'), error.message);
      return null;
    }
  }

  close() {
    if (this.follow) this.follow.close();
    unwatchDeliveries();
  }
}

function show(payment, events) {
  byId('payment-body').hidden = false;
  byId('facts-title').textContent = shown(payment);
  showStatus(byId('payment-badge'), payment);
  byId('facts').replaceChildren(...factsOf(payment, events).map(([name, value]) => fact(name, value)));
  byId('timeline').replaceChildren(...events.map((event) => moment(event, events[0])));
  fill(byId('attempt-rows'), events.filter((event) => event.data.attempt !== undefined).map(attempt), byId('attempts'), byId('attempts-empty'));
}

function factsOf(payment, events) {
  const ended = hasEnded(payment) ? took(new Date(payment.updated_at) - new Date(payment.created_at)) : null;
  return [
    ['Customer', payment.customer_id],
    ['Paid with', payment.payment_method],
    ['Begun', momentOf(payment.created_at)],
    ['Time to result', ended],
    ['Charged as', payment.gateway && `${payment.gateway.reference} at ${payment.gateway.name}`],
    ['Refused', payment.failure && `${payment.failure.message} (${payment.failure.code})`],
    ['Description', payment.description],
    ['Version', String(payment.version)],
    ['Partition', String(events[0].partition)],
    ['Request', payment.request_id],
  ].filter(([, value]) => value !== null && value !== undefined);
}

function fact(name, value) {
  const made = element('div');
  const said = element('dd');
  said.append(value);
  made.append(element('dt', name), said);
  return made;
}

function moment(event, first) {
  const item = element('li', undefined, event.version === null ? 'nothing' : kindOf(event));
  const after = new Date(event.occurred_at) - new Date(first.occurred_at);
  const head = element('div', undefined, 'line');
  const where = element('span', undefined, 'where mono');
  where.append(`partition ${event.partition}, offset ${event.offset}`);
  const when = element('span');
  when.append('happened ', momentOf(event.occurred_at), event === first ? '' : ` (+${took(after)})`,
    ', on the log ', momentOf(event.appended_at), `, written by the ${PARTS[event.written_by.part] || event.written_by.part}`);
  head.append(element('strong', event.type), where);
  const detail = detailOf(event);
  item.append(head, detail && element('span', detail), when);
  const effect = event.version === null ? 'without effect: the payment stayed as it was'
    : `version ${event.version}: ${event.state.phase === 'done' ? event.state.status : event.state.phase}`;
  item.append(element('span', effect, 'effect'));
  return item;
}

const PARTS = { api: 'API' };

const RESULTS = {
  PaymentSuccessful: ['successful', 'good'],
  PaymentFailed: ['declined', 'bad'],
  PaymentRetryScheduled: ['not charged', 'wait'],
  PaymentOutcomeUnknown: ['unknown', 'wait'],
};

function attempt({ type, data, appended_at: at }) {
  const said = data.gateway_reference || (data.code && `${data.message} (${data.code})`) || data.reason || '';
  const next = data.not_before || data.next_inquiry_at;
  return row(String(data.attempt), cell(badge(...(RESULTS[type] || [type, 'wait']))), said, cell(momentOf(at)),
    next ? cell(momentOf(next)) : 'none');
}
