// A client of the generated types, as a merchant's backend would have it: it need not run, but must be right.
import type { components, operations, paths, webhooks } from './paylog.js';

type Payment = components['schemas']['Payment'];
type Problem = operations['createPayment']['responses'][422]['content']['application/problem+json'];
type Told = webhooks['paymentChanged']['post']['requestBody']['content']['application/json'];

export async function pay(url: string, key: string, order: string): Promise<Payment | undefined> {
  const asked: components['schemas']['NewPayment'] = { amount: 1999, currency: 'EUR', customer_id: 'cus_42', payment_method: 'pm_card_visa' };
  const path: keyof paths = '/v1/payments';
  const answer = await fetch(url + path, { method: 'POST', headers: { authorization: `Bearer ${key}`, 'idempotency-key': order }, body: JSON.stringify(asked) });
  if (answer.status === 422) {
    const problem = (await answer.json()) as Problem;
    return problem.code === 'idempotency_key_reused' ? undefined : Promise.reject(new Error(problem.detail));
  }
  return (await answer.json()) as operations['createPayment']['responses'][200]['content']['application/json'];
}

export function endOf(told: Told): string {
  const { payment } = told.data;
  return payment.failure === null ? payment.status : payment.failure.code;
}

// @ts-expect-error: there is no such member.
export const wrong = (payment: Payment): unknown => payment.amout;
