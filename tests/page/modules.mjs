// Modules of the page that compute something, asked in the browser that runs them.
import assert from 'node:assert/strict';

import { Visitor } from './browser.mjs';

const TYPED = [
  ['19.99', 'EUR', 1999], ['19,9', 'EUR', 1990], ['0.07', 'EUR', 7], [' 20 ', 'EUR', 2000], ['1.15', 'USD', 115],
  ['4.35', 'USD', 435], ['1000', 'JPY', 1000], ['999999999999.99', 'CHF', 99999999999999],
  ['1.999', 'EUR', null], ['1.5', 'JPY', null], ['-1', 'EUR', null], ['1e3', 'EUR', null], ['', 'EUR', null], ['1.', 'EUR', null],
];
const SHOWN = [[1999, 'EUR', '19.99 EUR'], [7, 'EUR', '0.07 EUR'], [0, 'USD', '0.00 USD'], [1000, 'JPY', '1000 JPY'], [5, 'nothing', '5 nothing']];

const EXPOSED = `# HELP paylog_a_total What # TYPE says
# TYPE paylog_a_total counter
paylog_a_total{reason="a \\"b\\", c"} 2
paylog_a_total{reason="d"} 3
paylog_lag{partition="0"} NaN
paylog_open 1e3
`;

export async function modules({ browser, link, shots }) {
  const visitor = await Visitor.come(browser, link.url, shots);
  const { page } = visitor;
  const minor = await page.evaluate(async (typed) => {
    const { minorUnits } = await import('/page/money.js');
    return typed.map(([text, currency]) => minorUnits(text, currency));
  }, TYPED);
  assert.deepEqual(minor, TYPED.map(([, , units]) => units), 'money is never a fraction');
  const shown = await page.evaluate(async (amounts) => {
    const money = await import('/page/money.js');
    return amounts.map(([amount, currency]) => money.shown({ amount, currency }));
  }, SHOWN);
  assert.deepEqual(shown, SHOWN.map(([, , text]) => text));
  const samples = await page.evaluate(async (text) => {
    const { parse } = await import('/page/exposition.js');
    const parsed = parse(text);
    return [parsed.sum('paylog_a_total'), parsed.all('paylog_a_total')[0].labels.reason, parsed.one('paylog_lag', { partition: '0' }),
      parsed.one('paylog_open'), parsed.one('paylog_absent'), parsed.sum('paylog_absent')];
  }, EXPOSED);
  assert.deepEqual(samples, [5, 'a \\"b\\", c', null, 1000, null, 0]);
  await visitor.leave();
  return 'money and metrics are read as they are written';
}
