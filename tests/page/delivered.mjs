// Who was told of a payment, with an endpoint and a receiver that are real: it fails once, and then takes what it is sent.
import http from 'node:http';
import assert from 'node:assert/strict';

import { STEP_MS, Visitor } from './browser.mjs';

// Says 503 to the first of each message, and keeps the numbers of its attempts.
export class Receiver {
  async start() {
    this.attempts = new Map();
    this.server = http.createServer((request, response) => {
      const id = request.headers['webhook-id'];
      this.attempts.set(id, (this.attempts.get(id) || 0) + 1);
      request.resume().on('end', () => response.writeHead(this.attempts.get(id) === 1 ? 503 : 204).end());
    });
    await new Promise((done) => this.server.listen(0, '127.0.0.1', done));
    this.url = `http://127.0.0.1:${this.server.address().port}/hook`;
  }

  // Makes an endpoint that is told the results of payments.
  async ask(paylog, headers = {}) {
    const body = JSON.stringify({ url: this.url, events: ['PaymentSuccessful', 'PaymentFailed'] });
    const endpoints = `${paylog.url}/v1/webhook_endpoints`;
    const answer = await fetch(endpoints, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body });
    assert.equal(answer.status, 201, 'an endpoint is made');
    this.endpoint = `${endpoints}/${(await answer.json()).id}`;
  }

  async stop(headers = {}) {
    await fetch(this.endpoint, { method: 'DELETE', headers });
    this.server.closeAllConnections();
    this.server.close();
  }
}

// A payment's deliveries are looked at when it is opened: they come when they come.
export async function seesBothAttempts(page) {
  const deliveries = page.getByRole('region', { name: 'Webhook and push deliveries' });
  const taken = deliveries.getByRole('row', { name: /PaymentSuccessful 2 delivered 204 \d+ ms/ });
  await taken.waitFor({ timeout: STEP_MS });
  const rows = await deliveries.locator('tbody tr').allTextContents();
  assert.equal(rows.length, 2, 'each attempt, and no other');
  assert.match(rows[0], /PaymentSuccessful1failed 503\d+ ms/, 'the one that failed comes first');
  assert.match(rows[0], /\d\d:\d\d:\d\d\.\d{3}\d\d:\d\d:\d\d\.\d{3}$/, 'and says when it is tried again');
  return rows;
}

export async function delivered({ browser, paylog, link, shots }) {
  const receiver = new Receiver();
  await receiver.start();
  await receiver.ask(paylog);
  const visitor = await Visitor.come(browser, link.url, shots);
  const { page } = visitor;
  await visitor.pay('pm_card_visa');
  await visitor.hasSteps('PaymentInProgress', 'PaymentSuccessful');
  await page.locator('#follow-link').click();
  await seesBothAttempts(page);
  assert.deepEqual([...receiver.attempts.values()], [2], 'the receiver was told twice, of one thing');
  assert.ok((await page.locator('#delivery-rows').textContent()).includes(receiver.url), 'whose they are is shown');
  await visitor.isAccessible('a payment that a receiver was told of');
  await visitor.shoot('delivered');
  await visitor.leave();
  await receiver.stop();
  return 'a receiver that failed once and then took it is shown with both attempts';
}
