// One WebSocket for everything that is followed; with keys, one for each customer, for that is what a ticket opens. After a
// loss all of it is subscribed again, each from its own cursor; a server that goes away says when to come back.

import { Refused, backoff } from './server.js';
import { isFinal, isLetIn, scopeOf, ticketFor } from './tickets.js';

const sockets = new Map();
let last = 0;

export function openWebSocket(wish, told) {
  const scope = scopeOf(wish);
  if (!sockets.has(scope)) sockets.set(scope, new Socket(scope));
  return sockets.get(scope).follow(wish, told);
}

class Socket {
  constructor(scope) {
    Object.assign(this, { scope, subscriptions: new Map(), ws: null, timer: null, tries: 0, retryMs: null });
    this.connect();
  }

  follow(wish, told) {
    last += 1;
    const id = `s${last}`;
    this.subscriptions.set(id, { wish, told, cursor: wish.cursor });
    if (this.isOpen()) this.subscribe(id);
    return { close: () => this.unsubscribe(id) };
  }

  isOpen() {
    return this.ws !== null && this.ws.readyState === WebSocket.OPEN;
  }

  async connect() {
    try {
      const ticket = await ticketFor(this.scope);
      if (!this.isOver) this.open(ticket);
    } catch (error) {
      this.failed(error);
    }
  }

  open(ticket) {
    const query = ticket ? `?${new URLSearchParams({ ticket })}` : '';
    const ws = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/v1/ws${query}`);
    this.ws = ws;
    let wasOpen = false;
    ws.onopen = () => {
      wasOpen = true;
      [...this.subscriptions.keys()].forEach((id) => this.subscribe(id));
    };
    ws.onmessage = (message) => this.take(JSON.parse(message.data));
    ws.onclose = () => {
      this.ws = null;
      this.ended(wasOpen);
    };
  }

  async ended(wasLetIn) {
    if (this.isOver) return;
    this.tell('lost');
    try {
      if (!wasLetIn) await isLetIn(this.first());
      this.failed();
    } catch (error) {
      this.failed(error);
    }
  }

  failed(error) {
    if (this.isOver) return;
    if (isFinal(error, this.first())) {
      this.tell('refused', error.message);
      this.end();
      return;
    }
    this.tell('lost');
    this.timer = setTimeout(() => this.connect(), this.retryMs ?? backoff(this.tries));
    [this.tries, this.retryMs] = [this.tries + 1, null];
  }

  // One of what is followed, of which can be asked why nothing is.
  first() {
    const [{ wish }] = this.subscriptions.values();
    return wish;
  }

  tell(state, detail) {
    for (const { told } of this.subscriptions.values()) told.becomes(state, detail);
  }

  subscribe(id) {
    const { wish, cursor } = this.subscriptions.get(id);
    const asked = { type: 'subscribe', id };
    for (const name of ['payment_id', 'customer_id', 'at_least']) if (wish[name]) asked[name] = wish[name];
    if (cursor) asked.cursor = cursor;
    this.ws.send(JSON.stringify(asked));
  }

  unsubscribe(id) {
    if (this.forget(id) && this.isOpen()) this.ws.send(JSON.stringify({ type: 'unsubscribe', id }));
  }

  forget(id) {
    const wasThere = this.subscriptions.delete(id);
    if (this.subscriptions.size === 0) this.end();
    return wasThere;
  }

  // One of what is followed; the others go on. What is not final, of an instance that is behind say, is asked for again.
  failedOne(id, subscription, error) {
    const { wish, told } = subscription;
    if (isFinal(error, wish)) {
      this.forget(id);
      told.becomes('refused', error.message);
      return;
    }
    told.becomes('lost');
    subscription.tries = (subscription.tries || 0) + 1;
    const { ws } = this;
    setTimeout(() => {
      // Over another socket it was asked for already.
      if (this.ws === ws && this.isOpen() && this.subscriptions.get(id) === subscription) this.subscribe(id);
    }, backoff(subscription.tries));
  }

  // Nobody follows anything by it any more.
  end() {
    this.isOver = true;
    clearTimeout(this.timer);
    if (sockets.get(this.scope) === this) sockets.delete(this.scope);
    if (this.ws) this.ws.close(1000);
  }

  take(message) {
    if (message.type === 'going_away') {
      this.retryMs = message.retry_ms;
      return;
    }
    const subscription = this.subscriptions.get(message.id);
    if (!subscription) return; // it was given up meanwhile
    const { told } = subscription;
    if (message.type === 'subscribed') {
      [this.tries, subscription.tries] = [0, 0];
      told.becomes('live');
    } else if (message.type === 'error') {
      this.failedOne(message.id, subscription, new Refused(message.error.status, message.error.detail));
    } else if (message.type === 'end') {
      this.forget(message.id);
      told.becomes('ended');
    } else if (message.type === 'frame' || message.type === 'cursor') {
      if (message.cursor) {
        subscription.cursor = message.cursor;
        told.stands(message.cursor);
      }
      if (message.type === 'frame') told.hears(message.event, message.data);
    }
  }
}
