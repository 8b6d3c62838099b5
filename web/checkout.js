// The form: what is paid, by whom, with which test token; whether the answer is waited for; and who tells of the rest.

import { CHANNELS, channel, choose } from './channels.js';
import { byId, element, took } from './dom.js';
import { followPayment } from './following.js';
import { listPayments } from './listing.js';
import { digitsOf, minorUnits } from './money.js';
import { TOKENS, hasEnded } from './payment.js';
import { newKey, pay } from './server.js';

const WAIT_SECONDS = 10;

// A page without storage remembers nothing, and works.
const remembered = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* as above */ } };

const customer = byId('customer');

export function startCheckout() {
  offerTokens();
  offerChannels();
  customer.value = remembered('customer') || `cus_${newKey().replaceAll('-', '').slice(0, 8)}`;
  customer.addEventListener('change', () => isCustomer(customer.value.trim()) && list(customer.value.trim()));
  byId('pay').addEventListener('submit', (submit) => {
    submit.preventDefault();
    submitted();
  });
  list(customer.value.trim());
}

function offerTokens() {
  const method = byId('method');
  method.append(...TOKENS.map(([token, what]) => new Option(`${token}: ${what}`, token)));
  // The whole of it, where the field is too narrow.
  const says = () => { byId('method-says').textContent = new Map(TOKENS).get(method.value); };
  method.addEventListener('change', says);
  says();
}

function offerChannels() {
  choose(remembered('channel'));
  for (const { id, name, title } of CHANNELS) {
    const label = element('label');
    const input = element('input');
    Object.assign(input, { type: 'radio', name: 'channel', value: id, checked: id === channel().id });
    input.addEventListener('change', () => {
      remember('channel', id);
      choose(id);
    });
    label.title = title;
    label.append(input, element('span', name));
    byId('channels').append(label);
  }
}

const isCustomer = (name) => /^[\x21-\x7e]{1,128}$/.test(name);

function list(name) {
  remember('customer', name);
  listPayments(name);
}

function complain(text, field) {
  byId('error').textContent = text;
  for (const one of [byId('amount'), customer]) one.setAttribute('aria-invalid', String(one === field));
  if (field) field.focus();
}

async function submitted() {
  const currency = byId('currency').value;
  const amount = minorUnits(byId('amount').value, currency);
  byId('answered').textContent = '';
  complain('');
  if (amount === null) {
    const digits = digitsOf(currency);
    complain(`The amount must be a number with ${digits ? `at most ${digits} digits after the point` : 'no digits after the point'}.`, byId('amount'));
    return;
  }
  if (!isCustomer(customer.value.trim())) {
    complain('The customer must be 1 to 128 letters, digits or signs, without spaces.', customer);
    return;
  }
  const body = { amount, currency, customer_id: customer.value.trim(), payment_method: byId('method').value };
  const synchronous = byId('pay').elements.manner.value === 'synchronous';
  byId('submit').disabled = true;
  const began = performance.now();
  try {
    const { status, payment } = await pay(body, synchronous ? WAIT_SECONDS : 0);
    const what = hasEnded(payment) ? `with the result: ${payment.status}` : 'accepted, the result is to come';
    byId('answered').textContent = `${status} after ${took(performance.now() - began)}, ${what}.`;
    list(body.customer_id);
    followPayment(payment);
  } catch (error) {
    complain(error.message);
  } finally {
    byId('submit').disabled = false;
  }
}
