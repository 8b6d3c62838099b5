//! Stripe's Payment Intents API, or a server that speaks it (`paylog gateway-simulator`, stripe-mock). The module promises
//! that what it calls definitive is (`answer`), that what it sends for a payment is always the same (`request`), and that
//! nothing is sent twice behind its back (`http`).

mod amount;
mod answer;
#[cfg(test)]
mod answer_tests;
mod http;
mod inquiry;
mod listing;
mod request;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use crate::gateway::{Answer, Charge, Gateway, Inquiry, Outcome, Terms};
use crate::telemetry::Seldom;
use http::{Http, NoAnswer};
use listing::Listing;
use request::NoBody;

pub use http::SecretKey;
pub use request::VERSION;

pub const NAME: &str = "stripe";

pub struct Stripe {
    shared: Arc<Shared>,
    terms: Terms,
}

struct Shared {
    http: Arc<Http>,
    listing: Arc<Listing>,
    complaints: Seldom,
}

impl Stripe {
    /// `deadline` is for one request and its answer.
    pub fn new(base: &Url, key: &SecretKey, deadline: Duration, terms: Terms) -> anyhow::Result<Self> {
        let http = Arc::new(Http::new(base, key, deadline)?);
        let shared = Shared { http, listing: Arc::default(), complaints: Seldom::new() };
        Ok(Self { shared: Arc::new(shared), terms })
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
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.charge(&charge).await })
    }

    fn inquire(&self, charge: Charge) -> Answer<Inquiry> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { inquiry::inquire(&shared.http, &shared.listing, &charge).await })
    }
}

impl Shared {
    async fn charge(&self, charge: &Charge) -> Outcome {
        let body = match request::body(charge) {
            Ok(body) => body,
            Err(NoBody::Version) => {
                let version = charge.request_version;
                let reason = format!("this paylog does not know request version {version}");
                return Outcome::NotExecuted { reason, retry_after: None };
            }
            Err(NoBody::Amount) => {
                let message = "This amount cannot be charged in this currency.".to_owned();
                return Outcome::Declined { code: "invalid_amount".to_owned(), message };
            }
        };
        match self.http.post("/v1/payment_intents", &charge.key.to_string(), body).await {
            Ok(answered) => {
                self.complain(charge, answered.status);
                answer::charged(charge, &answered)
            }
            Err(NoAnswer::NotSent(reason)) => Outcome::NotSent { reason },
            Err(NoAnswer::Lost(reason)) => Outcome::Unknown { reason, answered: false },
        }
    }

    /// Whoever runs paylog has to act on these, and nobody else can.
    fn complain(&self, charge: &Charge, status: u16) {
        if !matches!(status, 400..=401 | 403) || !self.complaints.now() {
            return;
        }
        match status {
            400 => tracing::warn!(payment = %charge.key, "the gateway would not take a request as it is"),
            _ => tracing::error!(status, "the gateway refuses our secret key: nothing can be charged"),
        }
    }
}
