// The page of the API: every operation, channel and shape of the two files, found, opened by a link, read with a keyboard and
// on a phone; nothing from elsewhere, and axe-core finds nothing in it.
import assert from 'node:assert/strict';

import { STEP_MS, Visitor } from './browser.mjs';

const SCREENS = [
  { name: 'desk', colorScheme: 'light', viewport: { width: 1280, height: 900 } },
  { name: 'phone', colorScheme: 'dark', viewport: { width: 320, height: 844 }, hasTouch: true, isMobile: true },
];

async function described(url) {
  const read = async (path) => (await fetch(`${url}${path}`)).json();
  const [openapi, asyncapi] = [await read('/openapi.json'), await read('/asyncapi.json')];
  const operations = Object.values(openapi.paths).flatMap((item) => Object.values(item)).map(({ operationId }) => operationId);
  const webhooks = Object.keys(openapi.webhooks).map((name) => `webhook-${name}`);
  const channels = Object.keys(asyncapi.channels).map((name) => `channel-${name}`);
  const schemas = { ...openapi.components.schemas, ...asyncapi.components.schemas };
  return [...operations, ...webhooks, ...channels, ...Object.keys(schemas).map((name) => `shape-${name}`)];
}

async function isWhole(page, url) {
  const shown = await page.locator('.described > details').evaluateAll((all) => all.map(({ id }) => id));
  assert.deepEqual(shown.toSorted(), (await described(url)).toSorted(), 'each is there once');
  const links = await page.locator('.described a[href^="#shape-"]').evaluateAll((all) => [...new Set(all.map((one) => one.hash.slice(1)))]);
  assert.deepEqual(links.filter((id) => !shown.includes(id)), [], 'no link leads nowhere');
}

async function isFound(page) {
  await page.getByRole('searchbox').fill('idempotency_key_reused 202');
  await page.locator('#found').filter({ hasText: '2 found' }).waitFor({ timeout: STEP_MS });
  assert.ok(await page.locator('#createPayment').isVisible() && await page.locator('#getTotals').isHidden());
  // A link to what is not among them shows all again.
  await page.locator('#createPayment > summary').click();
  await page.locator('#createPayment a[href="#shape-Payment"]').first().click();
  await page.locator('#shape-Payment[open]').getByText('payment_method').first().waitFor({ timeout: STEP_MS });
  assert.equal(await page.evaluate(() => document.activeElement.parentElement.id), 'shape-Payment');
}

export async function docs({ browser, paylog, shots }) {
  let parts = 0;
  for (const { name, ...options } of SCREENS) {
    const visitor = await Visitor.come(browser, paylog.url, shots, { ...options, reducedMotion: 'reduce' });
    const { page } = visitor;
    await page.getByRole('navigation').getByRole('link', { name: 'API' }).click();
    await page.locator('.described > details').first().waitFor({ timeout: STEP_MS });
    await isWhole(page, paylog.url);
    await isFound(page);
    await visitor.fits(`docs (${name})`);
    await visitor.shoot(`docs-${name}-${options.colorScheme}`);
    await visitor.isAccessible(`docs (${name}, ${options.colorScheme})`);
    // All of it, open; which takes axe-core a while, and says the same of every screen.
    parts = await page.locator('details').evaluateAll((all) => all.map((one) => { one.open = true; return one; }).length);
    await visitor.fits(`docs, open (${name})`);
    if (name === 'desk') await visitor.isAccessible(`docs, open (${name})`);
    await visitor.leave();
  }
  return `the API is described in ${parts} parts, every link leads somewhere, and axe-core finds nothing in them`;
}
