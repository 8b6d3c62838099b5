// A page as a person has it, and everything that a browser would complain of.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import assert from 'node:assert/strict';

const require = createRequire(process.env.PAGE_MODULES ? `${process.env.PAGE_MODULES}/` : import.meta.url);
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

export const STEP_MS = 30_000;

const SETTINGS = {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update',
    '--disable-sync', '--no-first-run'],
};

export async function launch() {
  return chromium.launch(SETTINGS);
}

// A browser that keeps what it knows in a directory, as people have it, and so is not incognito.
export class Resident {
  constructor(directory) {
    this.directory = directory;
  }

  async newPage(options) {
    this.context = await chromium.launchPersistentContext(this.directory, { ...SETTINGS, ...options });
    return this.context.newPage();
  }

  async close() {
    await this.context?.close();
  }
}

export class Visitor {
  static async come(browser, url, shots, { isShutOut = false, ...options } = {}) {
    const visitor = new Visitor();
    Object.assign(visitor, { url, shots, complaints: [], expected: [], foreign: [], addresses: [], cut: false, isShutOut, taken: 0 });
    const page = await browser.newPage({ viewport: { width: 1200, height: 900 }, ...options });
    page.on('console', (message) => ['error', 'warning'].includes(message.type()) && visitor.hear(message));
    page.on('pageerror', (error) => visitor.complaints.push(String(error)));
    page.on('request', (request) => {
      visitor.addresses.push(request.url());
      if (!request.url().startsWith(url)) visitor.foreign.push(request.url());
    });
    page.on('websocket', (socket) => visitor.addresses.push(socket.url()));
    visitor.page = page;
    await page.goto(url);
    return visitor;
  }

  // A browser says of every request that fails that it failed.
  hear(message) {
    const text = message.text();
    const isLost = this.cut && /net::ERR_|WebSocket connection to|503/.test(text);
    const isRefused = this.isShutOut && /\b401\b|HTTP Authentication failed/.test(text);
    const at = this.expected.findIndex((pattern) => pattern.test(text));
    if (at >= 0) this.expected.splice(at, 1);
    else if (!isLost && !isRefused) this.complaints.push(text);
  }

  async see(view) {
    await this.page.getByRole('navigation').getByRole('link', { name: view }).click();
    await this.page.getByRole('heading', { level: 1, name: view }).waitFor({ timeout: STEP_MS });
  }

  async tellBy(channel) {
    await this.page.getByRole('radio', { name: channel, exact: true }).check();
  }

  async pay(method) {
    await this.page.getByLabel('Test token').selectOption(method);
    await this.page.getByRole('button', { name: 'Pay', exact: true }).click();
    await this.page.locator('#answered').filter({ hasText: /after/ }).waitFor({ timeout: STEP_MS });
  }

  // Exactly these, in this order, and no more once the payment has ended.
  async hasSteps(...steps) {
    const shown = this.page.locator('#steps strong');
    await shown.filter({ hasText: steps.at(-1) }).first().waitFor({ timeout: STEP_MS });
    await this.connection('payment', /all was told/);
    assert.deepEqual(await shown.allTextContents(), steps);
  }

  async connection(of, says) {
    await this.page.locator(`#${of}-connection dd`).filter({ hasText: says }).waitFor({ timeout: STEP_MS });
  }

  async shoot(name) {
    this.taken += 1;
    if (this.shots) await this.page.screenshot({ path: path.join(this.shots, `${name}.png`), fullPage: true });
  }

  // What axe-core finds against WCAG 2.2 AA and good practice.
  async isAccessible(what) {
    await this.page.evaluate(axe);
    // What is still fading in has less contrast.
    await this.page.evaluate(() => Promise.all(document.getAnimations().map((animation) => animation.finished)));
    const { violations } = await this.page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
    const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map((node) => `${node.target}: ${node.failureSummary}`).join('; ')}`);
    assert.deepEqual(found, [], `axe-core finds nothing in ${what}`);
  }

  // Nothing is wider than the screen, so that a page is read downwards alone.
  async fits(what) {
    const [width, there] = await this.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(width <= there, `${what} is ${width} wide on a screen of ${there}`);
  }

  async leave() {
    assert.deepEqual(this.complaints, [], 'the browser has nothing to say, its content security policy included');
    assert.deepEqual(this.foreign, [], 'nothing comes from elsewhere');
    await this.page.close();
  }
}
