// Who was told of a payment by webhook: shown where this installation has webhooks, and not otherwise.

import { badge, byId, cell, element, fill, momentOf, row } from './dom.js';
import { getJson } from './server.js';

// Endpoints that are looked at.
const ENDPOINTS_MAX = 20;
const RESULTS = { delivered: 'good', failed: 'bad' };

let looking = null;

export async function showDeliveries(payment) {
  looking = payment;
  const endpoints = await getJson('/v1/webhook_endpoints').then(({ data }) => data, () => null);
  if (looking !== payment) return;
  byId('deliveries').hidden = !endpoints;
  if (!endpoints) return;
  const attempts = (await Promise.all(endpoints.slice(0, ENDPOINTS_MAX).map(attemptsOf))).flat();
  if (looking !== payment) return;
  const mine = attempts.filter((attempt) => attempt.payment_id === payment).sort((a, b) => (a.at < b.at ? -1 : 1));
  byId('deliveries-empty').textContent = endpoints.length === 0 ? 'There are no webhook endpoints.'
    : 'Nothing has been sent about it yet, or it was a while ago.';
  fill(byId('delivery-rows'), mine.map(delivery), byId('deliveries-table'), byId('deliveries-empty'));
}

// The newest page of them: this is for looking at what has just happened.
async function attemptsOf(endpoint) {
  const path = `/v1/webhook_endpoints/${encodeURIComponent(endpoint.id)}/attempts`;
  const { data } = await getJson(path).catch(() => ({ data: [] }));
  return data.map((attempt) => ({ ...attempt, url: endpoint.url }));
}

function delivery(attempt) {
  const said = attempt.status === null || attempt.status === undefined ? attempt.failure : attempt.status;
  const result = cell(badge(attempt.result, RESULTS[attempt.result] || 'wait'));
  if (said) result.append(` ${said}`);
  return row(cell(element('span', attempt.url, 'mono')), attempt.event, cell(String(attempt.attempt), 'number'), result,
    cell(`${attempt.took_ms} ms`, 'number'), cell(momentOf(attempt.at)), attempt.next_at ? cell(momentOf(attempt.next_at)) : 'none');
}
