//! Which browsers are, or were, to be told how a payment ended: by what was tried, and by who is subscribed now. An instance need
//! not look for what is to be told itself, and nobody writes down that a subscription was over before its turn came: such a
//! one, where nobody tried, is shown only by who looks.

use std::sync::Arc;
use std::time::Duration;

use warp::http::{HeaderMap, StatusCode};
use warp::reply::Response;

use super::PushApi;
use crate::api::webhooks::ListBody;
use crate::api::{json, not_found as payment_not_found};
use crate::contract::PushedBody;
use crate::control::{KnownSubscription, TargetId};
use crate::deliveries::Told;
use crate::deliveries::outcome::{Cause, WorkId};
use crate::http::{Problem, Query};
use crate::payment::{EventData, PaymentId};
use crate::projection::Entry;

/// What nobody has tried for so long is no longer said to be going to be: any message is too old by then.
const UNTRIED_MAX: Duration = Duration::from_secs(4 * 24 * 60 * 60);

/// For the merchant alone, as what became of attempts is.
pub(super) fn show(push: &PushApi, headers: &HeaderMap, id: &str, query: &Query) -> Result<Response, Problem> {
    let merchant = push.told.merchant(headers)?;
    query.only(&[])?;
    let id = PaymentId::parse(id).ok_or_else(payment_not_found)?;
    let entries = push.told.api.view.events_after(id, 0, usize::MAX)?;
    if entries.first().is_none_or(|entry| entry.payment.initiation.merchant_id != merchant) {
        return Err(payment_not_found());
    }
    let mut data = Vec::new();
    for entry in &entries {
        let (event, version) = (entry.event.data.name(), entry.version.unwrap_or_default());
        for told in of_event(push, entry)? {
            let service = known(push, told.work.target).map(|known| known.subscription.service.clone());
            data.push(PushedBody::new(event, version, service, &told));
        }
    }
    Ok(json(StatusCode::OK, &ListBody { data, next_cursor: None }))
}

fn of_event(push: &PushApi, entry: &Entry) -> Result<Vec<Told>, Problem> {
    // Who is subscribed is asked first: of one that is told and over meanwhile the rows say so.
    let hear = who_are_to_hear(push, entry);
    let mut targets = push.told.deliveries.pushed(entry.position)?;
    targets.extend(hear.iter().map(|known| TargetId::from(known.subscription.id)));
    targets.sort_unstable_by_key(|target| target.to_bytes());
    targets.dedup();
    let mut all = Vec::new();
    for target in targets {
        let mut told = push.told.deliveries.of_event(target, entry.position)?;
        if told.is_empty() {
            let (partition, offset) = (entry.position.partition, entry.position.offset);
            let work = WorkId { target, partition, offset, cause: Cause::Live };
            told.push(Told { work, state: "pending", attempts: 0, next_at: None });
        }
        let is_over = known(push, target).is_none_or(|known| has_ended(push, &known));
        all.extend(told.into_iter().map(|told| if is_over { as_it_ended(told) } else { told }));
    }
    Ok(all)
}

/// Those who are to be told it without any row that says so.
fn who_are_to_hear(push: &PushApi, entry: &Entry) -> Vec<Arc<KnownSubscription>> {
    let (initiation, now) = (&entry.payment.initiation, push.told.api.view.clocks().machine());
    let is_end = matches!(entry.event.data, EventData::PaymentSuccessful(_) | EventData::PaymentFailed(_));
    if !is_end || entry.version.is_none() || now.since(entry.event.occurred_at) >= UNTRIED_MAX {
        return Vec::new();
    }
    let (merchant, customer) = (&initiation.merchant_id, &initiation.customer_id);
    let hear = push.told.control.subscriptions().who_hear(merchant, entry.payment.id, customer);
    hear.into_iter().filter(|known| known.subscription.covers(entry.position) && !has_ended(push, known)).collect()
}

/// Nobody tells it any more what it was not told.
fn as_it_ended(told: Told) -> Told {
    if told.state == "pending" { Told { state: "dropped", next_at: None, ..told } } else { told }
}

fn known(push: &PushApi, target: TargetId) -> Option<Arc<KnownSubscription>> {
    match target {
        TargetId::Subscription(id) => push.told.control.subscriptions().find(id),
        TargetId::Endpoint(_) => None,
    }
}

fn has_ended(push: &PushApi, known: &KnownSubscription) -> bool {
    let (keys, now) = (push.told.control.keys(), push.told.api.view.clocks().machine());
    known.subscription.has_ended(&keys, now)
}
