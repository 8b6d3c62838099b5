//! Browsers that come and go.

use std::sync::Arc;
use std::time::Duration;

use bytes::Buf;
use futures_util::Stream;
use warp::http::{HeaderMap, StatusCode};
use warp::reply::{Reply, Response};

use super::body::{self, Browser};
use super::{PushApi, not_found};
use crate::access::{Caller, Named};
use crate::api::webhooks::not_recorded;
use crate::api::{json, not_found as payment_not_found};
use crate::contract::{SubscriptionBody, partition};
use crate::control::{
    CHANGES_MAX, Decided, KnownSubscription, NewSubscription, OF_MERCHANT_MAX, OF_SCOPE_MAX, PushFrom, PushRemoval,
    PushScope, SecretsKey, SubscriptionId,
};
use crate::http::{Problem, Query};
use crate::journal::Offset;
use crate::payment::{MerchantId, PaymentId};
use crate::webpush::Subscription;

/// Before another change where there were too many.
const BUSY_PAUSE: Duration = Duration::from_secs(60);

/// Whom a browser is told for, from where on.
struct Place {
    merchant: MerchantId,
    scope: PushScope,
    from: PushFrom,
}

/// The same browser for the same is one subscription, however often it asks.
pub(super) async fn create<S, B>(
    push: &PushApi,
    headers: &HeaderMap,
    query: &Query,
    body: S,
) -> Result<Response, Problem>
where
    S: Stream<Item = Result<B, warp::Error>>,
    B: Buf,
{
    let caller = push.told.api.access.caller(headers)?;
    query.only(&["at_least"])?;
    let asked = push.told.document(headers, body).await?;
    let vapid = push.vapid()?;
    let browser = body::browser(&asked, push.told.allow_private)?;
    if browser.application_server_key.as_deref().is_some_and(|key| key.trim_end_matches('=') != vapid.public()) {
        let detail = "the browser has subscribed with another applicationServerKey than that of GET /v1/push, and nothing can \
                      be sent to it: unsubscribe it, and subscribe it anew";
        return Err(Problem::new(StatusCode::CONFLICT, "other_application_server_key", detail));
    }
    let key = push.told.key.as_ref().ok_or_else(Problem::internal)?;
    let place = place(push, &caller, query, &browser).await?;
    let new = seal(key, &browser, place)?;
    match push.told.control.subscriptions().find(new.id) {
        Some(known) if is_same(key, &known, &browser.subscription) => Ok(shown(StatusCode::OK, &known)),
        known => {
            has_room(push, &new, known.is_some())?;
            subscribe(push, &new).await
        }
    }
}

pub(super) async fn delete(push: &PushApi, headers: &HeaderMap, id: &str) -> Result<Response, Problem> {
    let known = push.find(&push.told.api.access.caller(headers)?, id)?;
    let (at, patience) = (push.told.api.view.clocks().machine(), push.told.api.config.confirm_wait);
    let removed = push.told.control.unsubscribe(&known, PushRemoval::Asked, at, patience).await;
    match removed.map_err(|error| not_recorded(&error))? {
        Decided::Effective(()) | Decided::Unconfirmed => Ok(StatusCode::NO_CONTENT.into_response()),
        Decided::Late => Err(not_found()),
    }
}

/// What the request names, or, if it names nothing, what its token does.
async fn place(push: &PushApi, caller: &Caller, query: &Query, browser: &Browser) -> Result<Place, Problem> {
    match browser.named.as_ref().or(caller.named()).ok_or_else(body::of_what)? {
        Named::Payment(id) => of_payment(push, caller, query, *id).await,
        Named::Customer(customer) => {
            let scope = caller.scope(Some(customer.clone()))?;
            let from = push.told.ends().await?.into_iter().map(Offset).collect();
            Ok(Place {
                merchant: scope.merchant,
                scope: PushScope::Customer(customer.clone()),
                from: PushFrom::Each(from),
            })
        }
    }
}

async fn of_payment(push: &PushApi, caller: &Caller, query: &Query, id: PaymentId) -> Result<Place, Problem> {
    let api = &push.told.api;
    caller.may_ask(id)?;
    let home = partition(id, api.view.partitions());
    if let Some(position) = api.at_least(query)?.and_then(|at_least| at_least.on(home)) {
        api.in_time(api.view.wait_folded(position)).await?;
    }
    // Before the row is read, so that an end that is not in it comes behind this.
    let from = api.view.folded_to(home);
    let row = api.row(caller, id)?.ok_or_else(payment_not_found)?;
    if row.payment.is_terminal() {
        let detail = "the payment has ended: there is nothing more to be told of it";
        return Err(Problem::new(StatusCode::CONFLICT, "payment_ended", detail));
    }
    let merchant = row.payment.initiation.merchant_id;
    Ok(Place { merchant, scope: PushScope::Payment(id), from: PushFrom::One(from) })
}

fn seal(key: &SecretsKey, browser: &Browser, place: Place) -> Result<NewSubscription, Problem> {
    let Place { merchant, scope, from } = place;
    let id = SubscriptionId::of(merchant.as_str(), &scope.text(), browser.subscription.endpoint());
    let secret = browser.subscription.to_secret().map_err(|_| Problem::internal())?;
    let sealed = key.seal(&id.to_string(), &secret).map_err(|_| Problem::internal())?;
    Ok(NewSubscription { id, merchant, scope, from, service: browser.service.clone(), sealed })
}

/// Another key for secrets, or other keys of the browser's, make it another.
fn is_same(key: &SecretsKey, known: &KnownSubscription, subscription: &Subscription) -> bool {
    let opened = key.open(&known.subscription.id.to_string(), &known.subscription.sealed).ok();
    opened.and_then(|secret| Subscription::of_secret(&secret)).as_ref() == Some(subscription)
}

fn has_room(push: &PushApi, new: &NewSubscription, is_known: bool) -> Result<(), Problem> {
    let (all, now) = (push.told.control.subscriptions(), push.told.api.view.clocks().machine());
    let too_many = |detail: String| Err(Problem::new(StatusCode::CONFLICT, "too_many_push_subscriptions", detail));
    if !is_known && all.count_of(&new.merchant, &new.scope) >= OF_SCOPE_MAX {
        return too_many(format!("there are {OF_SCOPE_MAX} browsers for it already: delete one first"));
    }
    if !is_known && all.count_of_merchant(&new.merchant) >= OF_MERCHANT_MAX {
        return too_many(format!("there are {OF_MERCHANT_MAX} push subscriptions already: delete some first"));
    }
    if all.is_busy(&new.merchant, &new.scope, now) {
        let detail = format!("browsers came and went {CHANGES_MAX} times within an hour: try again later");
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_push_changes", detail);
        return Err(problem.retry_after(BUSY_PAUSE));
    }
    Ok(())
}

async fn subscribe(push: &PushApi, new: &NewSubscription) -> Result<Response, Problem> {
    let (at, patience) = (push.told.api.view.clocks().machine(), push.told.api.config.confirm_wait);
    let decided = push.told.control.subscribe(new, at, patience).await;
    match decided.map_err(|error| not_recorded(&error))? {
        Decided::Effective(known) => Ok(shown(StatusCode::CREATED, &known)),
        // The same browser has asked twice at once.
        Decided::Late => match push.told.control.subscriptions().find(new.id) {
            Some(known) => Ok(shown(StatusCode::OK, &known)),
            None => {
                let detail = "the browser has come and gone at the same time: repeat the request";
                Err(Problem::new(StatusCode::CONFLICT, "changed_meanwhile", detail))
            }
        },
        Decided::Unconfirmed => {
            let unconfirmed = Unconfirmed { id: new.id, confirmed: false };
            Ok(json(StatusCode::ACCEPTED, &unconfirmed))
        }
    }
}

/// It is on the control log, and this instance has not folded it yet.
#[derive(serde::Serialize)]
struct Unconfirmed {
    id: SubscriptionId,
    confirmed: bool,
}

fn shown(status: StatusCode, known: &Arc<KnownSubscription>) -> Response {
    json(status, &SubscriptionBody::new(known))
}
