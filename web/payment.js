// What a payment and its events mean, in words.

import { timeOf } from './dom.js';

export const EVENTS = ['PaymentInProgress', 'PaymentSuccessful', 'PaymentFailed', 'PaymentRetryScheduled',
  'PaymentOutcomeUnknown', 'PaymentParked', 'PaymentResumed'];

export const TOKENS = [
  ['pm_card_visa', 'succeeds'],
  ['pm_card_mastercard', 'succeeds'],
  ['pm_card_visa_chargeDeclined', 'declined'],
  ['pm_card_visa_chargeDeclinedInsufficientFunds', 'declined: insufficient funds'],
  ['pm_card_chargeDeclinedExpiredCard', 'declined: the card has expired'],
  ['pm_sim_delay', 'succeeds after three seconds'],
  ['pm_sim_transient', 'fails twice, is tried again'],
  ['pm_sim_unavailable', 'the provider cannot be reached'],
];

export const hasEnded = (payment) => payment.status !== 'in_progress';

export function statusOf(payment) {
  if (payment.status === 'successful') return ['successful', 'good'];
  if (payment.status === 'failed') return ['failed', 'bad'];
  return [payment.phase === 'processing' ? 'in progress' : payment.phase, 'wait'];
}

export function showStatus(place, payment) {
  const [text, kind] = statusOf(payment);
  if (place.textContent !== text) place.textContent = text;
  place.className = `badge ${kind}`;
}

export function kindOf(event) {
  return { PaymentSuccessful: 'good', PaymentFailed: 'bad', PaymentInProgress: 'begun' }[event.type] || 'wait';
}

const DETAILS = {
  PaymentInProgress: (data) => `accepted, for ${data.gateway}`,
  PaymentSuccessful: (data) => `charged as ${data.gateway_reference}, attempt ${data.attempt}`,
  PaymentFailed: (data) => `${data.message} (${data.code})`,
  PaymentRetryScheduled: (data) => `attempt ${data.attempt}: ${data.reason}; again at ${timeOf(data.not_before)}`,
  PaymentOutcomeUnknown: (data) => `attempt ${data.attempt}: ${data.reason}; asking at ${timeOf(data.next_inquiry_at)}`,
  PaymentParked: (data) => `waits for a person: ${data.reason}`,
  PaymentResumed: (data) => `decided by ${data.operator}: ${data.reason}`,
};

// Events of a later paylog have none.
export function detailOf({ type, data }) {
  return DETAILS[type] ? DETAILS[type](data) : '';
}
