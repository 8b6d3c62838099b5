// When the page comes back, and when it does not: its own modules, in the browser, with a server, streams and a clock of ours.
import assert from 'node:assert/strict';

import { Visitor } from './browser.mjs';

// In the browser: what is told, and the milliseconds that are waited for before each stream.
async function streams({ by, ends, key, wish, answers }) {
  const [told, waits, asked, sources] = [[], [], [], []];
  const mine = { fetch: window.fetch, setTimeout: window.setTimeout, EventSource: window.EventSource, WebSocket: window.WebSocket };
  const until = async (fact) => {
    for (let turns = 0; turns < 2000 && !fact(); turns += 1) await new Promise((done) => { mine.setTimeout.call(window, done, 1); });
    if (!fact()) throw new Error(`waited in vain: ${JSON.stringify({ told, waits, asked })}`);
  };
  const { hold } = await import('/page/keys.js');
  const open = { sse: (await import('/page/sse.js')).openSse, ws: (await import('/page/websocket.js')).openWebSocket }[by];
  window.fetch = async (path) => {
    asked.push(path);
    const known = Object.entries(answers).find(([start]) => path.startsWith(start));
    const [status, body] = known ? known[1] : [201, { token: 't', ticket: 't', expires_at: '2999-01-01T00:00:00Z' }];
    return new Response(JSON.stringify(body), { status });
  };
  window.setTimeout = (then, ms) => { waits.push(ms); then(); };
  window.EventSource = class extends EventTarget {
    static CLOSED = 2;

    constructor() { super(); this.readyState = 0; sources.push(this); }

    close() { this.readyState = 2; }
  };
  window.WebSocket = class {
    static OPEN = 1;

    constructor() { this.readyState = 0; sources.push(this); }

    send(text) { asked.push(text); }

    // As a handshake that is refused; nothing else is asked of it here.
    onerror() { this.onclose(); }

    close() {}
  };
  hold('merchant', key);
  const opened = open(wish, { becomes: (...what) => told.push(what), stands() {}, hears() {} });
  for (const [n, end] of ends.entries()) {
    await until(() => sources.length > n);
    const source = sources[n];
    if (end === 'behind') source.readyState = 1;
    if (end !== 'refused') source.onopen();
    if (end === 'behind') {
      const { id } = JSON.parse(asked.at(-1));
      source.onmessage({ data: JSON.stringify({ type: 'error', id, error: { status: 404, detail: 'no such payment' } }) });
    }
    if (end === 'turned away') source.dispatchEvent(new MessageEvent('problem', { data: '{"detail":"as many as there may be"}' }));
    if (end === 'told') source.dispatchEvent(new MessageEvent('snapshot', { data: '{}', lastEventId: 'c1' }));
    if (end === 'refused') source.close();
    source.onerror();
  }
  await until(() => sources.length > ends.length || told.at(-1)[0] === 'refused');
  opened.close();
  Object.assign(window, mine);
  hold('merchant', null);
  return { told, waits, asked, opened: sources.length };
}

const WISH = { payment_id: 'pay_1', of: 'cus_1', at_least: 'p1' };

async function ofStreams(page) {
  const come = (ends, more = {}) => page.evaluate(streams, { by: 'sse', ends, key: 'plk_1_x', wish: WISH, answers: {}, ...more });
  const full = await come(['turned away', 'turned away', 'turned away']);
  assert.equal(full.waits.length, 3);
  assert.ok(full.waits.every((ms) => ms >= 30_000 && ms <= 60_000), `who is turned away comes back as late as the server asks for: ${full.waits}`);
  assert.ok(full.told.some(([state, why]) => state === 'lost' && why === 'as many as there may be'), 'and says why');
  const drained = await come(['told', 'told', 'told', 'told']);
  assert.ok(drained.waits.every((ms) => ms >= 1_000 && ms <= 6_000), `not all at once: ${drained.waits}`);
  const silent = await come(['nothing', 'nothing', 'nothing', 'nothing', 'nothing', 'nothing', 'nothing']);
  assert.ok(silent.waits.at(-1) > 10_000, `a stream that opens and tells nothing is tried less and less often: ${silent.waits}`);

  const path = '/v1/payments/pay_1?at_least=p1';
  for (const by of ['sse', 'ws']) {
    const refused = (status, detail, more) => come(['refused'], { by, answers: { '/v1/payments/': [status, { detail }] }, ...more });
    const gone = await refused(404, 'no such payment');
    assert.deepEqual([gone.told.at(-1), gone.opened, gone.asked.at(-1)], [['refused', 'no such payment'], 1, path], `${by}: with a ticket too a no is one`);
    const behind = await refused(404, 'no such payment', { wish: { payment_id: 'pay_1' }, key: null });
    assert.deepEqual([behind.told.at(-1)[0], behind.opened], ['lost', 2], `${by}: an instance that is behind has not refused it`);
    const nobody = await refused(401, 'an API key is needed', { key: null });
    assert.deepEqual([nobody.told.at(-1), nobody.opened], [['refused', 'an API key is needed'], 1], by);
  }
  const one = (wish) => come(['behind'], { by: 'ws', key: null, wish });
  const asked = ({ asked: all }) => all.filter((text) => text.startsWith('{"type":"subscribe"')).length;
  const later = await one({ payment_id: 'pay_1' });
  assert.deepEqual([asked(later), later.told.some(([state]) => state === 'refused')], [2, false], 'an instance that is behind is asked again');
  const no = await one(WISH);
  assert.deepEqual([asked(no), no.told.at(-1)], [1, ['refused', 'no such payment']], 'and what is not there is not there');
}

export async function later({ browser, link, shots }) {
  const visitor = await Visitor.come(browser, link.url, shots);
  const { page } = visitor;
  await ofStreams(page);
  const kinds = await page.evaluate(async () => {
    const { kindOfKey } = await import('/page/keys.js');
    return ['plk_1_x', 'plo_1_x', 'sk_1', 'plk_1_x\u200b', 'plk_1 x'].map(kindOfKey);
  });
  assert.deepEqual(kinds, ['merchant', 'operator', null, null, null], 'what no header can carry is no key');
  await visitor.leave();
  return 'who is turned away comes back late, who loses a stream not with all others, and only a no is one';
}
