// Server-Sent Events: the browser itself comes back with the last id after a loss. Only what the server refuses ends its
// EventSource; then a new one is made, later. With a key each is opened by a ticket, and made anew after every loss.

import { EVENTS } from './payment.js';
import { backoff } from './server.js';
import { isFinal, isLetIn, scopeOf, ticketFor } from './tickets.js';

export function openSse(wish, told) {
  const opened = new Sse(wish, told);
  opened.connect();
  return opened;
}

class Sse {
  constructor(wish, told) {
    Object.assign(this, { wish, told, cursor: wish.cursor, tries: 0, isClosed: false });
  }

  async connect() {
    try {
      const ticket = await ticketFor(scopeOf(this.wish));
      if (!this.isClosed) this.open(ticket);
    } catch (error) {
      this.failed(error);
    }
  }

  open(ticket) {
    const source = new EventSource(addressOf(this.wish, this.cursor, ticket));
    this.source = source;
    source.onopen = () => {
      this.tries = 0;
      this.told.becomes('live');
    };
    source.onerror = () => {
      this.told.becomes('lost');
      // By itself the browser would come back with the ticket that it had.
      if (ticket) source.close();
      if (source.readyState === EventSource.CLOSED) this.isRefused(ticket);
    };
    for (const name of ['snapshot', 'reset', ...EVENTS]) {
      source.addEventListener(name, (message) => {
        this.moved(message.lastEventId);
        this.told.hears(name, JSON.parse(message.data));
      });
    }
  }

  moved(id) {
    if (!id || id === this.cursor) return;
    this.cursor = id;
    this.told.stands(id);
  }

  async isRefused(ticket) {
    try {
      if (!ticket) await isLetIn(this.wish);
      this.failed();
    } catch (error) {
      this.failed(error);
    }
  }

  failed(error) {
    if (this.isClosed) return;
    if (isFinal(error)) this.told.becomes('refused', error.message);
    else {
      this.told.becomes('lost');
      this.timer = setTimeout(() => this.connect(), backoff(this.tries++));
    }
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.timer);
    if (this.source) this.source.close();
  }
}

function addressOf({ payment_id: payment, customer_id: customer, at_least: atLeast }, cursor, ticket) {
  const query = new URLSearchParams(payment ? { payment_id: payment } : { customer_id: customer });
  if (atLeast) query.set('at_least', atLeast);
  if (cursor) query.set('last_event_id', cursor);
  if (ticket) query.set('ticket', ticket);
  return `/v1/stream?${query}`;
}
