// Polling, held open by the server until there is something (Prefer: wait): of one payment by its ETag, of a customer by a
// page of changes since a cursor. Tag and cursor are those of the streams.

import { request } from './keys.js';
import { Refused, backoff } from './server.js';
import { isFinal } from './tickets.js';

const WAIT_SECONDS = 20;

export function openPolling(wish, told) {
  const aborting = new AbortController();
  const ask = async (path, headers = {}) => {
    const answer = await request(path, { headers, signal: aborting.signal, cache: 'no-store' });
    if (answer.ok || answer.status === 304) return answer;
    const { detail } = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, detail);
  };
  const polled = wish.payment_id ? new PolledPayment(wish, told, ask) : new PolledCustomer(wish, told, ask);
  poll(polled, wish, told, aborting.signal);
  return { close: () => aborting.abort() };
}

async function poll(polled, wish, told, signal) {
  // The first answer, and the first after a loss, comes at once: until then nobody knows that there is a server.
  for (let [tries, isLive] = [0, false]; !signal.aborted;) {
    try {
      await polled.next(isLive ? { Prefer: `wait=${WAIT_SECONDS}` } : {});
      if (signal.aborted) return;
      [tries, isLive] = [0, true];
      told.becomes('live');
    } catch (error) {
      if (signal.aborted) return;
      isLive = false;
      if (error instanceof Refused && error.status === 409) polled.reset(); // another log
      else if (isFinal(error, wish)) {
        told.becomes('refused', error.message);
        return;
      } else told.becomes('lost');
      await waited(backoff(tries), signal);
      tries += 1;
    }
  }
}

function waited(ms, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', () => { clearTimeout(timer); done(); }, { once: true });
  });
}

class PolledPayment {
  constructor({ payment_id: id, at_least: atLeast, cursor }, told, ask) {
    Object.assign(this, { id, atLeast, cursor, told, ask });
  }

  async next(patience) {
    const query = this.atLeast ? `?${new URLSearchParams({ at_least: this.atLeast })}` : '';
    const headers = this.cursor ? { 'If-None-Match': `"${this.cursor}"`, ...patience } : {};
    const answer = await this.ask(`/v1/payments/${encodeURIComponent(this.id)}${query}`, headers);
    if (answer.status === 304) return;
    const cursor = answer.headers.get('etag').replace(/^W\/|"/g, '');
    const ofAnother = this.cursor && this.cursor.split('.')[0] !== cursor.split('.')[0];
    if (ofAnother) this.told.hears('reset', {});
    this.cursor = cursor;
    this.told.stands(cursor);
    this.told.hears('snapshot', { payment: await answer.json() });
  }

  reset() {
    [this.cursor, this.atLeast] = [null, null];
    this.told.hears('reset', {});
  }
}

class PolledCustomer {
  constructor({ customer_id: customer, cursor }, told, ask) {
    Object.assign(this, { customer, cursor, told, ask });
  }

  async next(patience) {
    if (!this.cursor) return this.first();
    const query = new URLSearchParams({ customer_id: this.customer, after: this.cursor });
    const answer = await this.ask(`/v1/events?${query}`, patience);
    const { data, next_cursor: next } = await answer.json();
    for (const change of data) this.told.hears(change.event.type, change);
    return this.moved(next);
  }

  // The position comes first: what is in the list then is at least as far, and what comes twice is known by its version.
  async first() {
    const query = new URLSearchParams({ customer_id: this.customer });
    // Not by HEAD, which has no words for a refusal.
    const position = (await this.ask(`/v1/payments?${query}&limit=1`)).headers.get('paylog-position');
    query.set('at_least', position);
    const { data, next_cursor: older } = await (await this.ask(`/v1/payments?${query}`)).json();
    for (const payment of data) this.told.hears('snapshot', { payment });
    if (data.length > 0) this.told.hears('snapshot', { payment: data.at(-1), more: older !== null });
    this.moved(position);
  }

  moved(cursor) {
    if (cursor === this.cursor) return;
    this.cursor = cursor;
    this.told.stands(cursor);
  }

  reset() {
    this.cursor = null;
    this.told.hears('reset', {});
  }
}
