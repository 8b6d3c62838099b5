// All payments of a customer, kept up by the channel that was chosen.

import { Follow } from './channels.js';
import { Connection } from './connection.js';
import { badge, byId, cell, element, row, timeOf } from './dom.js';
import { shown } from './money.js';
import { statusOf } from './payment.js';

// Rows kept in the page.
const ROWS_MAX = 200;

const rows = new Map();
let listing = null;

export function listPayments(customer) {
  if (listing && listing.customer === customer) return;
  if (listing) listing.follow.close();
  byId('customer-shown').textContent = customer;
  clear();
  const connection = new Connection(byId('customer-connection'));
  listing = { customer, follow: new Follow({ customer_id: customer }, connection, hears) };
}

function hears(event, { payment, more }) {
  if (event === 'reset') {
    clear();
    return;
  }
  keep(payment);
  if (more !== undefined) byId('more').hidden = !more;
}

function clear() {
  rows.clear();
  byId('rows').replaceChildren();
  byId('list').hidden = true;
  byId('list-empty').hidden = false;
  byId('more').hidden = true;
}

function keep(payment) {
  const known = rows.get(payment.id);
  if (known && known.version >= payment.version) return;
  const made = rowOf(payment);
  const place = byId('rows');
  // Newest first; the texts of the server's times sort as the times do.
  const older = known ? known.made : [...place.children].find((other) => other.dataset.createdAt <= payment.created_at);
  if (known) older.replaceWith(made);
  else place.insertBefore(made, older || null);
  rows.set(payment.id, { version: payment.version, made });
  if (rows.size > ROWS_MAX) {
    rows.delete(place.lastElementChild.dataset.id);
    place.lastElementChild.remove();
    byId('more').hidden = false;
  }
  byId('list').hidden = false;
  byId('list-empty').hidden = true;
}

function rowOf(payment) {
  const link = element('a', payment.id, 'mono');
  link.href = `#/payments/${payment.id}`;
  const made = row(cell(link), cell(shown(payment), 'number'), cell(badge(...statusOf(payment))), cell(timeOf(payment.updated_at), 'wide'));
  made.dataset.id = payment.id;
  made.dataset.createdAt = payment.created_at;
  return made;
}
