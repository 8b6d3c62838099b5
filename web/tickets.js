// With a key a stream is opened by a ticket, for no header can be sent with it: good once, for half a minute, and for what one
// customer's payments are. And why a stream did not open, of which a browser says that it failed and no more.

import { has, request } from './keys.js';
import { Refused, getJson } from './server.js';

// A token for tickets is asked for anew when it has less than this to live.
const SPARE_MS = 60_000;

const tokens = new Map();

// Malformed, nobody who may, or not had here.
const FINAL = [400, 401, 403, 501];

// It will not be answered otherwise the next time. That a payment is not there is final only from who has
// read as far as it: other instances may be behind.
export const isFinal = (error, { at_least: atLeast } = {}) =>
  error instanceof Refused && (FINAL.includes(error.status) || (error.status === 404 && Boolean(atLeast)));

// What a ticket is asked for: the customer's, which opens each of the payments too. Null where there is no key.
export function scopeOf({ payment_id: payment, customer_id: customer, of }) {
  if (!has('merchant')) return null;
  return JSON.stringify(customer || of ? { customer_id: customer || of } : { payment_id: payment });
}

// Null where no ticket is needed.
export async function ticketFor(scope) {
  if (scope === null) return null;
  const bearer = await tokenFor(scope);
  const answer = await request('/v1/stream_tokens/ticket', { method: 'POST' }, bearer);
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body.ticket;
  tokens.delete(scope); // the next try asks with the key itself
  throw new Error(body.detail);
}

async function tokenFor(scope) {
  const known = tokens.get(scope);
  if (known && new Date(known.expires_at) - Date.now() > SPARE_MS) return known.token;
  const headers = { 'Content-Type': 'application/json' };
  const made = await getJson('/v1/stream_tokens', { method: 'POST', headers, body: scope });
  tokens.set(scope, made);
  return made.token;
}

// Of a stream that did not open: throws what the server says, if it is that nobody is let in.
export async function isLetIn({ payment_id: payment, at_least: atLeast }) {
  const query = atLeast ? `?${new URLSearchParams({ at_least: atLeast })}` : '';
  await getJson(payment ? `/v1/payments/${encodeURIComponent(payment)}${query}` : '/v1/payments?limit=1', { cache: 'no-store' });
}
