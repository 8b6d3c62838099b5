// Requests to the server, and paying: what is not certain is sent again with the same key.

import { request } from './keys.js';

const TRIES = 5;

// randomUUID is there only over https and on localhost.
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}

export const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// Between two tries: longer and longer, and not with everybody else.
export const backoff = (tries) => Math.min(15_000, 500 * 2 ** Math.min(tries, 5)) * (0.75 + Math.random() / 2);

// An answer that says no, in the server's words where it has any.
export class Refused extends Error {
  constructor(status, detail) {
    super(detail || `The server answered with ${status}.`);
    this.status = status;
  }
}

export async function getJson(path, options) {
  const answer = await request(path, options);
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, body.detail);
  return body;
}

// Answers the payment and the status with which the server took it. `waitSeconds` of 0 asks for an answer at once.
export async function pay(body, waitSeconds) {
  const headers = { 'Content-Type': 'application/json', 'Idempotency-Key': newKey() };
  if (waitSeconds > 0) headers.Prefer = `wait=${waitSeconds}`;
  for (let tries = 1; ; tries += 1) {
    const answer = await request('/v1/payments', { method: 'POST', headers, body: JSON.stringify(body) }).catch(() => null);
    if (answer && (answer.status !== 503 || tries === TRIES)) return settled(answer);
    if (tries === TRIES) throw new Error('The server cannot be reached. Whether the payment was made is not known.');
    await pause(backoff(tries));
  }
}

async function settled(answer) {
  const { status } = answer;
  let body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(status, body.detail);
  // On the log, and not yet seen by this instance: its own link says what became of it.
  while (body.confirmed === false) {
    await pause(1000);
    body = await getJson(body.links.self);
  }
  return { status, payment: body };
}
