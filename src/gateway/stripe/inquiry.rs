//! What became of a charge, when its answer was lost: found at the provider by the payment's id, which every charge of ours
//! carries in its metadata. First by a search, which costs one call however busy the account is; what it does not find, for
//! its index lags behind, is looked for in the list of all charges since the payment began. Only a list read to its end says
//! "not found", and only such a list says no where an operator had a payment charged again: the search may show the old no
//! and not yet the new yes.

use std::sync::Arc;
use std::time::Duration;

use super::answer::{Intent, Standing};
use super::http::{ANSWER_BYTES_MAX, Answered, Http, NoAnswer, PAGE_BYTES_MAX};
use super::listing::{Found, Listing, PAGE, Page};
use super::request::form;
use crate::gateway::{Charge, Inquiry};
use crate::payment::PaymentId;

/// For one inquiry, below the processor's 30 s.
const INQUIRY_MAX: Duration = Duration::from_secs(25);
/// The provider's clock may be this far behind ours.
pub(super) const SKEW_SECONDS: i64 = 60;
pub(super) async fn inquire(http: &Arc<Http>, listing: &Arc<Listing>, charge: &Charge) -> Inquiry {
    let late = |_| {
        let reason = format!("the inquiry took longer than {} s", INQUIRY_MAX.as_secs());
        Err(Inquiry::Unknown { reason, answered: false })
    };
    let found = tokio::time::timeout(INQUIRY_MAX, find(http, listing, charge)).await.unwrap_or_else(late);
    found.map_or_else(|unclear| unclear, |intents| judge(charge, &intents))
}

/// In place of an answer: the provider has said something, and it does not settle the matter.
pub(super) fn unclear(reason: String) -> Inquiry {
    Inquiry::Unknown { reason, answered: true }
}

async fn find(http: &Arc<Http>, listing: &Arc<Listing>, charge: &Charge) -> Result<Vec<Intent>, Inquiry> {
    let mut found = search(http, charge.key).await?;
    // The index may be behind: of what it finds, only that there was a success is final.
    for intent in &mut found {
        if !matches!(intent.standing(), Standing::Succeeded(_) | Standing::Unclear(_)) {
            *intent = read(http.get(&format!("/v1/payment_intents/{}", intent.id), ANSWER_BYTES_MAX).await)?;
        }
    }
    if found.iter().any(|intent| counts(charge, intent)) {
        return Ok(found);
    }
    let Found { intents, incomplete } = listing.find(http, charge).await;
    match incomplete {
        // One that is found is the answer: its key allowed no other. (Two of ours would be a disaster.)
        Some(_) if intents.iter().any(|intent| counts(charge, intent)) => Ok(intents),
        Some(unclear) => Err(unclear),
        None => Ok(intents),
    }
}

/// Can it be the answer? A no from before the payment was charged again cannot.
fn counts(charge: &Charge, intent: &Intent) -> bool {
    let from = charge.again_from.map_or(i64::MIN, |again| again.as_micros() / 1_000_000 + SKEW_SECONDS);
    intent.created >= from || !matches!(intent.standing(), Standing::Declined { .. })
}

/// Empty if nothing is found, and where there is no search (Stripe has none in some countries).
async fn search(http: &Http, payment: PaymentId) -> Result<Vec<Intent>, Inquiry> {
    let query = form(&[("query", format!("metadata['payment_id']:'{payment}'")), ("limit", PAGE.to_string())]);
    let answer = http.get(&format!("/v1/payment_intents/search?{query}"), PAGE_BYTES_MAX).await;
    if matches!(&answer, Ok(Answered { status: 400..=499, .. })) {
        return Ok(Vec::new());
    }
    let page: Page = read(answer)?;
    Ok(ours(page.data, payment))
}

fn ours(intents: Vec<Intent>, payment: PaymentId) -> Vec<Intent> {
    intents.into_iter().filter(|intent| intent.belongs_to(payment)).collect()
}

pub(super) fn read<T: serde::de::DeserializeOwned>(answer: Result<Answered, NoAnswer>) -> Result<T, Inquiry> {
    match answer {
        Ok(Answered { status: 200..=299, body, .. }) => {
            serde_json::from_slice(&body).map_err(|_| unclear("an answer to an inquiry that cannot be read".to_owned()))
        }
        Ok(Answered { status, .. }) => {
            Err(Inquiry::Unknown { reason: format!("an inquiry answered with {status}"), answered: status < 500 })
        }
        Err(NoAnswer::NotSent(reason) | NoAnswer::Lost(reason)) => Err(Inquiry::Unknown { reason, answered: false }),
    }
}

/// One yes is the answer; two are a double charge, which no program may settle.
fn judge(charge: &Charge, intents: &[Intent]) -> Inquiry {
    let counted = intents.iter().filter(|intent| counts(charge, intent));
    let standings: Vec<Standing> = counted.map(Intent::standing).collect();
    let mut receipts = standings.iter().filter_map(|standing| match standing {
        Standing::Succeeded(receipt) => Some(receipt),
        _ => None,
    });
    match (receipts.next(), receipts.next()) {
        (Some(receipt), None) => return Inquiry::Succeeded(receipt.clone()),
        (Some(first), Some(second)) => {
            let (first, second) = (&first.reference, &second.reference);
            tracing::error!(payment = %charge.key, first, second, "the gateway has charged this payment twice: refund one by hand");
            return unclear(format!("charged twice: {first} and {second}"));
        }
        (None, _) => {}
    }
    let open = standings.iter().find(|standing| !matches!(standing, Standing::Declined { .. }));
    match open.or(standings.first()) {
        None => Inquiry::NotFound,
        Some(Standing::Unclear(reason)) => unclear(reason.clone()),
        Some(Standing::Declined { code, message }) => {
            Inquiry::Declined { code: code.clone(), message: message.clone() }
        }
        Some(Standing::Running | Standing::Succeeded(_)) => Inquiry::StillRunning,
    }
}

#[cfg(test)]
#[path = "inquiry_tests.rs"]
mod tests;
