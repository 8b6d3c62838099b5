//! Stripe's Payment Intents API, or a server that speaks it (`paylog gateway-simulator`, stripe-mock). The module promises
//! that what it calls definitive is (`answer`), that what it sends for a payment is always the same (`request`), and that
//! nothing is sent twice behind its back (`http`).

mod answer;
#[cfg(test)]
mod answer_tests;
mod http;
mod inquiry;
mod request;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use crate::gateway::{Answer, Charge, Gateway, Inquiry, Outcome, Terms};
use answer::Charged;
use http::{Http, NoAnswer};

pub use http::SecretKey;
pub use request::VERSION;

pub const NAME: &str = "stripe";

pub struct Stripe {
    http: Arc<Http>,
    terms: Terms,
}

impl Stripe {
    /// `deadline` is for one request and its answer.
    pub fn new(base: &Url, key: &SecretKey, deadline: Duration, terms: Terms) -> anyhow::Result<Self> {
        Ok(Self { http: Arc::new(Http::new(base, key, deadline)?), terms })
    }
}

impl Gateway for Stripe {
    fn name(&self) -> &'static str {
        NAME
    }

    fn terms(&self) -> Terms {
        self.terms
    }

    fn charge(&self, charge: Charge) -> Answer<Outcome> {
        let http = Arc::clone(&self.http);
        Box::pin(async move {
            let Some(body) = request::body(&charge) else {
                let version = charge.request_version;
                return Outcome::NotSent { reason: format!("this paylog does not know request version {version}") };
            };
            match http.post("/v1/payment_intents", &charge.key.to_string(), body).await {
                Ok(answered) => match answer::charged(&charge, &answered) {
                    Charged::Is(outcome) => outcome,
                    Charged::Refused { code, message } => refused(&http, &charge, code, message).await,
                },
                Err(NoAnswer::NotSent(reason)) => Outcome::NotSent { reason },
                Err(NoAnswer::Lost(reason)) => Outcome::Unknown { reason },
            }
        })
    }

    fn inquire(&self, charge: Charge) -> Answer<Inquiry> {
        let http = Arc::clone(&self.http);
        Box::pin(async move { inquiry::inquire(&http, &charge).await })
    }
}

/// A 400 or 404 is a no to this request. But Stripe may check parameters before it looks at the key (`error-low-level` in its
/// documentation), and a try before this one, of which nobody here may know, may have charged: a payment method that can be
/// used once is refused for that very reason. So the no counts if the provider knows of no charge.
async fn refused(http: &Http, charge: &Charge, code: String, message: String) -> Outcome {
    match inquiry::inquire(http, charge).await {
        Inquiry::NotFound | Inquiry::Declined { .. } => Outcome::Declined { code, message },
        Inquiry::Succeeded(receipt) => Outcome::Succeeded(receipt),
        Inquiry::StillRunning => Outcome::Unknown { reason: "refused, and still at it".to_owned() },
        Inquiry::Unknown { reason } => Outcome::Unknown { reason: format!("refused ({code}), and then: {reason}") },
    }
}
