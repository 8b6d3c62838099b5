//! The model of the payment provider: a ledger, idempotency as Stripe documents it (the first answer to a key is stored once
//! its execution has begun, and repeated for as long as the key is remembered; after that the key is as good as new), and a
//! network on which requests and answers are late or lost. A request that was sent arrives, whatever became of its sender.

use std::collections::{BTreeMap, BTreeSet};

use paylog::gateway::{Charge, Inquiry, Outcome, Receipt};
use paylog::payment::PaymentId;
use tokio::sync::oneshot;

use crate::core::{Core, Due};
use crate::log::Life;
use crate::plan::SECOND_US;

pub type RequestId = usize;

#[derive(Default)]
pub struct Provider {
    pub requests: Vec<Request>,
    keys: BTreeMap<String, Key>,
    /// Payments that something went wrong with here, or on the way.
    pub troubled: BTreeSet<PaymentId>,
    /// All that ever happened to a key, for the list of charges.
    pub made: BTreeMap<PaymentId, Vec<Made>>,
}

pub struct Request {
    pub sender: Life,
    pub charge: Charge,
    /// Not always the payment: a planted mistake sends others.
    pub key: String,
    pub body: String,
    pub sent_tick: u64,
    pub sent_us: u64,
    /// By its sender's clock.
    pub machine_us: i64,
    /// The newest of the log's times that its sender had read.
    pub newest_append_us: Option<i64>,
    pub answered_tick: Option<u64>,
    pub arrived: bool,
    /// It will never arrive.
    pub lost: bool,
    pub asks: Asks,
}

pub enum Asks {
    Charge { answer: Option<oneshot::Sender<Outcome>>, outcome: Option<Outcome> },
    Inquiry { answer: Option<oneshot::Sender<Inquiry>>, outcome: Option<Inquiry>, found_nothing: bool },
}

/// What is remembered of a key.
struct Key {
    first_used_us: u64,
    body: String,
    /// `None` while the first request is at work.
    stored: Option<Outcome>,
}

/// What a request came to, as a list of charges shows it.
#[derive(Clone, Debug)]
pub struct Made {
    pub request: RequestId,
    pub at_us: u64,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    Began,
    Charged(Receipt),
    Declined { code: String, message: String },
}

impl Core {
    /// Something goes wrong with a request.
    fn goes_wrong(&mut self, id: RequestId, rate: u32, name: &'static str) -> bool {
        let wrong = self.happens(rate);
        if wrong {
            self.trace.fault(name);
            self.provider.troubled.insert(self.provider.requests[id].charge.key);
        }
        wrong
    }

    pub fn send(&mut self, request: Request) {
        let id = self.provider.requests.len();
        let (now, process, attempt) = (self.now_us, request.sender.process, request.charge.attempt);
        let what = if matches!(request.asks, Asks::Charge { .. }) { "charge" } else { "inquiry" };
        self.trace.line(now, format_args!("{process} sends {what} {id}, try {attempt} of {}", request.charge.key));
        self.provider.requests.push(request);
        if self.goes_wrong(id, self.plan.rates.lost_request, "a request is lost") {
            self.provider.requests[id].lost = true;
            return;
        }
        let late = self.goes_wrong(id, self.plan.rates.late_request, "a request is late");
        let max = if late { self.plan.provider.request_delay_max_us } else { SECOND_US / 5 };
        let wait = self.random.skewed(max.min(self.plan.provider.request_delay_max_us));
        self.after(wait, Due::Arrival(id));
    }

    pub fn arrive(&mut self, id: RequestId) {
        self.provider.requests[id].arrived = true;
        let request = &self.provider.requests[id];
        if matches!(request.asks, Asks::Inquiry { .. }) {
            let outcome = self.look_up(id);
            return self.reply_inquiry(id, outcome);
        }
        let (key, body) = (request.key.clone(), request.body.clone());
        if self.goes_wrong(id, self.plan.rates.not_executed, "the provider is overloaded") {
            let reason = "too many requests".to_owned();
            return self.reply(id, Outcome::NotExecuted { reason, retry_after: None });
        }
        let payment = self.provider.requests[id].charge.key;
        // A first try is refused only for a charge that an inquiry would find: a former owner that charges what its heir
        // tries for the first time, a refusal in place of a replay, and a list that does not show it yet are one too many.
        let first = self.provider.requests[id].charge.attempt == 1;
        let seen_us = if first { self.plan.provider.list_lag_max_us } else { 0 };
        let is_charged = |made: &Made| matches!(made.what, What::Charged(_)) && made.at_us + seen_us <= self.now_us;
        let charged = self.provider.made.get(&payment).is_some_and(|made| made.iter().any(is_charged));
        if charged && self.goes_wrong(id, self.plan.rates.used_up, "a repeat is refused before its key is looked at") {
            let (code, message) = ("payment_method_consumed".to_owned(), "It was used before.".to_owned());
            return self.reply(id, Outcome::Refused { code, message });
        }
        let window = self.plan.provider.key_window_us;
        let remembered = self.provider.keys.get(&key).filter(|key| self.now_us < key.first_used_us + window);
        if let Some(remembered) = remembered {
            let outcome = match &remembered.stored {
                _ if remembered.body != body => {
                    Outcome::Unknown { reason: "the key was used with other parameters".to_owned(), answered: true }
                }
                Some(stored) => stored.clone(),
                None => Outcome::Unknown { reason: "a request with this key is at work".to_owned(), answered: true },
            };
            return self.reply(id, outcome);
        }
        self.provider.keys.insert(key, Key { first_used_us: self.now_us, body, stored: None });
        self.note(id, What::Began);
        if self.goes_wrong(id, self.plan.rates.slow_charge, "a charge takes long") {
            let wait = self.random.skewed(self.plan.provider.charge_takes_max_us);
            self.after(wait, Due::Charged(id));
        } else {
            self.charge_now(id);
        }
    }

    fn note(&mut self, id: RequestId, what: What) {
        let (payment, now) = (self.provider.requests[id].charge.key, self.now_us);
        self.trace.line(now, format_args!("provider: request {id}: {what:?}"));
        self.provider.made.entry(payment).or_default().push(Made { request: id, at_us: now, what });
    }

    pub fn charge_now(&mut self, id: RequestId) {
        let (charge, key) = (self.provider.requests[id].charge.clone(), self.provider.requests[id].key.clone());
        let internal = || Outcome::Unknown { reason: "status 500".to_owned(), answered: false };
        let declined = charge.payment_method.as_str().contains("Declined");
        let stored_500 = self.plan.rates.stored_500;
        let outcome = if !declined && self.goes_wrong(id, stored_500, "the provider stores a status 500") {
            if self.random.chance(500) {
                self.note(id, What::Charged(receipt(&charge, id)));
            }
            internal()
        } else if declined {
            let (code, message) = ("card_declined".to_owned(), "Your card was declined.".to_owned());
            self.note(id, What::Declined { code: code.clone(), message: message.clone() });
            Outcome::Declined { code, message }
        } else {
            let mut receipt = receipt(&charge, id);
            if self.goes_wrong(id, self.plan.rates.wrong_receipt, "a receipt is for another amount") {
                receipt.amount += 1;
            }
            self.note(id, What::Charged(receipt.clone()));
            Outcome::Succeeded(receipt)
        };
        if let Some(key) = self.provider.keys.get_mut(&key) {
            key.stored = Some(outcome.clone());
        }
        self.reply(id, outcome);
    }

    /// What the list of charges shows of a payment: perhaps not yet the newest.
    fn look_up(&mut self, id: RequestId) -> Inquiry {
        let lag = if self.goes_wrong(id, self.plan.rates.lagging_list, "the list of charges lags behind") {
            self.random.skewed(self.plan.provider.list_lag_max_us)
        } else {
            0
        };
        let (now, payment) = (self.now_us, self.provider.requests[id].charge.key);
        let made = self.provider.made.get(&payment).map(Vec::as_slice).unwrap_or_default();
        let shown: Vec<&What> = made.iter().filter(|made| made.at_us + lag <= now).map(|made| &made.what).collect();
        let charged =
            shown.iter().find_map(|what| if let What::Charged(receipt) = what { Some(receipt) } else { None });
        match (charged, shown.last()) {
            (Some(receipt), _) => Inquiry::Succeeded(receipt.clone()),
            (None, Some(What::Declined { code, message })) => {
                Inquiry::Declined { code: code.clone(), message: message.clone() }
            }
            (None, Some(_)) if self.is_at_work(payment) => Inquiry::StillRunning,
            (None, _) => Inquiry::NotFound,
        }
    }

    /// Is a charge for this payment neither made nor refused yet?
    fn is_at_work(&self, payment: PaymentId) -> bool {
        let key = self.provider.keys.get(&payment.to_string());
        key.is_some_and(|key| key.stored.is_none())
    }

    fn reply(&mut self, id: RequestId, reply: Outcome) {
        if let Asks::Charge { outcome, .. } = &mut self.provider.requests[id].asks {
            *outcome = Some(reply);
        }
        self.return_answer(id);
    }

    fn reply_inquiry(&mut self, id: RequestId, reply: Inquiry) {
        if let Asks::Inquiry { outcome, .. } = &mut self.provider.requests[id].asks {
            *outcome = Some(reply);
        }
        self.return_answer(id);
    }

    fn return_answer(&mut self, id: RequestId) {
        if self.goes_wrong(id, self.plan.rates.lost_answer, "an answer is lost") {
            return self.lose_answer(id);
        }
        let wait = self.random.skewed(2 * SECOND_US);
        self.after(wait, Due::Answer(id));
    }

    /// The connection breaks, or nothing ever comes.
    fn lose_answer(&mut self, id: RequestId) {
        if self.random.chance(500) {
            return;
        }
        let reason = || "the connection was reset".to_owned();
        match &mut self.provider.requests[id].asks {
            Asks::Charge { outcome, .. } => *outcome = Some(Outcome::Unknown { reason: reason(), answered: false }),
            Asks::Inquiry { outcome, .. } => *outcome = Some(Inquiry::Unknown { reason: reason(), answered: false }),
        }
        let wait = self.random.skewed(2 * SECOND_US);
        self.after(wait, Due::Answer(id));
    }

    pub fn answer_now(&mut self, id: RequestId) {
        let (now, tick) = (self.now_us, self.tick());
        self.provider.requests[id].answered_tick = Some(tick);
        // Nobody may be there to hear it.
        match &mut self.provider.requests[id].asks {
            Asks::Charge { answer, outcome } => {
                self.trace.line(now, format_args!("answer to {id}: {outcome:?}"));
                if let (Some(answer), Some(outcome)) = (answer.take(), outcome.take()) {
                    drop(answer.send(outcome));
                }
            }
            Asks::Inquiry { answer, outcome, found_nothing } => {
                *found_nothing = *outcome == Some(Inquiry::NotFound);
                self.trace.line(now, format_args!("answer to {id}: {outcome:?}"));
                if let (Some(answer), Some(outcome)) = (answer.take(), outcome.take()) {
                    drop(answer.send(outcome));
                }
            }
        }
    }
}

fn receipt(charge: &Charge, id: RequestId) -> Receipt {
    Receipt {
        reference: format!("ch_{id}"),
        amount: charge.money.amount(),
        currency: charge.money.currency().code().to_owned(),
        payment: charge.key.to_string(),
    }
}

impl Provider {
    /// Is there a request for a charge of this payment that is on its way or at work?
    pub fn is_open(&self, payment: PaymentId) -> bool {
        let of = |request: &&Request| request.charge.key == payment;
        self.requests.iter().filter(of).any(|r| !r.lost && matches!(&r.asks, Asks::Charge { answer: Some(_), .. }))
    }
}
