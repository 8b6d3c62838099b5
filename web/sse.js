// Server-Sent Events: the browser itself comes back with the last id after a loss. Only what the server refuses ends its
// EventSource; then a new one is made, later.

import { EVENTS } from './payment.js';
import { backoff } from './server.js';

export function openSse(wish, told) {
  let { cursor } = wish;
  let [tries, timer, source] = [0, null, null];

  const moved = (message) => {
    if (!message.lastEventId || message.lastEventId === cursor) return;
    cursor = message.lastEventId;
    told.stands(cursor);
  };
  const connect = () => {
    source = new EventSource(addressOf(wish, cursor));
    source.onopen = () => {
      tries = 0;
      told.becomes('live');
    };
    source.onerror = () => {
      told.becomes('lost');
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(connect, backoff(tries++));
    };
    for (const name of ['snapshot', 'reset', ...EVENTS]) {
      source.addEventListener(name, (message) => {
        moved(message);
        told.hears(name, JSON.parse(message.data));
      });
    }
  };
  connect();
  return {
    close() {
      clearTimeout(timer);
      source.close();
    },
  };
}

function addressOf({ payment_id: payment, customer_id: customer, at_least: atLeast }, cursor) {
  const query = new URLSearchParams(payment ? { payment_id: payment } : { customer_id: customer });
  if (atLeast) query.set('at_least', atLeast);
  if (cursor) query.set('last_event_id', cursor);
  return `/v1/stream?${query}`;
}
