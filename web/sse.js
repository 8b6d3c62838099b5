// Server-Sent Events: the browser itself comes back with the last id after a loss. Only what the server refuses ends its
// EventSource; then a new one is made, later. With a key each is opened by a ticket, and made anew after every loss. When to
// come back, which the server says of every end, a page cannot read: it then waits as long as the server would ask for.

import { EVENTS } from './payment.js';
import { backoff } from './server.js';
import { isFinal, isLetIn, scopeOf, ticketFor } from './tickets.js';

// After the end of a stream that was open: of a server that goes away too, whose readers must not come back all at once.
const AGAIN_MS = [1_000, 6_000];
// After being turned away, for as many streams are open as there may be.
const FULL_MS = [30_000, 60_000];

const between = ([least, most]) => least + Math.random() * (most - least);

export function openSse(wish, told) {
  const opened = new Sse(wish, told);
  opened.connect();
  return opened;
}

class Sse {
  constructor(wish, told) {
    Object.assign(this, { wish, told, cursor: wish.cursor, tries: 0, isClosed: false, turnedAway: null });
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
    let wasOpen = false;
    source.onopen = () => {
      [wasOpen, this.turnedAway] = [true, null];
      this.told.becomes('live');
    };
    source.addEventListener('problem', (message) => {
      this.turnedAway = JSON.parse(message.data).detail;
    });
    source.onerror = () => {
      this.told.becomes('lost', this.turnedAway ?? undefined);
      // By itself the browser would come back with the ticket that it had.
      if (ticket) source.close();
      if (source.readyState === EventSource.CLOSED) this.ended(wasOpen);
    };
    for (const name of ['snapshot', 'reset', ...EVENTS]) {
      source.addEventListener(name, (message) => {
        this.moved(message.lastEventId);
        this.told.hears(name, JSON.parse(message.data));
      });
    }
  }

  moved(id) {
    if (!id) return;
    this.tries = 0; // and not when it opens, which it does to be turned away, too
    if (id === this.cursor) return;
    this.cursor = id;
    this.told.stands(id);
  }

  async ended(wasOpen) {
    try {
      if (!wasOpen) await isLetIn(this.wish);
      this.comesBack(this.turnedAway === null ? Math.max(between(AGAIN_MS), backoff(this.tries)) : between(FULL_MS));
    } catch (error) {
      this.failed(error);
    }
  }

  failed(error) {
    if (this.isClosed) return;
    if (isFinal(error, this.wish)) this.told.becomes('refused', error.message);
    else {
      this.told.becomes('lost');
      this.comesBack(backoff(this.tries));
    }
  }

  comesBack(ms) {
    if (this.isClosed) return;
    this.tries += 1;
    this.timer = setTimeout(() => this.connect(), ms);
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
