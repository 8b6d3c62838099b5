// The page, as people use it, in a real browser, with a paylog of its own, over a link that is cut.
// node tests/page/page.mjs PAYLOG [SCREENSHOTS [SCENE...]]; needs playwright-core and axe-core (in PAGE_MODULES or beside it) and Chromium.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { launch } from './browser.mjs';
import { delivered } from './delivered.mjs';
import { docs } from './docs.mjs';
import { elsewhere } from './elsewhere.mjs';
import { keyed } from './keyed.mjs';
import { later } from './later.mjs';
import { Link } from './link.mjs';
import { looks } from './looks.mjs';
import { modules } from './modules.mjs';
import { Paylog } from './paylog.mjs';
import { push } from './push.mjs';
import { channels, checkout, keyboard, operations, reconnects, timeline } from './scenes.mjs';
import { told } from './told.mjs';

const [binary, shots, ...asked] = process.argv.slice(2);
if (!binary) throw new Error('which paylog? node tests/page/page.mjs PAYLOG [SCREENSHOTS]');
if (shots) mkdirSync(shots, { recursive: true });

const directory = mkdtempSync(path.join(tmpdir(), 'paylog-page-'));
const webhooks = ['--allow-private-webhooks', '--webhook-retry-ms', '400,400'];
const [paylog, link] = [new Paylog(binary, path.join(directory, 'data'), webhooks), new Link()];
const closed = new Paylog(binary, path.join(directory, 'closed'), ['--require-keys', ...webhooks]);
const foreign = new Paylog(binary, path.join(directory, 'foreign'), ['--require-keys']);
await paylog.start();
await link.open();
link.mend(paylog.url);
const browser = await launch();
try {
  for (const scene of [modules, later, checkout, channels, reconnects, timeline, operations, told, push, delivered, keyed, elsewhere, keyboard, looks, docs]) {
    if (asked.length > 0 && !asked.includes(scene.name)) continue;
    const began = Date.now();
    const shown = await scene({ browser, paylog, closed, foreign, link, shots });
    console.log(`page: ${shown} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  }
} finally {
  await browser.close();
  link.close();
  await paylog.stop();
  await closed.stop();
  await foreign.stop();
  rmSync(directory, { recursive: true, force: true });
}
