//! The payment service provider, as paylog sees it: something that charges once for each key, however often it is asked,
//! and can be asked what became of it (DESIGN.md 8). Nothing here knows of the log.

mod args;
pub mod breaker;
#[cfg(test)]
pub(crate) mod samples;
pub mod simulator;
pub mod stripe;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::payment::request::PaymentMethod;
use crate::payment::{MerchantId, Money, PaymentId, Timestamp};

pub use args::GatewayArgs;

/// What the provider is asked to charge. The key is the payment's id, for ever, and the rest is the same at every try.
#[derive(Clone, Debug)]
pub struct Charge {
    pub key: PaymentId,
    pub merchant: MerchantId,
    pub money: Money,
    pub payment_method: PaymentMethod,
    /// How the request is built: recorded with the payment, so that an upgrade cannot change its bytes.
    pub request_version: u32,
    /// Nothing was asked for this key before then: an inquiry need not look further back.
    pub since: Timestamp,
    /// An operator had it charged again at that time: a no from before is not the answer any more.
    pub again_from: Option<Timestamp>,
    /// Which try this is, from 1. For logs and the simulator: no provider is ever told.
    pub attempt: u32,
}

/// A charge, in the provider's words. Nothing of it is believed before it was compared with what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The provider's own name for the charge.
    pub reference: String,
    /// In minor units.
    pub amount: i64,
    /// ISO 4217, in capitals.
    pub currency: String,
    /// The payment that the provider says it charged.
    pub payment: String,
}

/// What came of a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Succeeded(Receipt),
    /// A definitive no. `code` is the provider's, `message` is for the customer.
    Declined {
        code: String,
        message: String,
    },
    /// Nothing left this machine.
    NotSent {
        reason: String,
    },
    /// The provider says that it did nothing, and perhaps when to come back.
    NotExecuted {
        reason: String,
        retry_after: Option<Duration>,
    },
    /// It would not take this request, and says nothing of an earlier one with this key.
    Refused {
        code: String,
        message: String,
    },
    /// Anything else: charged or not, nobody knows. `answered` if the provider itself has said something so unclear; it did
    /// not if its answer was lost or it broke down over it (5xx).
    Unknown {
        reason: String,
        answered: bool,
    },
}

/// What the provider says of a key when it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inquiry {
    Succeeded(Receipt),
    Declined {
        code: String,
        message: String,
    },
    /// It has no charge under this key: final only as [`Terms::not_found_final_after`] says.
    NotFound,
    StillRunning,
    /// As with [`Outcome::Unknown`].
    Unknown {
        reason: String,
        answered: bool,
    },
}

/// What a provider promises, on which the processor relies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// For how long a repeated key is recognised, from its first use.
    pub key_window: Duration,
    /// How long after a request the answer `NotFound` is final; `None` if the provider cannot be asked about a key.
    pub not_found_final_after: Option<Duration>,
    /// Calls a second, at most; `None` if the provider has no such limit.
    pub calls_per_second_max: Option<u32>,
}

pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub trait Gateway: Send + Sync {
    /// As it is recorded with each payment that it is to charge.
    fn name(&self) -> &'static str;
    fn terms(&self) -> Terms;
    /// Nothing is sent before the answer is first polled.
    fn charge(&self, charge: Charge) -> Answer<Outcome>;
    /// What became of this charge, if it was ever asked for.
    fn inquire(&self, charge: Charge) -> Answer<Inquiry>;
}

impl Receipt {
    /// What is wrong with it as an answer to `charge`, if anything: who believes a receipt without asking this pays twice.
    #[must_use]
    pub fn mismatch(&self, charge: &Charge) -> Option<String> {
        let (amount, currency) = (charge.money.amount(), charge.money.currency());
        if self.amount != amount || self.currency != currency.code() {
            let (is, its) = (self.amount, &self.currency);
            return Some(format!("charged {is} {its} where {amount} {} was asked for", currency.code()));
        }
        (self.payment != charge.key.to_string()).then(|| format!("{} is the charge of another payment", self.reference))
    }
}

#[cfg(test)]
mod tests {
    use super::Receipt;
    use super::samples::charge;
    use crate::payment::samples::payment_id;

    #[test]
    fn a_receipt_for_something_else_is_no_receipt() {
        let charge = charge("a", "pm_card_visa");
        let good = Receipt {
            reference: "pi_1".to_owned(),
            amount: 1999,
            currency: "EUR".to_owned(),
            payment: payment_id("a").to_string(),
        };
        assert_eq!(good.mismatch(&charge), None);
        for wrong in [
            Receipt { amount: 2000, ..good.clone() },
            Receipt { currency: "USD".to_owned(), ..good.clone() },
            Receipt { payment: payment_id("b").to_string(), ..good.clone() },
        ] {
            assert!(wrong.mismatch(&charge).is_some(), "{wrong:?}");
        }
    }
}
