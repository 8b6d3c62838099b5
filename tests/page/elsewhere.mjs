// A shop's own page, of another origin than paylog's: one that is named with --allow-origin follows a payment over every
// channel with a stream token, by cookie or ticket; one that is not is shown nothing.
import http from 'node:http';
import net from 'node:net';
import assert from 'node:assert/strict';

import { STEP_MS } from './browser.mjs';

// 127.0.0.1 and localhost are two sites, and so a cookie does not go from one to the other; two ports are one site.
async function shop(host) {
  const server = http.createServer((_, response) => response.setHeader('content-type', 'text/html').end('<!doctype html><title>A shop</title>'));
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return { origin: `http://${host}:${server.address().port}`, close: () => { server.closeAllConnections(); server.close(); } };
}

// Before paylog: what was asked with which headers, and the status that it was answered with, whatever a browser shows of it.
async function tap(url) {
  const [lines, { hostname, port }] = [[], new URL(url)];
  const server = net.createServer((client) => {
    const [paylog, line] = [net.connect(Number(port), hostname), { asked: '', said: '' }];
    lines.push(line);
    client.on('data', (bytes) => { line.asked += bytes.toString('latin1'); });
    paylog.on('data', (bytes) => { line.said += bytes.toString('latin1'); });
    for (const [one, other] of [[client, paylog], [paylog, client]]) one.on('error', () => {}).on('close', () => other.destroy()).pipe(other);
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const exchanges = ({ asked, said }) => {
    const statuses = [...said.matchAll(/^HTTP\/1\.1 (\d+)/gm)].map(([, status]) => Number(status));
    return asked.split(/^(?=(?:GET|POST|OPTIONS) \/)/m).map((request, n) => ({ request, status: statuses[n] }));
  };
  const seen = (path, ...headers) => lines.flatMap(exchanges)
    .filter(({ request }) => request.startsWith(`GET ${path}`) && headers.every((header) => request.toLowerCase().includes(header.toLowerCase())))
    .map(({ status }) => status);
  return { url: `http://127.0.0.1:${server.address().port}`, seen, close: () => server.close() };
}

// In the browser, as a shop would write it.
async function follow({ url, token, customer, withCookie }) {
  const bearer = { Authorization: `Bearer ${token}` };
  const told = {};
  const ask = async (path, options) => {
    const answer = await fetch(url + path, options);
    if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
    return answer;
  };
  const ticket = async () => (await (await ask('/v1/stream_tokens/ticket', { method: 'POST', headers: bearer })).json()).ticket;
  const first = (open, listen) => new Promise((done, failed) => {
    const source = open();
    source.onerror = () => { source.close(); failed(new Error('it does not open')); };
    listen(source, (id) => { source.close(); done(id); });
  });
  const sse = (address, options) => first(() => new EventSource(address, options), (source, done) => {
    source.addEventListener('snapshot', (message) => done(JSON.parse(message.data).payment.id));
  });
  const socket = (address) => first(() => new WebSocket(address), (ws, done) => {
    ws.onopen = () => ws.send(JSON.stringify({ type: 'subscribe', id: 'a', customer_id: customer }));
    ws.onmessage = (message) => { const { data } = JSON.parse(message.data); if (data) done(data.payment.id); };
  });
  const attempt = async (name, how) => { told[name] = await how().catch((error) => `no: ${error.message}`); };

  const stream = `${url}/v1/stream?customer_id=${customer}`;
  const ws = `${url.replace('http', 'ws')}/v1/ws`;
  await attempt('polling', async () => {
    const list = await (await ask(`/v1/payments?customer_id=${customer}`, { headers: bearer })).json();
    const path = `/v1/payments/${list.data[0].id}`;
    const known = (await ask(path, { headers: bearer })).headers.get('etag');
    const again = await fetch(url + path, { headers: { ...bearer, 'If-None-Match': known, Prefer: 'wait=1' }, cache: 'no-store' });
    return again.status === 304 ? list.data[0].id : `answered with ${again.status}`;
  });
  await attempt('SSE by ticket', async () => sse(`${stream}&ticket=${await ticket()}`));
  await attempt('WebSocket by ticket', async () => socket(`${ws}?ticket=${await ticket()}`));
  if (withCookie) {
    await attempt('cookie', async () => { await ask('/v1/stream_tokens/cookie', { method: 'POST', headers: bearer, credentials: 'include' }); return 'set'; });
    await attempt('SSE by cookie', () => sse(stream, { withCredentials: true }));
    await attempt('WebSocket by cookie', () => socket(ws));
  }
  return told;
}

async function paid(url, key) {
  const ask = async (path, body, headers = {}) => {
    const answer = await fetch(url + path, { method: 'POST', headers: { 'content-type': 'application/json', authorization: `Bearer ${key}`, ...headers }, body: JSON.stringify(body) });
    assert.ok(answer.ok, `${path}: ${answer.status}`);
    return answer.json();
  };
  const body = { amount: 1999, currency: 'EUR', customer_id: 'cus_1', payment_method: 'pm_card_visa' };
  const { id } = await ask('/v1/payments', body, { 'idempotency-key': 'order-1', prefer: 'wait=30' });
  const { token } = await ask('/v1/stream_tokens', { customer_id: 'cus_1' });
  return { id, token };
}

export async function elsewhere({ browser, foreign: paylog }) {
  const [near, far, unknown] = await Promise.all([shop('127.0.0.1'), shop('localhost'), shop('127.0.0.1')]);
  const key = paylog.key('--merchant', 'acme');
  paylog.flags.push('--allow-origin', near.origin, '--allow-origin', far.origin);
  await paylog.start();
  const { id, token } = await paid(paylog.url, key);
  const [line, context] = [await tap(paylog.url), await browser.newContext()];
  const told = async ({ origin }, withCookie) => {
    const page = await context.newPage();
    page.setDefaultTimeout(STEP_MS);
    await page.goto(origin);
    const answers = await page.evaluate(follow, { url: line.url, token, customer: 'cus_1', withCookie });
    await page.close();
    return answers;
  };
  const byTicket = { polling: id, 'SSE by ticket': id, 'WebSocket by ticket': id };
  assert.deepEqual(await told(near, true), { ...byTicket, cookie: 'set', 'SSE by cookie': id, 'WebSocket by cookie': id });
  assert.deepEqual(await told(far, false), byTicket);
  // A page of the same site, to which the cookie of the one before goes along.
  const cookie = (await context.cookies()).find(({ name }) => name === '__Secure-paylog-stream');
  assert.ok(cookie, 'the browser has it');
  const nothing = await told(unknown, true);
  for (const [way, answer] of Object.entries(nothing)) assert.match(answer, /^no: /, `${way} from an origin that is not named`);
  const withIt = [`origin: ${unknown.origin}\r\n`, `cookie: ${cookie.name}=${cookie.value}`];
  assert.deepEqual(line.seen('/v1/stream?', ...withIt), [200], 'paylog answers who has the cookie, and the browser shows it to no such page');
  assert.deepEqual(line.seen('/v1/ws', ...withIt), [403], 'and opens no socket for it');
  for (const one of [near, far, unknown, line]) one.close();
  await context.close();
  await paylog.stop();
  return "a shop's own page, of another origin, is told over every channel if it is named, and nothing if it is not";
}
