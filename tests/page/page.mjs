// The page, as a person uses it, in a real browser: pay with a click, see each step arrive, see a decline.
// node tests/page/page.mjs URL [SCREENSHOT]; needs playwright-core (NODE_PATH or beside it) and Chromium.
import { createRequire } from 'node:module';
import assert from 'node:assert/strict';

const require = createRequire(process.env.PAGE_MODULES ? `${process.env.PAGE_MODULES}/` : import.meta.url);
const { chromium } = require('playwright-core');
const [url, screenshot] = process.argv.slice(2);
const STEP_MS = 30_000;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update',
    '--disable-sync', '--no-first-run'],
});
try {
  const page = await browser.newPage();
  const complaints = [];
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  const foreign = [];
  page.on('request', (request) => request.url().startsWith(url) || foreign.push(request.url()));
  await page.goto(url);

  const pay = async (method, ...steps) => {
    await page.locator(`select:has(option[value=${method}])`).selectOption(method);
    await page.getByRole('button', { name: 'Pay', exact: true }).click();
    for (const step of steps) {
      await page.getByText(step, { exact: true }).first().waitFor({ timeout: STEP_MS });
    }
  };
  await pay('pm_card_visa', 'PaymentInProgress', 'PaymentSuccessful');
  await pay('pm_card_visa_chargeDeclined', 'PaymentInProgress', 'PaymentFailed');
  await pay('pm_sim_transient', 'PaymentInProgress', 'PaymentRetryScheduled', 'PaymentSuccessful');

  const rows = page.locator('#rows tr');
  assert.equal(await rows.count(), 3, 'the list of payments is live');
  const begun = await fetch(`${url}/v1/operator/projections/payments/rebuild`,
    { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{}' });
  assert.equal(begun.status, 202, 'a version is built beside the one that is served');
  await page.getByRole('row', { name: /payments@\d+\.2 verified/ }).waitFor({ timeout: STEP_MS });
  if (screenshot) await page.screenshot({ path: screenshot, fullPage: true });
  assert.deepEqual(complaints, [], 'the browser has nothing to say, its content security policy included');
  assert.deepEqual(foreign, [], 'nothing comes from elsewhere');
  console.log('page: 3 payments seen to their end, and a version of the projection');
} finally {
  await browser.close();
}
