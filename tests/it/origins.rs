//! Pages of other origins: which of them a browser shows an answer to, and of what.

use reqwest::Method;
use serde_json::json;

use crate::client::{Answer, Client, body};
use crate::cluster::Bed;
use crate::keys::{closed, create, token};
use crate::socket::Socket;

const SHOP: &str = "https://shop.example";
const SECOND: &str = "http://localhost:3000";
const EVIL: &str = "https://evil.example";

/// What a browser asks before it sends what not every page may send.
async fn before(client: &Client, origin: &str, method: &str, path: &str) -> Answer {
    let headers = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", "authorization"),
    ];
    client.send(Method::OPTIONS, path, &headers, None).await
}

/// To whom it is shown: the origin, and whether with credentials.
fn shown(answer: &Answer) -> (&str, &str) {
    (answer.header("access-control-allow-origin"), answer.header("access-control-allow-credentials"))
}

async fn from(client: &Client, origin: &str, path: &str) -> Answer {
    client.get_with(path, &[("origin", origin)]).await
}

pub async fn pages_of_an_origin_that_is_named_are_shown_what_a_token_opens_and_no_others(bed: &Bed) {
    let acme = create(bed, "acme");
    let mut flags = closed(bed);
    // Twice is what a person would write; the bed knows each flag once.
    flags.extend(["--allow-origin".to_owned(), format!("{SHOP},{SECOND}")]);
    let system = bed.start_with(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let nobody = &system.front.client;
    let acme = nobody.with_key(&acme);
    let paid = acme.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    let token = token(&acme, json!({"customer_id": "cus_1"})).await;
    let browser = nobody.with_key(&token);
    let payment = format!("/v1/payments/{}", paid.text("id"));
    let history = format!("{payment}/events");

    let reads = ["/v1/payments?customer_id=cus_1", "/v1/events?customer_id=cus_1", &payment, &history];
    for path in reads {
        for origin in [SHOP, SECOND] {
            let answer = from(&browser, origin, path).await;
            assert_eq!((answer.status, shown(&answer)), (200, (origin, "true")), "{path}");
            assert_eq!(answer.header("vary"), "origin", "{path}");
            let read = answer.header("access-control-expose-headers");
            assert!(["ETag", "Paylog-Position", "Retry-After"].iter().all(|name| read.contains(name)), "{read}");
            let asked = before(nobody, origin, "GET", path).await;
            assert_eq!((asked.status, shown(&asked)), (204, (origin, "true")), "{path}: {asked:?}");
            assert!(asked.header("access-control-allow-headers").contains("Authorization"), "{asked:?}");
            assert!(asked.header("access-control-allow-methods").contains("GET"), "{asked:?}");
            assert!(!asked.header("access-control-max-age").is_empty() && asked.header("vary").contains("origin"));
        }
        let evil = from(&browser, EVIL, path).await;
        assert_eq!((evil.status, shown(&evil), evil.header("vary")), (200, ("", ""), "origin"), "{path}");
        let asked = before(nobody, EVIL, "GET", path).await;
        assert_eq!((asked.status, shown(&asked), asked.text("code")), (403, ("", ""), "cross_origin"), "{path}");
    }
    let refused = from(nobody, SHOP, &payment).await;
    assert_eq!((refused.status, shown(&refused)), (401, (SHOP, "true")), "a page is shown why");
    let known = [("origin", SHOP), ("if-none-match", browser.get(&payment).await.header("etag")), ("prefer", "wait=1")]
        .map(|(name, value)| (name, value.to_owned()));
    let known = known.each_ref().map(|(name, value)| (*name, value.as_str()));
    let unchanged = browser.get_with(&payment, &known).await;
    assert_eq!((unchanged.status, shown(&unchanged)), (304, (SHOP, "true")));

    for (path, method) in [
        ("/v1/push", "GET"),
        ("/v1/push_subscriptions", "POST"),
        ("/v1/push_subscriptions/ps_1", "DELETE"),
        ("/v1/stream_tokens/ticket", "POST"),
    ] {
        let asked = before(nobody, SHOP, method, path).await;
        assert_eq!((asked.status, shown(&asked)), (204, (SHOP, "true")), "{method} {path}: {asked:?}");
        assert!(asked.header("access-control-allow-methods").contains(method), "{asked:?}");
    }

    // What needs a key is asked for by no page.
    for (path, method) in [
        ("/v1/stream_tokens", "POST"),
        ("/v1/totals", "GET"),
        ("/v1/webhook_endpoints", "GET"),
        ("/v1/operator/parked", "GET"),
        ("/metrics", "GET"),
        ("/", "GET"),
    ] {
        let (asked, answer) = (before(nobody, SHOP, method, path).await, from(&acme, SHOP, path).await);
        assert_eq!((shown(&asked), shown(&answer)), (("", ""), ("", "")), "{path}");
    }
    let methods = before(nobody, SHOP, "POST", "/v1/payments").await;
    assert_eq!(methods.header("access-control-allow-methods"), "GET, HEAD", "a page pays by its own server");
    streams(nobody, &browser).await;
    system.stop().await;
}

/// With a cookie, with a ticket, and from a page that is not allowed.
async fn streams(nobody: &Client, browser: &Client) {
    let at = [("origin", SHOP)];
    let set = browser.send(Method::POST, "/v1/stream_tokens/cookie", &at, None).await;
    assert_eq!((set.status, shown(&set)), (204, (SHOP, "true")));
    let cookie = set.header("set-cookie").split(';').next().unwrap();
    let ticket = browser.send(Method::POST, "/v1/stream_tokens/ticket", &at, None).await;
    assert_eq!((ticket.status, shown(&ticket)), (201, (SHOP, "true")));
    for (origin, allowed) in [(SHOP, SHOP), (EVIL, "")] {
        let headers = [("origin", origin), ("cookie", cookie)];
        let (status, stream) = nobody.stream_with("customer_id=cus_1", &headers).await;
        assert_eq!((status, stream.header("access-control-allow-origin").as_str()), (200, allowed));
        assert_eq!(stream.header("vary"), "origin");
    }
    let query = format!("customer_id=cus_1&ticket={}", ticket.text("ticket"));
    let (status, stream) = nobody.stream_with(&query, &at).await;
    assert_eq!((status, stream.header("access-control-allow-origin").as_str()), (200, SHOP));
    let with_cookie = [("origin", SHOP), ("cookie", cookie)];
    let mut socket = Socket::open_with(nobody, &with_cookie).await.unwrap_or_else(|status| panic!("{status}"));
    socket.subscribe("a", json!({"customer_id": "cus_1"})).await;
    assert_eq!(Socket::open_with(nobody, &[("origin", EVIL), ("cookie", cookie)]).await.err(), Some(403));
}

/// On this machine, where nobody needs a key.
pub async fn a_page_of_another_origin_needs_a_token_where_nobody_needs_a_key(bed: &Bed) {
    // With what tokens are signed with, and nothing that asks for keys.
    let mut flags = closed(bed);
    flags.retain(|flag| flag != "--require-keys");
    flags.extend(["--allow-origin", SHOP].map(str::to_owned));
    let system = bed.start_with(&flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let client = &system.front.client;
    client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    let own = client.url.clone();
    for path in ["/v1/payments", "/v1/events", "/v1/stream"] {
        for (origin, allowed) in [(SHOP, (SHOP, "true")), (EVIL, ("", "")), ("null", ("", ""))] {
            let answer = from(client, origin, path).await;
            let code = answer.text("code");
            assert_eq!(
                (answer.status, code, shown(&answer)),
                (401, "authentication_required", allowed),
                "{origin} {path}"
            );
        }
    }
    assert_eq!(from(client, &own, "/v1/payments").await.status, 200, "paylog's own page does not");
    assert_eq!(from(client, SHOP, "/v1/operator/parked").await.status, 403);
    assert_eq!(Socket::open_with(client, &[("origin", SHOP)]).await.err(), Some(401));
    assert!(Socket::open_with(client, &[("origin", &own)]).await.is_ok());
    let token = token(client, json!({"customer_id": "cus_1"})).await;
    let answer = from(&client.with_key(&token), SHOP, "/v1/payments?customer_id=cus_1").await;
    assert_eq!((answer.status, shown(&answer)), (200, (SHOP, "true")), "with a token it is told");
    system.stop().await;
}

pub async fn nothing_is_said_of_origins_where_none_is_named(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    for path in ["/v1/payments", "/v1/events"] {
        let answer = from(client, SHOP, path).await;
        assert_eq!((answer.status, shown(&answer), answer.header("vary")), (401, ("", ""), ""), "{path}");
        let asked = before(client, SHOP, "GET", path).await;
        assert_eq!((asked.status, shown(&asked)), (405, ("", "")), "{path}");
    }
    assert_eq!(Socket::open_with(client, &[("origin", SHOP)]).await.err(), Some(403));
    system.stop().await;
}
