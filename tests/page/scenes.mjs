// What people do with the page. Each scene is a visitor of its own, and answers what it has shown.
import assert from 'node:assert/strict';

import { STEP_MS, Visitor } from './browser.mjs';

const DELAYED = ['PaymentInProgress', 'PaymentSuccessful'];
const TRANSIENT = ['PaymentInProgress', 'PaymentRetryScheduled', 'PaymentSuccessful'];
const CHANNELS = ['SSE', 'WebSocket', 'Polling'];

export async function checkout({ browser, link, shots }) {
  const visitor = await Visitor.come(browser, link.url, shots);
  const { page } = visitor;
  await visitor.pay('pm_card_visa');
  await visitor.hasSteps('PaymentInProgress', 'PaymentSuccessful');
  await visitor.pay('pm_card_visa_chargeDeclined');
  await visitor.hasSteps('PaymentInProgress', 'PaymentFailed');
  await page.getByLabel('when there is a result').check();
  await visitor.pay('pm_card_visa');
  await page.getByText(/^200 after .* with the result: successful/).waitFor({ timeout: STEP_MS });
  await page.getByLabel('at once').check();
  await visitor.pay('pm_sim_transient');
  await page.getByText(/^202 after .* the result is to come/).waitFor({ timeout: STEP_MS });
  await visitor.hasSteps(...TRANSIENT);
  assert.equal(await page.locator('#rows tr').count(), 4, 'the list of payments is live');
  await page.getByLabel('Amount').fill('1.999');
  await page.getByRole('button', { name: 'Pay', exact: true }).click();
  await page.getByText('at most 2 digits after the point').waitFor({ timeout: STEP_MS });
  await page.getByLabel('Amount').fill('19.99');
  await visitor.isAccessible('the checkout with a mistake in it');
  await visitor.shoot('checkout');
  await visitor.leave();
  return '4 payments seen to their end, paid for in both manners';
}

export async function channels({ browser, link, shots }) {
  const visitor = await Visitor.come(browser, link.url, shots);
  for (const channel of CHANNELS) {
    await visitor.tellBy(channel);
    await visitor.pay('pm_sim_transient');
    await visitor.hasSteps(...TRANSIENT);
    await visitor.shoot(`by-${channel.toLowerCase()}`);
  }
  // From one to the next with one payment: each goes on where the one before had come to.
  await visitor.tellBy('SSE');
  await visitor.pay('pm_sim_transient');
  for (const channel of ['WebSocket', 'Polling']) {
    await visitor.connection('payment', /cursor/);
    await visitor.tellBy(channel);
  }
  await visitor.hasSteps(...TRANSIENT);
  assert.equal(await visitor.page.locator('#rows tr').count(), 4, 'the list has each of them once');
  await visitor.leave();
  return `${CHANNELS.join(', ')} tell the same steps, and one goes on where the other was`;
}

export async function reconnects({ browser, paylog, link, shots }) {
  const visitor = await Visitor.come(browser, link.url, shots);
  visitor.cut = true;
  for (const channel of CHANNELS) {
    await visitor.tellBy(channel);
    await visitor.connection('customer', /live/);
    await visitor.pay('pm_sim_delay');
    link.cut();
    await visitor.connection('customer', /reconnecting since .*, lost/);
    if (channel === 'SSE') await visitor.shoot('reconnecting');
    link.mend(paylog.url);
    await visitor.hasSteps(...DELAYED);
    await visitor.connection('customer', /live since .*, reconnected (once|\d times), last lost at/);
  }
  await visitor.connection('customer', /reconnected 3 times/);
  for (const channel of CHANNELS) {
    await visitor.tellBy(channel);
    await visitor.connection('customer', /live/);
    await visitor.pay('pm_sim_delay');
    await paylog.stop();
    link.cut();
    await visitor.connection('customer', /reconnecting/);
    await paylog.start();
    link.mend(paylog.url);
    await visitor.hasSteps(...DELAYED);
    await visitor.connection('customer', /live/);
  }
  assert.equal(await visitor.page.locator('#rows tr').count(), 6, 'each payment once');
  await visitor.shoot('reconnected');
  await visitor.leave();
  return 'a link that was cut and a server that was restarted, by each channel: every step once, every loss counted';
}

export async function timeline({ browser, link, shots }) {
  const visitor = await Visitor.come(browser, link.url, shots);
  const { page } = visitor;
  await visitor.pay('pm_sim_transient');
  await page.locator('#follow-link').click();
  const steps = page.getByRole('list', { name: 'Timeline' }).getByRole('listitem');
  await steps.filter({ hasText: 'PaymentSuccessful' }).waitFor({ timeout: STEP_MS });
  const told = await steps.allTextContents();
  assert.equal(told.length, TRANSIENT.length);
  told.forEach((text, i) => {
    assert.match(text, new RegExp(`^${TRANSIENT[i]}`));
    assert.match(text, /partition \d+, offset \d+/);
    assert.match(text, /happened \d\d:\d\d:\d\d\.\d{3}.*on the log \d\d:\d\d:\d\d\.\d{3}/);
  });
  await page.getByRole('row', { name: /^1 not charged/ }).waitFor({ timeout: STEP_MS });
  await page.getByRole('row', { name: /^3 successful/ }).waitFor({ timeout: STEP_MS });
  await visitor.isAccessible('a payment');
  await visitor.shoot('payment');
  const id = new URL(page.url()).hash;
  await page.goto(`${link.url}/${id.slice(0, -1)}`);
  await page.getByText(/no such payment/).waitFor({ timeout: STEP_MS });
  await page.goBack();
  await steps.filter({ hasText: 'PaymentSuccessful' }).waitFor({ timeout: STEP_MS });
  visitor.complaints = visitor.complaints.filter((text) => !text.includes('404')); // it was asked for what is not there
  await visitor.leave();
  return 'a payment has its timeline, with offsets and times, and its attempts';
}

export async function operations({ browser, paylog, link, shots }) {
  const visitor = await Visitor.come(browser, link.url, shots);
  const { page } = visitor;
  await visitor.see('Operations');
  const tile = (name, value) => page.locator('#tiles div').filter({ has: page.getByText(name, { exact: true }) }).locator('dd').filter({ hasText: value }).waitFor({ timeout: STEP_MS });
  await tile('Dead letters', /^0$/);
  await paylog.payMany(1500);
  await tile('In / s', /^[1-9]/);
  await tile('Out / s', /^[1-9]/);
  await tile('p50', /\d (ms|s)$/);
  await tile('p99', /\d (ms|s)$/);
  await tile('Open', /^\d/);
  for (const chart of ['Payments a second', 'Open payments', 'Time to a result', 'Offsets behind the log']) {
    await page.getByRole('img', { name: new RegExp(`^${chart}, now: .* \\d`) }).locator('canvas').waitFor({ timeout: STEP_MS });
  }
  assert.equal(await page.locator('#lags li').filter({ hasText: /^Partition \d+\s+\d/ }).count(), 12, 'a lag for each partition');
  await paylog.rebuild();
  const built = page.getByRole('progressbar', { name: /Rebuild of payments@/ });
  await built.waitFor({ timeout: STEP_MS });
  await page.waitForFunction(() => document.querySelector('progress')?.value > 0, null, { timeout: STEP_MS });
  await visitor.isAccessible('operations with a rebuild under way');
  await visitor.shoot('operations-rebuild');
  await page.getByRole('row', { name: /payments@\d+\.\d+ verified/ }).waitFor({ timeout: 4 * STEP_MS });
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.locator('#reading').filter({ hasText: 'paused' }).waitFor({ timeout: STEP_MS });
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.locator('#reading').filter({ hasText: 'live' }).waitFor({ timeout: STEP_MS });
  await visitor.shoot('operations');
  await visitor.leave();
  return 'operations is live, and a version of the projection was seen to be built';
}

export async function keyboard({ browser, link, shots }) {
  const visitor = await Visitor.come(browser, link.url, shots);
  const { page } = visitor;
  const has = (what) => page.evaluate((selector) => document.activeElement.matches(selector), what);
  await page.keyboard.press('Tab');
  assert.ok(await has('.skip'), 'the first stop leads past everything');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Tab');
  assert.ok(await has('#amount'), 'behind it the form begins');
  for (const stop of ['#currency', '#customer', '#method', '[name=manner]', '#submit']) {
    await page.keyboard.press('Tab');
    assert.ok(await has(stop), stop);
  }
  await page.keyboard.press('Tab');
  assert.ok(await has('[name=channel]:checked'), 'one stop for all channels');
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement.nextElementSibling).outlineStyle);
  assert.equal(outline, 'solid', 'where the focus is can be seen');
  await page.keyboard.press('ArrowRight');
  assert.ok(await has('[value=websocket]:checked'), 'chosen with the arrows');
  await page.locator('#amount').focus();
  await page.keyboard.press('Enter');
  await visitor.hasSteps('PaymentInProgress', 'PaymentSuccessful');
  await page.locator('#follow-link').focus();
  await page.keyboard.press('Enter');
  await page.locator('#payment-title').waitFor({ timeout: STEP_MS });
  assert.ok(await has('#payment-title'), 'another view is announced');
  await visitor.leave();
  return 'everything is done with the keyboard alone';
}
