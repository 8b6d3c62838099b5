// Web Push in a real browser. What a machine without a push service shows: the worker is registered and active, the page asks and
// says what came of it, and a message, delivered to the worker as the browser's push client would, is shown as a notification
// and leads to the payment. With an address of the test's own in place of the browser's: that it is given to paylog, and that the
// worker gives it the next one (`pushsubscriptionchange`, dispatched by the test). What it cannot show: that a push service hands
// a message to this browser, or that the browser changes an address by itself.
import assert from 'node:assert/strict';
import crypto from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { Resident, STEP_MS, Visitor } from './browser.mjs';

const WORKER = '/page/service-worker.js';
const BUTTON = 'Notify this device';

// A push service for a browser whose keys are ours: what it is sent is what a worker would be given, once it is decrypted.
class PushService {
  async open() {
    this.sent = [];
    this.keys = crypto.createECDH('prime256v1');
    this.keys.generateKeys();
    this.auth = crypto.randomBytes(16);
    this.server = http.createServer(async (request, response) => {
      const pieces = [];
      for await (const piece of request) pieces.push(piece);
      response.writeHead(this.refuses ? 429 : 201, this.refuses ? { 'retry-after': '300' } : {}).end();
      this.sent.push(this.decrypt(Buffer.concat(pieces)));
      this.hears?.();
    });
    await new Promise((done) => { this.server.listen(0, '127.0.0.1', done); });
  }

  // Of one of its browsers.
  subscription(number = 1) {
    const endpoint = `http://127.0.0.1:${this.server.address().port}/send/${number}`;
    return { endpoint, expirationTime: null, keys: { p256dh: this.keys.getPublicKey('base64url'), auth: this.auth.toString('base64url') } };
  }

  // RFC 8291 and RFC 8188, of one record.
  decrypt(body) {
    const [salt, sender, sealed] = [body.subarray(0, 16), body.subarray(21, 21 + body[20]), body.subarray(21 + body[20])];
    const derive = (from, with_, info, length) => Buffer.from(crypto.hkdfSync('sha256', from, with_, info, length));
    const info = Buffer.concat([Buffer.from('WebPush: info\0'), this.keys.getPublicKey(), sender]);
    const secret = derive(this.keys.computeSecret(sender), this.auth, info, 32);
    const [key, nonce] = [derive(secret, salt, 'Content-Encoding: aes128gcm\0', 16), derive(secret, salt, 'Content-Encoding: nonce\0', 12)];
    const cipher = crypto.createDecipheriv('aes-128-gcm', key, nonce);
    cipher.setAuthTag(sealed.subarray(-16));
    const plain = Buffer.concat([cipher.update(sealed.subarray(0, -16)), cipher.final()]);
    return plain.subarray(0, plain.lastIndexOf(2)).toString();
  }

  async next() {
    const late = new Error(`nothing came in ${STEP_MS} ms`);
    while (this.sent.length === 0) {
      await new Promise((heard, failed) => {
        const timer = setTimeout(() => failed(late), STEP_MS);
        this.hears = () => { clearTimeout(timer); heard(); };
      });
    }
    return this.sent.shift();
  }
}

// In place of the browser's own, which it cannot have here. Says so if it is thrown away.
function standIn(json) {
  PushManager.prototype.getSubscription = async () => {
    const { application_server_key: key } = await (await fetch('/v1/push')).json();
    const bytes = Uint8Array.from(atob(key.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
    return { options: { applicationServerKey: bytes.buffer }, toJSON: () => json, unsubscribe: async () => { globalThis.thrownAway = true; } };
  };
}

const standsIn = ({ page }, subscription) => page.evaluate(standIn, subscription);

// The browser has another address, and no page says so: what the server answered to the worker.
async function moves(worker, subscription) {
  return worker.evaluate(async (json) => {
    const event = new ExtendableEvent('pushsubscriptionchange');
    Object.defineProperty(event, 'newSubscription', { value: { toJSON: () => json } });
    const ask = self.fetch;
    const answered = new Promise((done, failed) => {
      self.fetch = async (...asked) => {
        const answer = await ask.apply(self, asked).catch((error) => { failed(error); throw error; });
        done(answer.status);
        return answer;
      };
    });
    self.dispatchEvent(event);
    return answered.finally(() => { self.fetch = ask; });
  }, subscription);
}

// The worker tells the server, and what the payment comes to goes to both. A payment that has ended before is no place to move to.
async function isFollowedToAnotherAddress(visitor, tries = 5) {
  const { page } = visitor;
  const [first, second] = [new PushService(), new PushService()];
  await Promise.all([first.open(), second.open()]);
  await standsIn(visitor, first.subscription());
  await visitor.pay('pm_sim_delay');
  await page.locator('#follow-push').getByRole('button', { name: BUTTON }).click();
  await page.locator('#follow-push .note').filter({ hasText: 'will be notified' }).waitFor({ timeout: STEP_MS });
  const [worker] = page.context().serviceWorkers();
  const answered = await moves(worker, second.subscription());
  if (answered === 409 && tries > 1) {
    [first, second].forEach(({ server }) => server.close());
    await isFollowedToAnotherAddress(visitor, tries - 1);
    return;
  }
  assert.equal(answered, 201);
  const told = [JSON.parse(await first.next()), JSON.parse(await second.next())];
  assert.deepEqual(told.map(({ type }) => type), ['PaymentSuccessful', 'PaymentSuccessful']);
  assert.equal(told[0].id, told[1].id, 'of the same payment');
  await page.locator('#follow-link').click();
  const rows = page.getByRole('region', { name: 'Webhook and push deliveries' }).getByRole('row', { name: /^a browser.*PaymentSuccessful 1 delivered 201/ });
  await rows.nth(1).waitFor({ timeout: STEP_MS });
  assert.ok(!(await rows.allTextContents()).join().includes('/send/'), 'no more of it than its origin');
  await visitor.see('Checkout');
  [first, second].forEach(({ server }) => server.close());
}

// Where a key is needed the worker asks in vain, and the page, opened again, asks with its own.
async function isFollowedByThePageWhereAKeyIsNeeded(directory, closed, shots) {
  const resident = new Resident(path.join(directory, 'keyed'));
  const key = closed.key('--merchant', 'pushes');
  await closed.start();
  const [first, second] = [new PushService(), new PushService()];
  await Promise.all([first.open(), second.open()]);
  const visitor = await Visitor.come(resident, closed.url, shots, { permissions: ['notifications'], isShutOut: true });
  const { page } = visitor;
  await page.getByRole('navigation').getByRole('link', { name: 'Key' }).click();
  await page.getByLabel('API key').fill(key);
  await Promise.all([page.waitForEvent('load'), page.keyboard.press('Enter')]);
  await standsIn(visitor, first.subscription());
  await visitor.pay('pm_sim_unavailable');
  await page.locator('#follow-push').getByRole('button', { name: BUTTON }).click();
  await page.locator('#follow-push .note').filter({ hasText: 'will be notified' }).waitFor({ timeout: STEP_MS });
  const subscribed = async () => {
    const answer = await fetch(`${closed.url}/v1/push_subscriptions`, { headers: { authorization: `Bearer ${key}` } });
    return (await answer.json()).data;
  };
  const worker = page.context().serviceWorkers().find((one) => one.url().startsWith(closed.url));
  assert.equal(await moves(worker, second.subscription()), 401);
  assert.equal((await subscribed()).length, 1);
  await page.addInitScript(standIn, second.subscription());
  const asked = page.waitForResponse((answer) => answer.url().includes('/v1/push_subscriptions') && answer.request().method() === 'POST', { timeout: STEP_MS });
  await page.reload();
  assert.equal((await asked).status(), 201);
  const [one, other] = await subscribed();
  assert.equal(one.payment_id, other.payment_id, 'of the same payment');
  await visitor.leave();
  await resident.close();
  [first, second].forEach(({ server }) => server.close());
  await closed.stop();
}

// One that was to be told, and was over before it was tried: it is shown, and the rest of the page's rows with it.
async function isShownThoughItWasNeverTried(visitor, paylog) {
  const [refusing, taking] = [new PushService(), new PushService()];
  await Promise.all([refusing.open(), taking.open()]);
  refusing.refuses = true;
  const subscribe = (browser, customer) => post(paylog, '/v1/push_subscriptions', { ...browser, customer_id: customer });
  const pay = (customer) => post(paylog, '/v1/payments', { amount: 1999, currency: 'EUR', customer_id: customer, payment_method: 'pm_card_visa' }, { 'idempotency-key': customer });
  const until = async (path, holds) => {
    for (const deadline = Date.now() + STEP_MS; ;) {
      const { data } = await (await fetch(`${paylog.url}${path}`)).json();
      if (holds(data)) return;
      assert.ok(Date.now() < deadline, `${path} is not what it should be: ${JSON.stringify(data)}`);
    }
  };
  const { id: refused } = await subscribe(refusing.subscription(1), 'cus_refused');
  await pay('cus_refused');
  await until(`/v1/push_subscriptions/${refused}/attempts`, (attempts) => attempts.length === 1); // its service is left alone now
  const { id: subscription } = await subscribe(refusing.subscription(2), 'cus_never');
  await subscribe(taking.subscription(), 'cus_never');
  const { id } = await pay('cus_never');
  await taking.next(); // who tells one of them knows that the other was to be told too
  const stands = (state) => until(`/v1/payments/${id}/pushes`, (told) => told.some((one) => one.subscription === subscription && one.state === state && one.attempts === 0));
  await stands('pending');
  await fetch(`${paylog.url}/v1/push_subscriptions/${subscription}`, { method: 'DELETE' });
  await stands('dropped');
  const { page } = visitor;
  await page.evaluate((to) => { location.hash = `#/payments/${to}`; }, id);
  const rows = page.getByRole('region', { name: 'Webhook and push deliveries' });
  await rows.getByRole('row', { name: /^a browser PaymentSuccessful 0 dropped/ }).waitFor({ timeout: STEP_MS });
  await visitor.see('Checkout');
  [refusing, taking].forEach(({ server }) => server.close());
}

// The server says that it has another key, and then cannot be asked for it: that is said, and what the browser has is kept.
async function whatCannotBeAskedThrowsNothingAway(visitor) {
  const { page } = visitor;
  const service = new PushService();
  await service.open();
  await visitor.pay('pm_sim_unavailable');
  const button = page.locator('#follow-push').getByRole('button', { name: BUTTON });
  await button.waitFor({ timeout: STEP_MS });
  await standsIn(visitor, service.subscription());
  const problem = { type: 'about:blank', code: 'other_application_server_key', status: 409, detail: 'with another key' };
  await page.route('**/v1/push_subscriptions*', (route) => route.fulfill({ status: 409, contentType: 'application/problem+json', body: JSON.stringify(problem) }));
  visitor.expected.push(/\b409\b/);
  await button.click();
  await page.locator('#follow-push .note').filter({ hasText: 'another key' }).waitFor({ timeout: STEP_MS });
  await page.route('**/v1/push', (route) => route.abort());
  visitor.expected.push(/net::ERR_FAILED/);
  await button.click();
  await page.locator('#follow-push .note').filter({ hasText: 'The server cannot be reached' }).waitFor({ timeout: STEP_MS });
  assert.equal(await page.evaluate(() => globalThis.thrownAway), undefined, 'the subscription is for other payments too');
  await page.unroute('**/v1/push');
  await page.unroute('**/v1/push_subscriptions*');
  service.server.close();
  assert.deepEqual(visitor.expected, [], 'each of the two was said once');
}

async function post(paylog, path, body, headers = {}) {
  const answer = await fetch(`${paylog.url}${path}`, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
  assert.ok(answer.ok, `${path}: ${answer.status}`);
  return answer.json();
}

// What paylog sends to a browser about a payment of its own.
async function whatIsSent(paylog) {
  const service = new PushService();
  await service.open();
  const asked = { amount: 1999, currency: 'EUR', customer_id: 'cus_push', payment_method: 'pm_sim_delay' };
  const { id } = await post(paylog, '/v1/payments', asked, { 'idempotency-key': 'push-1' });
  await post(paylog, '/v1/push_subscriptions', { ...service.subscription(), payment_id: id });
  const message = await service.next();
  service.server.close();
  return { id, message };
}

// The registration as the browser's own tools see it.
async function registrationOf(visitor, version) {
  const cdp = await visitor.page.context().newCDPSession(visitor.page);
  const found = new Promise((registered) => {
    cdp.on('ServiceWorker.workerVersionUpdated', ({ versions }) => {
      const active = versions.find(({ status, scriptURL }) => status === version && scriptURL.endsWith(WORKER));
      if (active) registered(active.registrationId);
    });
  });
  await cdp.send('ServiceWorker.enable');
  return { cdp, found };
}

// What the page says of it is what the browser says: without a way to a push service it waits, or gives up.
async function subscribesAsFarAsItCan(visitor) {
  const { page } = visitor;
  await visitor.pay('pm_sim_unavailable');
  const button = page.locator('#follow-push').getByRole('button', { name: BUTTON });
  await button.waitFor({ timeout: STEP_MS });
  await visitor.isAccessible('a payment that a device can be notified of');
  await visitor.shoot('push-offered');
  await button.click();
  const said = page.locator('#follow-push .note').filter({ hasText: /does not answer yet|cannot be reached|will be notified/ });
  await said.waitFor({ timeout: STEP_MS });
  await visitor.isAccessible('a payment for which a browser was asked');
  await visitor.shoot('push-asked');
  return said.textContent();
}

async function isOfferedAsLongAsThereIsSomethingToTell(visitor) {
  const { page } = visitor;
  await visitor.pay('pm_sim_delay');
  await page.locator('#follow-push').getByRole('button', { name: BUTTON }).waitFor({ timeout: STEP_MS });
  await page.locator('#follow-link').click();
  await page.locator('#payment-push').getByRole('button', { name: BUTTON }).waitFor({ timeout: STEP_MS });
  await page.locator('#payment-badge').filter({ hasText: 'successful' }).waitFor({ timeout: STEP_MS });
  await page.locator('#payment-push').waitFor({ state: 'hidden', timeout: STEP_MS });
  await visitor.see('Checkout');
  await page.locator('#follow-push').waitFor({ state: 'hidden', timeout: STEP_MS });
}

// Who has said no is told where to say yes.
async function isExplainedWhereItIsDenied(link, shots, resident) {
  const visitor = await Visitor.come(resident, link.url, shots);
  const { page } = visitor;
  await page.evaluate(() => Object.defineProperty(Notification, 'permission', { get: () => 'denied' }));
  await visitor.pay('pm_sim_unavailable');
  await page.locator('#follow-push .note').filter({ hasText: 'Notifications are blocked' }).waitFor({ timeout: STEP_MS });
  assert.ok(await page.locator('#follow-push button').isHidden());
  await visitor.leave();
}

export async function push({ browser, paylog, closed, link, shots }) {
  const { id, message } = await whatIsSent(paylog);
  // Not incognito, where a browser subscribes to nothing.
  const directory = mkdtempSync(path.join(tmpdir(), 'paylog-push-'));
  const resident = new Resident(directory);
  try {
    const visitor = await Visitor.come(resident, link.url, shots, { permissions: ['notifications'] });
    const { cdp, found } = await registrationOf(visitor, 'activated');
    const asked = await subscribesAsFarAsItCan(visitor);
    const deliver = { origin: link.url, registrationId: await found };
    await isActive(visitor);
    for (const data of [message, message, 'no JSON']) await cdp.send('ServiceWorker.deliverPushMessage', { ...deliver, data });
    await isShown(visitor, id);
    await clickLeadsTo(visitor, id);
    await visitor.see('Checkout');
    await isOfferedAsLongAsThereIsSomethingToTell(visitor);
    await isFollowedToAnotherAddress(visitor);
    await whatCannotBeAskedThrowsNothingAway(visitor);
    await isShownThoughItWasNeverTried(visitor, paylog);
    await visitor.leave();
    await isFollowedByThePageWhereAKeyIsNeeded(directory, closed, shots);
    await isExplainedWhereItIsDenied(link, shots, browser);
    return `the worker is active, shows once what paylog sends, and follows the browser to another address; the page said of the browser's own push service: "${asked}"`;
  } finally {
    await resident.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function isActive({ page }) {
  const state = await page.evaluate(async () => {
    const { active, scope } = await navigator.serviceWorker.ready;
    return [active.state, new URL(scope).pathname, new URL(active.scriptURL).pathname];
  });
  assert.deepEqual(state, ['activated', '/', WORKER]);
}

async function isShown({ page }, id) {
  // In one look: while one takes the place of another there may be none of it.
  const found = await page.waitForFunction(async (payment) => {
    const all = await (await navigator.serviceWorker.ready).getNotifications();
    const shown = Object.fromEntries(all.map(({ title, body, tag, data }) => [tag, { title, body, data }]));
    return all.length === 2 && shown[payment] && shown.paylog && shown;
  }, id, { timeout: STEP_MS });
  const shown = await found.jsonValue();
  const { [id]: told, paylog: unread } = shown;
  assert.deepEqual([told.title, told.data], ['Payment successful', { payment: id }], 'once, though it came twice');
  assert.match(told.body, /19[.,]99/);
  assert.deepEqual([unread.title, unread.data], ['A payment has changed', {}], 'what cannot be read is shown all the same');
}

// A click on a notification is the system's; what the worker makes of it is asked in the worker.
async function clickLeadsTo(visitor, id) {
  const { page } = visitor;
  const [worker] = page.context().serviceWorkers();
  await worker.evaluate(async (payment) => {
    const [notification] = await self.registration.getNotifications({ tag: payment });
    self.dispatchEvent(new NotificationEvent('notificationclick', { notification }));
  }, id);
  await page.getByRole('heading', { level: 1, name: `Payment ${id}` }).waitFor({ timeout: STEP_MS });
}
