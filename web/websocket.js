// One WebSocket for everything that is followed. After a loss all of it is subscribed again, each from its own cursor; a
// server that goes away says when to come back.

import { backoff } from './server.js';

const subscriptions = new Map();
let [socket, timer, tries, retryMs, last] = [null, null, 0, null, 0];

export function openWebSocket(wish, told) {
  last += 1;
  const id = `s${last}`;
  subscriptions.set(id, { wish, told, cursor: wish.cursor });
  if (!socket && timer === null) connect();
  else if (socket && socket.readyState === WebSocket.OPEN) subscribe(id);
  return { close: () => unsubscribe(id) };
}

function connect() {
  timer = null;
  const mine = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/v1/ws`);
  socket = mine;
  mine.onopen = () => [...subscriptions.keys()].forEach(subscribe);
  mine.onmessage = (message) => take(JSON.parse(message.data));
  mine.onclose = () => {
    if (socket !== mine) return;
    socket = null;
    if (subscriptions.size === 0) return;
    for (const { told } of subscriptions.values()) told.becomes('lost');
    timer = setTimeout(connect, retryMs ?? backoff(tries));
    [tries, retryMs] = [tries + 1, null];
  };
}

function subscribe(id) {
  const { wish, cursor } = subscriptions.get(id);
  const asked = { type: 'subscribe', id };
  for (const name of ['payment_id', 'customer_id', 'at_least']) if (wish[name]) asked[name] = wish[name];
  if (cursor) asked.cursor = cursor;
  socket.send(JSON.stringify(asked));
}

function unsubscribe(id) {
  if (!subscriptions.delete(id)) return;
  if (subscriptions.size === 0) {
    clearTimeout(timer);
    [timer, tries] = [null, 0];
    const old = socket;
    socket = null;
    if (old) old.close(1000);
  } else if (socket && socket.readyState === WebSocket.OPEN) {
    socket.send(JSON.stringify({ type: 'unsubscribe', id }));
  }
}

function take(message) {
  if (message.type === 'going_away') {
    retryMs = message.retry_ms;
    return;
  }
  const subscription = subscriptions.get(message.id);
  if (!subscription) return; // it was given up meanwhile
  const { told } = subscription;
  if (message.type === 'subscribed') {
    tries = 0;
    told.becomes('live');
  } else if (message.type === 'error') {
    subscriptions.delete(message.id);
    told.becomes('refused', message.error.detail);
  } else if (message.type === 'end') {
    subscriptions.delete(message.id);
    told.becomes('ended');
  } else if (message.type === 'frame' || message.type === 'cursor') {
    if (message.cursor) {
      subscription.cursor = message.cursor;
      told.stands(message.cursor);
    }
    if (message.type === 'frame') told.hears(message.event, message.data);
  }
}
