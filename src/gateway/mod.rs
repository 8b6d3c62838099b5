//! The payment service provider, as paylog sees it: something that charges once for each key, however often it is asked,
//! and can be asked what became of it (DESIGN.md 8). Nothing here knows of the log.

pub mod simulator;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::payment::request::PaymentMethod;
use crate::payment::{Money, PaymentId};

/// What the provider is asked to charge. The key is the payment's id, for ever, and the rest is the same at every try.
#[derive(Clone, Debug)]
pub struct Charge {
    pub key: PaymentId,
    pub money: Money,
    pub payment_method: PaymentMethod,
    /// How the request is built: recorded with the payment, so that an upgrade cannot change its bytes.
    pub request_version: u32,
    /// Which try this is, from 1. For logs and the simulator: no provider is ever told.
    pub attempt: u32,
}

/// What came of a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Charged; `reference` is the provider's own name for it.
    Succeeded { reference: String },
    /// A definitive no. `code` is the provider's, `message` is for the customer.
    Declined { code: String, message: String },
    /// Nothing left this machine.
    NotSent { reason: String },
    /// The provider says that it did nothing, and perhaps when to come back.
    NotExecuted { reason: String, retry_after: Option<Duration> },
    /// Anything else: charged or not, nobody knows.
    Unknown { reason: String },
}

/// What the provider says of a key when it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inquiry {
    Succeeded { reference: String },
    Declined { code: String, message: String },
    NotFound,
    StillRunning,
    Unknown { reason: String },
}

/// What a provider promises, on which the processor relies.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// For how long a repeated key is recognised.
    pub key_window: Duration,
    /// Can it be asked about a key?
    pub inquires: bool,
    /// How long after a request the answer `NotFound` is final.
    pub not_found_final_after: Duration,
}

pub type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

pub trait Gateway: Send + Sync {
    /// As it is recorded with each payment that it is to charge.
    fn name(&self) -> &'static str;
    fn terms(&self) -> Terms;
    fn charge(&self, charge: Charge) -> Answer<Outcome>;
    /// What became of this charge, if it was ever asked for.
    fn inquire(&self, charge: Charge) -> Answer<Inquiry>;
}
