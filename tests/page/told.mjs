// What cannot be brought about here in a minute: payments that wait for a person, dead letters, and an endpoint whose address is
// markup. The browser is given answers as the server words them; the page, and the payment it is about, are real.
import assert from 'node:assert/strict';

import { STEP_MS, Visitor } from './browser.mjs';

const AT = '2026-11-25T12:00:00.000Z';

function attempts(payment) {
  const one = { webhook_id: 'msg_1', event: 'PaymentSuccessful', payment_id: payment, version: 2, cause: 'live', took_ms: 31, failure: null, next_at: null };
  return [
    { ...one, attempt: 2, at: '2026-11-25T12:00:05.000Z', result: 'delivered', status: 204 },
    { ...one, attempt: 1, at: AT, result: 'failed', failure: 'status', status: 500, next_at: '2026-11-25T12:00:05.000Z' },
    { ...one, payment_id: 'pay_another', attempt: 1, at: AT, result: 'delivered', status: 200 },
  ];
}

export async function told({ browser, link, shots }) {
  const visitor = await Visitor.come(browser, link.url, shots);
  const { page } = visitor;
  await visitor.pay('pm_card_visa');
  const id = await page.locator('#follow-link').textContent();
  const one = { endpoint: 'we_1', event: 'PaymentSuccessful', version: 2, cause: 'live', state: 'delivered', attempts: 2, next_at: null };
  const long = { ...one, event: 'PaymentInProgress', version: 1, state: 'given_up', attempts: 10 };
  const answers = [{ status: 429, json: {} }]; // which is asked again
  await page.route('**/v1/payments/*/webhooks', (route) => route.fulfill(answers.shift() ?? { json: { data: [long, one], next_cursor: null } }));
  await page.route('**/v1/webhook_endpoints', (route) => route.fulfill({ json: { data: [{ id: 'we_1', url: '<b>shop</b>' }], next_cursor: null } }));
  await page.route('**/v1/webhook_endpoints/we_1/attempts', (route) => route.fulfill({ json: { data: attempts(id), next_cursor: null } }));
  await page.locator('#follow-link').click();
  const deliveries = page.getByRole('region', { name: 'Webhook and push deliveries' });
  await deliveries.getByRole('row', { name: /PaymentSuccessful 2 delivered 204 31 ms/ }).waitFor({ timeout: STEP_MS });
  visitor.complaints = visitor.complaints.filter((text) => !/\b429\b/.test(text));
  const rows = await deliveries.locator('tbody tr').allTextContents();
  assert.equal(rows.length, 3, 'those of this payment, and no others');
  assert.match(rows[0], /PaymentInProgress10given up/, 'what was tried long ago is counted');
  assert.match(rows[1], /<b>shop<\/b>.*failed 500/, 'in order, and text is text');
  await visitor.isAccessible('a payment with deliveries');
  await visitor.shoot('deliveries');

  const parked = { payment: id, reason: 'outcome_unknown', detail: 'the key window is over', parked_since: AT };
  await page.route('**/v1/operator/parked?**', (route) => route.fulfill({ json: { data: [parked], next_cursor: null } }));
  await page.route('**/metrics', async (route) => {
    const text = (await (await route.fetch()).text()).replace(/^paylog_payments_parked .*/m, 'paylog_payments_parked 1');
    const lags = text.replace(/(paylog_fold_lag_offsets\{partition="3"\}) .*/, '$1 40').replace(/(partition="7"\}) .*/, '$1 NaN');
    await route.fulfill({ body: `${lags}\npaylog_dead_letters_total{reason="malformed \\"json\\""} 2\n` });
  });
  await visitor.see('Operations');
  const tile = (name) => page.locator('#tiles div').filter({ has: page.getByText(name, { exact: true }) }).locator('dd');
  await tile('Parked').filter({ hasText: /^1$/ }).waitFor({ timeout: STEP_MS });
  await tile('Dead letters').filter({ hasText: /^2$/ }).waitFor({ timeout: STEP_MS });
  await page.getByRole('listitem').filter({ hasText: /^Partition 3\s+40$/ }).waitFor({ timeout: STEP_MS });
  await page.getByRole('listitem').filter({ hasText: /^Partition 7\s+not known$/ }).waitFor({ timeout: STEP_MS });
  await page.getByRole('row', { name: /outcome_unknown the key window is over/ }).getByRole('link', { name: id }).waitFor({ timeout: STEP_MS });
  await visitor.isAccessible('operations with something to do');
  await visitor.shoot('operations-to-do');
  await page.unrouteAll({ behavior: 'ignoreErrors' });
  await visitor.leave();
  return 'deliveries, parked payments, dead letters and a lag are told as the server words them';
}
