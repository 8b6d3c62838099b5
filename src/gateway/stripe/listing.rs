//! The list of all charges, read to its end for whoever asks. It is long where many are charged, and after an outage many ask
//! at once: so one reading answers all who asked before it began, and those who come later wait for the next. Were each to
//! read it for itself, none would get to its end in time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::answer::Intent;
use super::http::{Http, PAGE_BYTES_MAX};
use super::inquiry::{SKEW_SECONDS, read, unclear};
use super::request::form;
use crate::gateway::{Charge, Inquiry};
use crate::payment::{PaymentId, Timestamp};

/// Intents on one page: Stripe's maximum.
pub(super) const PAGE: usize = 100;
/// Pages of one reading. An account with more charges than that since a payment began cannot be looked through.
const PAGES_MAX: usize = 100;

#[derive(Default)]
pub(super) struct Listing {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// As many as there may be calls under way.
    waiting: Vec<Asked>,
    is_read: bool,
}

struct Asked {
    payment: PaymentId,
    since: Timestamp,
    reply: oneshot::Sender<Found>,
}

/// The intents of one payment, and why there may be more, if the list was not read to its end.
pub(super) struct Found {
    pub intents: Vec<Intent>,
    pub incomplete: Option<Inquiry>,
}

impl Listing {
    /// What the list has of this payment.
    pub async fn find(self: &Arc<Self>, http: &Arc<Http>, charge: &Charge) -> Found {
        let (reply, found) = oneshot::channel();
        let is_first = {
            let mut state = self.lock();
            state.waiting.push(Asked { payment: charge.key, since: charge.since, reply });
            !std::mem::replace(&mut state.is_read, true)
        };
        if is_first {
            // For the others too: it must go on when this one has given up.
            tokio::spawn(Arc::clone(self).read_for_all(Arc::clone(http)));
        }
        let lost = |_| Found { intents: Vec::new(), incomplete: Some(unclear("the list was not read".to_owned())) };
        found.await.unwrap_or_else(lost)
    }

    async fn read_for_all(self: Arc<Self>, http: Arc<Http>) {
        while let Some(asked) = self.next() {
            // On its own, so that whatever happens to it, the next are served.
            drop(tokio::spawn(answer(Arc::clone(&http), asked)).await);
        }
    }

    fn next(&self) -> Option<Vec<Asked>> {
        let mut state = self.lock();
        state.waiting.retain(|asked| !asked.reply.is_closed());
        state.is_read = !state.waiting.is_empty();
        state.is_read.then(|| std::mem::take(&mut state.waiting))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(http: Arc<Http>, asked: Vec<Asked>) {
    let mut intents: HashMap<PaymentId, Vec<Intent>> = asked.iter().map(|asked| (asked.payment, Vec::new())).collect();
    let since = asked.iter().map(|asked| asked.since).min().unwrap_or(Timestamp::MIN);
    let incomplete = read_since(&http, since, &mut intents).await.err();
    for Asked { payment, reply, .. } in asked {
        let intents = intents.get(&payment).cloned().unwrap_or_default();
        drop(reply.send(Found { intents, incomplete: incomplete.clone() })); // unless it has given up
    }
}

async fn read_since(
    http: &Http,
    since: Timestamp,
    intents: &mut HashMap<PaymentId, Vec<Intent>>,
) -> Result<(), Inquiry> {
    let since = since.as_micros() / 1_000_000 - SKEW_SECONDS;
    let mut last = None::<String>;
    for _ in 0..PAGES_MAX {
        let mut fields = vec![("created[gte]", since.to_string()), ("limit", PAGE.to_string())];
        fields.extend(last.map(|id| ("starting_after", id)));
        let page: Page = read(http.get(&format!("/v1/payment_intents?{}", form(&fields)), PAGE_BYTES_MAX).await)?;
        last = page.data.last().map(|intent| intent.id.clone());
        for intent in page.data {
            if let Some(of_this) = intent.payment_id().and_then(|payment| intents.get_mut(&payment)) {
                of_this.push(intent);
            }
        }
        if !page.has_more {
            return Ok(());
        }
        if last.is_none() {
            return Err(unclear("a list that has more, and nothing on its page".to_owned()));
        }
    }
    Err(unclear(format!("more than {} charges to look through", PAGE * PAGES_MAX)))
}

#[derive(serde::Deserialize)]
pub(super) struct Page {
    pub(super) data: Vec<Intent>,
    has_more: bool,
}
