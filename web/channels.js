// The three channels, one meaning: whoever follows something is told the same events with the same cursor by each, and can
// go on by another where it left off.
//
// A wish is { payment_id or customer_id, at_least, cursor, and of: the customer of the payment }. Who follows is told by four functions: becomes(state, detail),
// stands(cursor), hears(event, data), and knows by itself when there is nothing more to hear.

import { openPolling } from './polling.js';
import { openSse } from './sse.js';
import { openWebSocket } from './websocket.js';

export const CHANNELS = [
  { id: 'sse', name: 'SSE', title: 'Server-Sent Events', open: openSse },
  { id: 'websocket', name: 'WebSocket', title: 'WebSocket', open: openWebSocket },
  { id: 'polling', name: 'Polling', title: 'long polling', open: openPolling },
];

let chosen = CHANNELS[0];
const follows = new Set();

export const channel = () => chosen;

// Everything that is followed goes on by it, each from its own cursor.
export function choose(id) {
  chosen = CHANNELS.find((one) => one.id === id) || CHANNELS[0];
  for (const follow of follows) follow.reopen();
}

export class Follow {
  constructor(wish, connection, hears) {
    this.wish = { ...wish };
    this.connection = connection;
    this.hears = hears;
    follows.add(this);
    this.reopen();
  }

  reopen() {
    if (this.opened) this.opened.close();
    const mine = {};
    this.mine = mine;
    const ifMine = (then) => (...told) => { if (this.mine === mine) then(...told); };
    this.connection.becomes('connecting');
    this.opened = chosen.open(this.wish, {
      becomes: ifMine((state, detail) => this.connection.becomes(state, detail)),
      stands: ifMine((cursor) => {
        this.wish.cursor = cursor;
        this.connection.stands(cursor);
      }),
      hears: ifMine((event, data) => this.hears(event, data)),
    });
  }

  // Also when there is nothing more to hear.
  close() {
    this.mine = null;
    follows.delete(this);
    if (this.opened) this.opened.close();
  }
}
