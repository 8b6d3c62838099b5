// How the installation does, as this instance sees it: rates, what is open, times to a result, how far the fold is behind, and
// what waits for a person. Read from /metrics and the operator's routes every two seconds, while somebody looks.

import { Chart } from './charts.js';
import { badge, byId, cell, element, fill, momentOf, row, say, took } from './dom.js';
import { parse } from './exposition.js';
import { getJson } from './server.js';
import { showVersions } from './versions.js';

const EVERY_MS = 2000;
// Answers that will not be others the next time.
const NOT_HERE = [401, 403, 404];

const count = (value) => Math.round(value).toLocaleString();
const rate = (value) => (value >= 100 ? count(value) : value.toFixed(1).replace(/\.0$/, ''));
const seconds = (value) => took(value * 1000);

let [charts, tiles, timer, before, running] = [null, null, null, null, false];
let [paused, isOperator] = [false, true];

export function openOperations() {
  if (!charts) make();
  if (running) return;
  running = true;
  look();
}

export function closeOperations() {
  running = false;
  clearTimeout(timer);
}

function make() {
  const place = byId('charts');
  charts = {
    rates: new Chart(place, 'Payments a second', [{ name: 'in', colour: '--chart-1' }, { name: 'out', colour: '--chart-2', dash: [6, 4] }], rate, true),
    open: new Chart(place, 'Open payments', [{ name: 'open', colour: '--chart-1' }], count, true),
    times: new Chart(place, 'Time to a result', [{ name: 'p50', colour: '--chart-1' }, { name: 'p99', colour: '--chart-3', dash: [6, 4] }], seconds),
    lag: new Chart(place, 'Offsets behind the log', [{ name: 'all partitions', colour: '--chart-1' }, { name: 'the worst', colour: '--chart-3', dash: [6, 4] }], count, true),
  };
  tiles = Object.fromEntries(['In / s', 'Out / s', 'Open', 'p50', 'p99', 'Behind', 'Parked', 'Dead letters'].map(tile));
  byId('pause').addEventListener('click', () => {
    paused = !paused;
    byId('pause').setAttribute('aria-pressed', String(paused));
    if (paused) show('paused', 'wait');
    else look();
  });
  document.addEventListener('visibilitychange', () => { if (running && !document.hidden) look(); });
}

function tile(name) {
  const made = element('div');
  const value = element('dd', '–');
  made.append(element('dt', name), value);
  byId('tiles').append(made);
  return [name, value];
}

function show(text, kind) {
  say(byId('reading'), text);
  byId('reading').className = `badge ${kind}`;
}

async function look() {
  clearTimeout(timer);
  if (!running || paused || document.hidden) return;
  try {
    const answer = await fetch('/metrics', { cache: 'no-store' });
    if (NOT_HERE.includes(answer.status)) {
      show('not shown here', 'bad');
      return;
    }
    if (!answer.ok) throw new Error(`the server answered with ${answer.status}`);
    showNumbers(parse(await answer.text()));
    await lookAsOperator();
    if (!paused) show('live', 'good');
  } catch {
    before = null;
    if (!paused) show('reconnecting', 'wait');
  }
  clearTimeout(timer);
  timer = setTimeout(look, EVERY_MS);
}

function showNumbers(samples) {
  const now = Date.now() / 1000;
  const counted = { at: now, in: samples.sum('paylog_payments_accepted_total'), out: samples.sum('paylog_payments_ended_total') };
  const perSecond = (name) => {
    // A counter that went back is another process's.
    const known = before && now > before.at && counted[name] >= before[name];
    return known ? (counted[name] - before[name]) / (now - before.at) : null;
  };
  const [coming, going] = [perSecond('in'), perSecond('out')];
  before = counted;
  const open = samples.one('paylog_payments_open');
  // Without results in the last minute there is no time; the exporter says 0.
  const quantile = (of) => samples.one('paylog_payment_result_seconds', { quantile: of }) || null;
  const [p50, p99] = [quantile('0.5'), quantile('0.99')];
  const lags = samples.all('paylog_fold_lag_offsets').sort((a, b) => a.labels.partition - b.labels.partition);
  const known = lags.map(({ value }) => value).filter((value) => value !== null);
  const [behind, worst] = known.length > 0 ? [known.reduce((a, b) => a + b, 0), Math.max(...known)] : [null, null];

  charts.rates.push(now, [coming, going]);
  charts.open.push(now, [open]);
  charts.times.push(now, [p50, p99]);
  charts.lag.push(now, [behind, worst]);
  const parked = samples.one('paylog_payments_parked');
  const dead = samples.sum('paylog_dead_letters_total');
  const texts = [[coming, rate], [going, rate], [open, count], [p50, seconds], [p99, seconds], [behind, count], [parked, count], [dead, count]];
  Object.values(tiles).forEach((place, i) => { place.textContent = texts[i][0] === null ? '–' : texts[i][1](texts[i][0]); });
  tiles.Parked.className = parked > 0 ? 'bad' : '';
  tiles['Dead letters'].className = dead > 0 ? 'wait' : '';
  showLags(lags, worst);
}

function showLags(lags, worst) {
  byId('lags').replaceChildren(...lags.map(({ labels, value }) => {
    const share = element('meter');
    share.max = Math.max(worst || 0, 1);
    share.value = value || 0;
    share.setAttribute('aria-label', `Share of partition ${labels.partition}`);
    const item = element('li');
    item.append(element('span', `Partition ${labels.partition}`), ' ', share, ' ', element('b', value === null ? 'not known' : count(value)));
    return item;
  }));
}

// Answered on the machine itself, or with an operator's key; elsewhere it is not asked for again.
async function lookAsOperator() {
  if (!isOperator) return;
  try {
    const [projections, parked] = await Promise.all([getJson('/v1/operator/projections'), getJson('/v1/operator/parked?limit=20')]);
    showVersions(projections.data);
    byId('parked').hidden = false;
    fill(byId('parked-rows'), parked.data.map(parkedRow), byId('parked-table'), byId('parked-empty'));
  } catch (error) {
    if (!NOT_HERE.includes(error.status)) throw error;
    isOperator = false;
    byId('elsewhere').hidden = false;
  }
}

function parkedRow({ payment, reason, detail, parked_since: since }) {
  const link = element('a', payment, 'mono');
  link.href = `#/payments/${payment}`;
  return row(cell(link), cell(badge(reason, 'wait')), detail, cell(momentOf(since)));
}
