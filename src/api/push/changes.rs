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
use crate::contract::{SubscriptionBody, partition, text};
use crate::control::{
    Decided, Keys, KnownSubscription, Lease, NewSubscription, NoRoom, PushFrom, PushRemoval, PushScope, SecretsKey,
    SubscriptionId, SubscriptionLimits,
};
use crate::http::{Problem, Query};
use crate::journal::Offset;
use crate::payment::{MerchantId, PaymentId, Timestamp};
use crate::webpush::Subscription;

/// Before another change where there were too many.
const BUSY_PAUSE: Duration = Duration::from_secs(60);

/// And where the log is read slowly.
const UNCONFIRMED_PAUSE: Duration = Duration::from_secs(2);

/// How long a browser is told that was subscribed with a stream token. A page that asks again in the second half of it has it
/// begin anew.
const LEASE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Whom a browser is told for, from where on.
struct Place {
    merchant: MerchantId,
    scope: PushScope,
    from: PushFrom,
}

/// The same browser for the same is one subscription, however often it asks.
pub(super) async fn create<S, B>(
    push: &Arc<PushApi>,
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
    let mut new = seal(key, &browser, place)?;
    let now = push.told.api.view.clocks().machine();
    new.lease = caller.named().map(|_| Lease { ends_at: now.plus(LEASE), key: caller.permit().key().cloned() });
    let push = Arc::clone(push);
    to_the_end(async move { subscribe_in_turn(&push, new, &browser.subscription).await }).await
}

/// Whether its request is waited for or not: what is on its way to the log keeps its turn until it is known what came of it.
async fn to_the_end<F>(decision: F) -> Result<Response, Problem>
where
    F: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    tokio::spawn(decision).await.unwrap_or_else(|_| Err(Problem::internal()))
}

async fn subscribe_in_turn(
    push: &PushApi,
    mut new: NewSubscription,
    subscription: &Subscription,
) -> Result<Response, Problem> {
    let key = push.told.key.as_ref().ok_or_else(Problem::internal)?;
    let (keys, now) = (push.told.control.keys(), push.told.api.view.clocks().machine());
    let _turn = push.turns.take(&new.merchant, &new.scope).await?;
    let known = push.told.control.subscriptions().find(new.id);
    let known = known.filter(|known| !known.subscription.has_ended(&keys, now));
    match known.filter(|known| is_same(key, known, subscription)) {
        None => subscribe(push, &new, StatusCode::CREATED).await,
        // While there are too many changes it is told on as it is.
        Some(known) if is_to_be_renewed(&known.subscription, &new, &keys, now) && has_room(push, &new).is_ok() => {
            // What it has not been told yet is still to be told.
            new.from = known.subscription.from.clone();
            subscribe(push, &new, StatusCode::OK).await
        }
        Some(known) => Ok(shown(StatusCode::OK, &known)),
    }
}

pub(super) async fn delete(push: &Arc<PushApi>, headers: &HeaderMap, id: &str) -> Result<Response, Problem> {
    let caller = push.told.api.access.caller(headers)?;
    push.find(&caller, id)?;
    let (push, id) = (Arc::clone(push), id.to_owned());
    to_the_end(async move { unsubscribe_in_turn(&push, &caller, &id).await }).await
}

async fn unsubscribe_in_turn(push: &PushApi, caller: &Caller, id: &str) -> Result<Response, Problem> {
    let known = push.find(caller, id)?;
    // Whoever asks for it a second time finds nothing then, and writes nothing to the log.
    let _turn = push.turns.take(&known.subscription.merchant, &known.subscription.scope).await?;
    let known = push.find(caller, id)?;
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
    Ok(NewSubscription { id, merchant, scope, from, service: browser.service.clone(), sealed, lease: None })
}

/// Another key for secrets, or other keys of the browser's, make it another.
fn is_same(key: &SecretsKey, known: &KnownSubscription, subscription: &Subscription) -> bool {
    let opened = key.open(&known.subscription.id.to_string(), &known.subscription.sealed).ok();
    opened.and_then(|secret| Subscription::of_secret(&secret)).as_ref() == Some(subscription)
}

/// Does the request have it told for longer than it is? Not each one: all of them stand on the control log.
fn is_to_be_renewed(known: &NewSubscription, new: &NewSubscription, keys: &Keys, now: Timestamp) -> bool {
    let (Some(lease), Some(_)) = (&known.lease, &new.lease) else { return known.lease.is_some() };
    let key = lease.key.as_ref().map(|id| keys.find(id).is_some_and(|key| key.is_good(now)));
    lease.ends_at.since(now) < LEASE / 2 || key == Some(false)
}

fn has_room(push: &PushApi, new: &NewSubscription) -> Result<(), Problem> {
    let (now, limits) = (push.told.api.view.clocks().machine(), SubscriptionLimits::OURS);
    push.told.control.subscriptions().no_room(new, now, limits).map_or(Ok(()), |why| Err(no_room(why, limits)))
}

fn no_room(why: NoRoom, limits: SubscriptionLimits) -> Problem {
    let too_many = |detail: String| Problem::new(StatusCode::CONFLICT, "too_many_push_subscriptions", detail);
    match why {
        NoRoom::OfScope => too_many(format!("there are {} browsers for it already: delete one first", limits.of_scope)),
        NoRoom::OfMerchant => {
            too_many(format!("there are {} push subscriptions already: delete some first", limits.of_merchant))
        }
        NoRoom::All => {
            let detail = format!(
                "this installation has {} push subscriptions, which is all that it takes: some end with their payments, so \
                 try again later",
                limits.all
            );
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "push_is_full", detail).retry_after(BUSY_PAUSE)
        }
        NoRoom::Busy => {
            let detail = format!("browsers came and went {} times within an hour: try again later", limits.changes);
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_push_changes", detail).retry_after(BUSY_PAUSE)
        }
    }
}

/// Of the few that there may be of one payment or customer, those that are over take nobody's place. The fold counts all that
/// nobody has ended, for it knows no clock: so one of them is ended first.
async fn make_room(push: &PushApi, new: &NewSubscription) -> Result<(), Problem> {
    let (control, now) = (&push.told.control, push.told.api.view.clocks().machine());
    let is_full = || control.subscriptions().no_room(new, now, SubscriptionLimits::OURS) == Some(NoRoom::OfScope);
    let ended = if is_full() { control.subscriptions().ended_of(new, &control.keys(), now) } else { Vec::new() };
    let patience = push.told.api.config.confirm_wait;
    let end = |over: Arc<KnownSubscription>| async move {
        let removed = control.unsubscribe(&over, PushRemoval::Ended, now, patience).await;
        removed.map_err(|error| not_recorded(&error))
    };
    end_until(ended, || !is_full(), end).await
}

/// Ends no more of them than are needed. Where it is not known yet what ending one has come to, it is not known whether another is.
async fn end_until<F>(
    ended: Vec<Arc<KnownSubscription>>,
    has_room: impl Fn() -> bool,
    end: impl Fn(Arc<KnownSubscription>) -> F,
) -> Result<(), Problem>
where
    F: Future<Output = Result<Decided<()>, Problem>>,
{
    for over in ended {
        match end(over).await? {
            _ if has_room() => break,
            Decided::Effective(()) | Decided::Late => {}
            Decided::Unconfirmed => return Err(unconfirmed()),
        }
    }
    Ok(())
}

fn unconfirmed() -> Problem {
    let detail = "a browser that is over makes room for this one, which is on the log, and this instance has not read it there \
                  yet: repeat the request";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unconfirmed", detail).retry_after(UNCONFIRMED_PAUSE)
}

async fn subscribe(push: &PushApi, new: &NewSubscription, done: StatusCode) -> Result<Response, Problem> {
    make_room(push, new).await?;
    has_room(push, new)?;
    let (at, patience) = (push.told.api.view.clocks().machine(), push.told.api.config.confirm_wait);
    let decided = push.told.control.subscribe(new, at, patience).await;
    match decided.map_err(|error| not_recorded(&error))? {
        Decided::Effective(known) => Ok(shown(done, &known)),
        // The same browser has asked another instance at the same time, or others there have taken the last room.
        Decided::Late => match push.told.control.subscriptions().find(new.id) {
            Some(known) => Ok(shown(StatusCode::OK, &known)),
            None => {
                has_room(push, new)?;
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
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = UnconfirmedPushSubscription)]
pub(in crate::api) struct Unconfirmed {
    #[schema(value_type = text::PushSubscriptionId)]
    id: SubscriptionId,
    confirmed: bool,
}

fn shown(status: StatusCode, known: &Arc<KnownSubscription>) -> Response {
    json(status, &SubscriptionBody::new(known))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use warp::http::StatusCode;

    use super::{LEASE, end_until, is_to_be_renewed};
    use crate::access::ApiKey;
    use crate::control::{
        Decided, Holder, Key, Keys, KnownSubscription, Lease, NewSubscription, PushFrom, PushScope, SubscriptionId,
    };
    use crate::journal::Offset;
    use crate::payment::samples::{at, payment_id};
    use crate::payment::{MerchantId, Timestamp};

    fn of(lease: Option<Lease>) -> NewSubscription {
        let sealed = serde_json::from_str(r#"{"key_id":"01020304","sealed":"AAAA"}"#).unwrap();
        let (id, service) = (SubscriptionId([1; 16]), String::new());
        let (scope, from) = (PushScope::Payment(payment_id("a")), PushFrom::One(Offset(0)));
        NewSubscription { id, merchant: MerchantId::default(), scope, from, service, sealed, lease }
    }

    /// Room is made by one that is over, and where that is not known yet by none more.
    #[tokio::test]
    async fn no_more_are_ended_than_make_room() {
        let known = |n| KnownSubscription {
            subscription: of(None),
            created_at: at(0),
            version: n,
            control_offset: Offset(n),
            since: Offset(n),
        };
        let all: Vec<_> = (1..=9).map(|n| Arc::new(known(n))).collect();
        let ended = Cell::new(0);
        let come_to = |decided| {
            ended.set(ended.get() + 1);
            std::future::ready(Ok(decided))
        };
        let problem = end_until(all.clone(), || false, |_| come_to(Decided::Unconfirmed)).await.unwrap_err();
        assert_eq!((ended.take(), problem.status()), (1, StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(problem.code(), "unconfirmed");
        let has_room = || ended.get() == 2;
        end_until(all.clone(), has_room, |_| come_to(Decided::Late)).await.unwrap();
        assert_eq!(ended.take(), 2);
        end_until(all, || true, |_| come_to(Decided::Unconfirmed)).await.unwrap();
        assert_eq!(ended.take(), 1, "it was folded all the same");
    }

    #[test]
    fn a_subscription_is_renewed_in_the_second_half_of_its_time_or_when_its_key_is_good_no_more() {
        let holder = Holder::Merchant(MerchantId::default());
        let api_key = ApiKey::generate(&holder);
        let keys = Keys::default();
        let key = Key::of_this_process(api_key.id.clone(), holder, api_key.digest, at(0));
        keys.tell(key.clone());
        let leased = |ends_at: Timestamp| of(Some(Lease { ends_at, key: Some(api_key.id.clone()) }));
        let half = i64::try_from(LEASE.as_secs() / 2).unwrap();
        let renews = |known: &NewSubscription, new: &NewSubscription| is_to_be_renewed(known, new, &keys, at(0));
        let new = leased(at(2 * half));
        assert!(!renews(&leased(at(half)), &new) && renews(&leased(at(half - 1)), &new));
        assert!(renews(&leased(at(half)), &of(None)), "its merchant has it told for good");
        assert!(!renews(&of(None), &new) && !renews(&of(None), &of(None)), "which a page does not take back");
        keys.tell(key.with_end(at(0)));
        assert!(renews(&leased(at(2 * half)), &new), "it hangs on a key that goes");
    }
}
