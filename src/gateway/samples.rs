//! A charge, for tests.

use crate::gateway::Charge;
use crate::payment::samples::{at, payment_id};
use crate::payment::{Currency, MerchantId, Money, request::PaymentMethod};

pub(crate) fn charge(key: &str, payment_method: &str) -> Charge {
    Charge {
        key: payment_id(key),
        merchant: MerchantId::default(),
        money: Money::new(1999, Currency::parse("EUR").unwrap()).unwrap(),
        payment_method: PaymentMethod::recorded(payment_method),
        request_version: 1,
        since: at(0),
        again_from: None,
        attempt: 1,
    }
}
