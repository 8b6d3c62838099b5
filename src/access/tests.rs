use std::time::Duration;

use warp::http::header::WWW_AUTHENTICATE;
use warp::http::{HeaderMap, HeaderValue};
use warp::reply::Reply;

use super::{Access, ApiKey, COOKIE_NAME, Door, Named, Tokens, WithoutKey};
use crate::clock::Clocks;
use crate::control::{Holder, Key, Keys};
use crate::http::Problem;
use crate::journal::LogId;
use crate::payment::samples::at;
use crate::payment::{CustomerId, MerchantId, PaymentId};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

struct World {
    access: Access,
    keys: Keys,
}

fn world(loopback: bool, without_key: WithoutKey) -> World {
    let keys = Keys::default();
    let tokens = Tokens::new(SECRET, LogId([7; 16])).unwrap();
    let access = Access::new(keys.clone(), Some(tokens), Door { loopback, without_key }, Clocks::system());
    World { access, keys }
}

impl World {
    fn key(&self, holder: Holder) -> ApiKey {
        let key = ApiKey::generate(&holder);
        self.keys.tell(Key::of_this_process(key.id.clone(), holder, key.digest, at(0)));
        key
    }

    fn acme(&self) -> ApiKey {
        self.key(Holder::Merchant(MerchantId::parse("acme").unwrap()))
    }
}

fn bearer(text: &str) -> HeaderMap {
    let mut headers = here();
    headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {text}")).unwrap());
    headers
}

fn here() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("localhost:8080"));
    headers
}

/// The status, the code and the challenge of what is refused.
fn refused<T>(result: Result<T, Problem>) -> (u16, String, String) {
    let Err(problem) = result else { panic!("it is let in") };
    let code = serde_json::to_value(problem.body()).unwrap()["code"].as_str().unwrap().to_owned();
    let response = problem.into_response();
    let challenge = response.headers().get(WWW_AUTHENTICATE).map_or("", |value| value.to_str().unwrap());
    (response.status().as_u16(), code, challenge.to_owned())
}

fn is(status: u16, code: &str, error: &str) -> (u16, String, String) {
    let error = if error.is_empty() { String::new() } else { format!(", error=\"{error}\"") };
    (status, code.to_owned(), format!("Bearer realm=\"paylog\"{error}"))
}

#[test]
fn a_key_opens_what_its_holder_has() {
    let world = world(false, WithoutKey::Always);
    let (acme, ops) = (world.acme(), world.key(Holder::Operator));
    let caller = world.access.caller(&bearer(acme.reveal())).unwrap();
    assert_eq!(caller.merchant().unwrap().as_str(), "acme");
    assert!(world.access.operator(&bearer(ops.reveal())).is_ok());
    assert_eq!(
        refused(world.access.caller(&bearer(ops.reveal()))),
        is(403, "insufficient_scope", "insufficient_scope")
    );
    assert_eq!(
        refused(world.access.operator(&bearer(acme.reveal()))),
        is(403, "insufficient_scope", "insufficient_scope")
    );
    let mut relayed = bearer(ops.reveal());
    relayed.insert("x-forwarded-for", HeaderValue::from_static("10.0.0.1"));
    assert!(world.access.operator(&relayed).is_ok(), "with a key the way does not matter");
}

#[test]
fn what_is_no_good_key_is_refused_wherever_it_comes_from() {
    let world = world(true, WithoutKey::Always);
    let good = world.acme();
    let mut guessed = ApiKey::generate(&Holder::Operator).reveal().to_owned();
    assert_eq!(refused(world.access.caller(&bearer(&guessed))), is(401, "invalid_key", "invalid_token"));
    guessed.replace_range(..20, &good.reveal()[..20]);
    assert_eq!(refused(world.access.caller(&bearer(&guessed))), is(401, "invalid_key", "invalid_token"));
    assert_eq!(refused(world.access.caller(&bearer("plk_x"))), is(401, "invalid_key", "invalid_token"));
    assert_eq!(refused(world.access.caller(&bearer("x"))), is(401, "invalid_token", "invalid_token"));
    let mut basic = here();
    basic.insert("authorization", HeaderValue::from_static("Basic eDp5"));
    assert_eq!(refused(world.access.caller(&basic)), is(400, "invalid_authorization", "invalid_request"));
    let mut twice = bearer(good.reveal());
    twice.append("authorization", HeaderValue::from_static("Bearer x"));
    assert_eq!(refused(world.access.caller(&twice)), is(400, "invalid_authorization", "invalid_request"));
    let known = world.keys.find(&good.id).unwrap();
    let ended = known.with_end(at(1));
    world.keys.tell(ended.clone());
    assert_eq!(refused(world.access.caller(&bearer(good.reveal()))), is(401, "key_expired", "invalid_token"));
    world.keys.tell(ended.revoked());
    assert_eq!(refused(world.access.caller(&bearer(good.reveal()))), is(401, "key_revoked", "invalid_token"));
}

#[test]
fn without_a_key_only_this_machine_is_let_in_and_only_where_that_is_allowed() {
    for (loopback, without_key, lets_in) in [
        (true, WithoutKey::Always, true),
        (true, WithoutKey::UntilThereIsOne, true),
        (true, WithoutKey::Never, false),
        (false, WithoutKey::Always, false),
    ] {
        let world = world(loopback, without_key);
        let caller = world.access.caller(&here());
        assert_eq!(caller.is_ok(), lets_in, "{loopback} {without_key:?}");
        assert_eq!(world.access.operator(&here()).is_ok(), lets_in);
        if !lets_in {
            assert_eq!(refused(caller), is(401, "authentication_required", ""));
            assert_eq!(refused(world.access.operator(&here())), is(401, "authentication_required", ""));
        }
    }
    let world = world(true, WithoutKey::Always);
    let mut relayed = here();
    relayed.insert("via", HeaderValue::from_static("1.1 x"));
    assert_eq!(refused(world.access.caller(&relayed)), is(401, "authentication_required", ""));
}

#[test]
fn a_token_opens_what_it_names_and_ends_with_its_key() {
    let world = world(false, WithoutKey::Always);
    let acme = world.acme();
    let backend = world.access.caller(&bearer(acme.reveal())).unwrap();
    let customer = || CustomerId::parse("cus_1").unwrap();
    let (one, other) = (PaymentId::from_bytes([1; 16]), PaymentId::from_bytes([2; 16]));
    let issue = |named| world.access.issue(&backend, named, Duration::from_secs(60)).unwrap();
    let token = issue(Named::Customer(customer()));
    let browser = world.access.caller(&bearer(token.reveal())).unwrap();
    assert!(browser.scope(Some(customer())).is_ok() && browser.merchant().is_err());
    assert!(browser.scope(None).is_err() && browser.scope(Some(CustomerId::parse("cus_2").unwrap())).is_err());
    let named = issue(Named::Payment(one));
    let watcher = world.access.caller(&bearer(named.reveal())).unwrap();
    assert!(watcher.may_ask(one).is_ok() && watcher.scope(Some(customer())).is_err());
    assert_eq!(refused(watcher.may_ask(other)), is(403, "insufficient_scope", "insufficient_scope"));
    assert!(
        world.access.issue(&browser, Named::Payment(one), Duration::from_secs(60)).is_err(),
        "no token from a token"
    );
    assert!(world.access.operator(&bearer(token.reveal())).is_err());

    let mut with_cookie = HeaderMap::new();
    let pair = format!("a=b; {COOKIE_NAME}={}", token.reveal());
    with_cookie.insert("cookie", HeaderValue::from_str(&pair).unwrap());
    assert!(world.access.caller(&with_cookie).is_ok());
    let pair = format!("{COOKIE_NAME}={}", acme.reveal());
    with_cookie.insert("cookie", HeaderValue::from_str(&pair).unwrap());
    assert_eq!(refused(world.access.caller(&with_cookie)).1, "invalid_token", "a key is not kept in a browser");

    let known = world.keys.find(&acme.id).unwrap();
    world.keys.tell(known.revoked());
    assert_eq!(refused(world.access.caller(&bearer(token.reveal()))), is(401, "key_revoked", "invalid_token"));
}

#[test]
fn a_ticket_opens_one_stream() {
    let world = world(true, WithoutKey::Always);
    let backend = world.access.caller(&here()).unwrap();
    let one = PaymentId::from_bytes([1; 16]);
    let token = world.access.issue(&backend, Named::Payment(one), Duration::from_secs(60)).unwrap();
    let ticket = world.access.ticket(&bearer(token.reveal())).unwrap();
    assert!(ticket.expires_at < token.expires_at);
    let follow = |headers: &HeaderMap, ticket: &str| {
        world.access.follower(headers, Some(ticket), |_| Ok(())).map(|(caller, _)| caller)
    };
    let full = world.access.follower(&here(), Some(ticket.reveal()), |_| Err::<(), _>(Problem::internal()));
    assert!(full.is_ok_and(|(_, place)| place.is_err()), "who is turned away comes back with it");
    let follower = follow(&here(), ticket.reveal()).unwrap();
    assert!(follower.may_ask(one).is_ok() && follower.merchant().is_err());
    assert_eq!(refused(follow(&here(), ticket.reveal())), is(401, "ticket_used", "invalid_token"));
    assert_eq!(refused(follow(&here(), token.reveal())), is(401, "invalid_token", "invalid_token"));
    assert_eq!(refused(world.access.caller(&bearer(ticket.reveal()))), is(401, "invalid_token", "invalid_token"));
    let again = world.access.ticket(&bearer(token.reveal())).unwrap();
    let both = follow(&bearer(token.reveal()), again.reveal());
    assert_eq!(refused(both), is(400, "invalid_authorization", "invalid_request"));
}

#[tokio::test]
async fn a_permit_ends_when_its_key_is_revoked() {
    let world = world(false, WithoutKey::Always);
    let acme = world.acme();
    let caller = world.access.caller(&bearer(acme.reveal())).unwrap();
    let ended = tokio::spawn(caller.permit().clone().ended());
    let known = world.keys.find(&acme.id).unwrap();
    world.acme();
    assert!(!ended.is_finished(), "another key changes nothing");
    world.keys.tell(known.revoked());
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("it goes on").unwrap();
}
