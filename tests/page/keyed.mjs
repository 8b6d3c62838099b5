// A paylog that lets in nobody without a key: what the page says then, and that with a key everything goes, in a header alone.
import assert from 'node:assert/strict';

import { STEP_MS, Visitor } from './browser.mjs';
import { Receiver, seesBothAttempts } from './delivered.mjs';
import { Link } from './link.mjs';

const CHANNELS = ['SSE', 'WebSocket', 'Polling'];
const DELAYED = ['PaymentInProgress', 'PaymentSuccessful'];

async function enter(visitor, key) {
  const { page } = visitor;
  await page.getByRole('navigation').getByRole('link', { name: 'Key' }).click();
  await page.getByLabel('API key').fill(key);
  await page.keyboard.press('Enter');
}

async function isShutOut(visitor) {
  const { page } = visitor;
  for (const channel of CHANNELS) {
    await visitor.tellBy(channel);
    await visitor.connection('customer', /refused an API key is needed/);
  }
  await page.getByRole('status').filter({ hasText: 'Nobody is let in without a good key. The server says: an API key is needed' }).waitFor({ timeout: STEP_MS });
  await page.getByRole('button', { name: 'Pay', exact: true }).click();
  await page.getByRole('alert').filter({ hasText: 'an API key is needed' }).waitFor({ timeout: STEP_MS });
  await visitor.isAccessible('a page that is not let in');
  await visitor.fits('a page that is not let in');
  await visitor.shoot('shut-out');
}

async function badKeys(visitor, key) {
  const { page } = visitor;
  const says = (text) => page.getByRole('alert').filter({ hasText: text }).waitFor({ timeout: STEP_MS });
  await enter(visitor, 'sk_live_1');
  await says('begins with plk_');
  await enter(visitor, key.slice(0, -1));
  await says('The server does not take it: this is not a whole API key');
  assert.ok(await page.evaluate(() => document.activeElement.matches('#api-key')), 'where it is to be corrected');
  await visitor.isAccessible('a key that is not taken');
  await visitor.shoot('key-not-taken');
}

// Of each channel, over a link that breaks: no ticket is shown twice, so that nothing is refused.
async function channels(visitor, link, paylog) {
  for (const channel of CHANNELS) {
    await visitor.tellBy(channel);
    await visitor.connection('customer', /live/);
    await visitor.pay('pm_sim_delay');
    link.cut();
    await visitor.connection('customer', /reconnecting/);
    link.mend(paylog.url);
    await visitor.hasSteps(...DELAYED);
    await visitor.connection('customer', /live/);
  }
}

async function keptInThisTabAlone(visitor, keys) {
  for (const address of visitor.addresses) assert.ok(!keys.some((key) => address.includes(key)), 'a key is in no address');
  const shown = visitor.addresses.map((address) => new URL(address)).filter(({ searchParams }) => searchParams.has('ticket'));
  assert.equal(new Set(shown.map(({ searchParams }) => searchParams.get('ticket'))).size, shown.length, 'a ticket is shown once');
  for (const path of ['/v1/stream', '/v1/ws']) {
    assert.ok(shown.filter(({ pathname }) => pathname === path).length >= 2, `${path} is opened by a ticket, and after a loss by another`);
  }
  const [local, session, cookies] = await visitor.page.evaluate(() => [JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.cookie]);
  assert.ok(keys.every((key) => session.includes(key) && !local.includes(key) && !cookies.includes(key)), 'keys are kept in this tab alone');
}

export async function keyed({ browser, closed: paylog, shots }) {
  const [merchant, operator] = [paylog.key('--merchant', 'acme'), paylog.key('--for-operators')];
  await paylog.start();
  const [link, receiver] = [new Link(), new Receiver()];
  await link.open();
  link.mend(paylog.url);
  await receiver.start();
  const headers = { authorization: `Bearer ${merchant}` };
  await receiver.ask(paylog, headers);
  const visitor = await Visitor.come(browser, link.url, shots, { isShutOut: true });
  const { page } = visitor;
  await isShutOut(visitor);
  await badKeys(visitor, merchant);

  await enter(visitor, merchant);
  await page.getByRole('heading', { level: 1, name: 'Checkout' }).waitFor({ timeout: STEP_MS });
  Object.assign(visitor, { isShutOut: false, cut: true });
  await channels(visitor, link, paylog);
  assert.ok(await page.locator('#refusal').isHidden(), 'nobody is refused any more');
  await page.locator('#follow-link').click();
  await seesBothAttempts(page);
  visitor.isShutOut = true; // what is for operators
  await visitor.see('Operations');
  await page.getByText("or with an operator's key").waitFor({ timeout: STEP_MS });
  await enter(visitor, operator);
  await page.locator('#version-rows tr').first().waitFor({ timeout: STEP_MS });
  await keptInThisTabAlone(visitor, [merchant, operator]);

  await visitor.see('Checkout');
  await visitor.tellBy('SSE');
  await visitor.connection('customer', /live/);
  await paylog.revoke(merchant, operator);
  await visitor.connection('customer', /refused this API key was revoked/);
  await page.getByRole('status').filter({ hasText: 'this API key was revoked' }).getByRole('link', { name: 'Enter a key' }).click();
  await visitor.isAccessible('the view of the keys');
  await visitor.shoot('keys');
  await page.getByRole('button', { name: `Forget ${merchant.split('_').slice(0, 2).join('_')}` }).click();
  await page.getByRole('button', { name: /^Forget plo_/ }).waitFor({ timeout: STEP_MS });
  assert.equal(await page.locator('#held li').count(), 1, 'what is forgotten is gone');
  assert.ok(!(await page.evaluate(() => JSON.stringify(sessionStorage))).includes(merchant));
  await visitor.leave();
  link.close();
  await receiver.stop();
  await paylog.stop();
  return 'a page that is not let in says so; with a key every channel, deliveries and operations go, and it is in no address';
}
