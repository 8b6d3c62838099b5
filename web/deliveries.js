// Who is told of a payment, by webhook and by Web Push, and what came of each attempt: kept up while somebody looks.

import { badge, byId, cell, element, fill, momentOf, row } from './dom.js';
import { Refused, getJson } from './server.js';
import { isFinal } from './tickets.js';

const EVERY_MS = 2000;
// Endpoints whose attempts are looked at.
const ENDPOINTS_MAX = 20;
const KINDS = { delivered: 'good', failed: 'bad', 'given up': 'bad' };

let watching = null;

export function watchDeliveries(payment) {
  unwatchDeliveries();
  byId('deliveries').hidden = true;
  watching = new Watch(payment);
  watching.look();
}

export function unwatchDeliveries() {
  if (watching) clearTimeout(watching.timer);
  watching = null;
}

class Watch {
  constructor(payment) {
    Object.assign(this, { payment, seen: null });
  }

  async look() {
    try {
      if (!document.hidden) await this.read();
    } catch (error) {
      // What is lost comes back, and who is behind catches up.
      if (await this.isNeverTold(error)) return;
    }
    if (watching === this) this.timer = setTimeout(() => this.look(), EVERY_MS);
  }

  // An installation without webhooks knows the payment all the same.
  async isNeverTold(error) {
    if (error instanceof Refused && error.status === 404) {
      return getJson(`/v1/payments/${encodeURIComponent(this.payment)}`).then(() => true, (other) => isFinal(other));
    }
    return isFinal(error);
  }

  async read() {
    const { data: told } = await getJson(`/v1/payments/${encodeURIComponent(this.payment)}/webhooks`, { cache: 'no-store' });
    const { data: pushed } = await getJson(`/v1/payments/${encodeURIComponent(this.payment)}/pushes`, { cache: 'no-store' });
    const now = JSON.stringify([told, pushed]);
    if (now === this.seen) return;
    const { data: endpoints } = await getJson('/v1/webhook_endpoints');
    const mine = endpoints.filter(({ id }) => told.some(({ endpoint }) => endpoint === id));
    const attempts = (await Promise.all(mine.slice(0, ENDPOINTS_MAX).map(attemptsOf))).flat().filter((attempt) => attempt.payment_id === this.payment);
    const others = told.filter((one) => !attempts.some((attempt) => isOf(attempt, one))).map((one) => withoutAttempts(one, mine));
    const pushes = (await Promise.all(pushed.slice(0, ENDPOINTS_MAX).map((one) => pushesOf(one, this.payment)))).flat();
    if (watching !== this) return;
    this.seen = now;
    const all = [...attempts, ...others, ...pushes].sort((a, b) => a.version - b.version || (a.at < b.at ? -1 : 1));
    byId('deliveries').hidden = false;
    byId('deliveries-empty').textContent = endpoints.length === 0 ? 'There are no webhook endpoints.' : 'Nobody is told of it.';
    fill(byId('delivery-rows'), all.map(delivery), byId('deliveries-table'), byId('deliveries-empty'));
  }
}

// The newest page of them: this is for looking at what has just happened.
async function attemptsOf({ id, url }) {
  const { data } = await getJson(`/v1/webhook_endpoints/${encodeURIComponent(id)}/attempts`);
  return data.map((attempt) => ({ ...attempt, endpoint: id, url }));
}

// The same of a browser: of which no more is said than whose push service it has.
async function pushesOf(one, payment) {
  // One that is over is shown as it stands, whatever is still known of it: the others' rows do not wait for it.
  const asked = one.attempts > 0 ? getJson(`/v1/push_subscriptions/${encodeURIComponent(one.subscription)}/attempts`) : { data: [] };
  const { data } = await Promise.resolve(asked).catch((error) => {
    if (error.status === 404) return { data: [] };
    throw error;
  });
  const url = one.service ? `a browser at ${one.service}` : 'a browser';
  const attempts = data.filter((attempt) => attempt.payment_id === payment && attempt.version === one.version);
  return attempts.length > 0 ? attempts.map((attempt) => ({ ...attempt, url })) : [{ ...withoutAttempts(one, []), url }];
}

const isOf = (attempt, { endpoint, version, cause }) => attempt.endpoint === endpoint && attempt.version === version && attempt.cause === cause;

// Not tried yet, or so long ago that its attempts are on an older page.
function withoutAttempts({ endpoint, event, version, state, attempts, next_at: next }, endpoints) {
  const { url } = endpoints.find(({ id }) => id === endpoint) || { url: endpoint };
  return { url, event, version, attempt: attempts, result: state.replace('_', ' '), at: '', next_at: next };
}

function delivery(attempt) {
  const said = attempt.status ?? attempt.failure;
  const result = cell(badge(attempt.result, KINDS[attempt.result] || 'wait'));
  if (said) result.append(` ${said}`);
  return row(cell(element('span', attempt.url, 'mono')), attempt.event, cell(String(attempt.attempt), 'number'), result,
    cell(attempt.took_ms === undefined ? '' : `${attempt.took_ms} ms`, 'number'), attempt.at ? cell(momentOf(attempt.at)) : '',
    attempt.next_at ? cell(momentOf(attempt.next_at)) : 'none');
}
