//! What a merchant's backend gives to a browser: one payment or one customer, for a while, and nothing else.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::body;
use crate::cluster::{Bed, PATIENCE};
use crate::keys::{challenge, create, ended, start_closed, start_closed_with, token};
use crate::socket::Socket;

pub async fn a_socket_opens_by_a_ticket_and_is_told_when_it_is_over(bed: &Bed) {
    let acme = create(bed, "acme");
    let system = start_closed(bed).await;
    let nobody = &system.front.client;
    let acme = nobody.with_key(&acme);
    let paid = acme.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    let token = token(&acme, json!({"customer_id": "cus_1", "expires_in": 3})).await;
    let ticket = nobody.with_key(&token).send(Method::POST, "/v1/stream_tokens/ticket", &[], None).await;
    let mut socket =
        Socket::open_by_ticket(nobody, ticket.text("ticket")).await.unwrap_or_else(|status| panic!("{status}"));
    assert_eq!(Socket::open_by_ticket(nobody, ticket.text("ticket")).await.err(), Some(401), "once");
    socket.subscribe("a", json!({"customer_id": "cus_1"})).await;
    for (id, wish) in [("b", json!({})), ("c", json!({"customer_id": "cus_2"}))] {
        let mut asked = wish;
        asked["type"] = "subscribe".into();
        asked["id"] = id.into();
        socket.ask(&asked).await;
    }
    let (messages, close) = socket.rest().await;
    let told = |id: &str| messages.iter().filter(|message| message["id"] == id).collect::<Vec<_>>();
    assert!(told("a").iter().any(|message| message["data"]["payment"]["id"] == paid.body["id"]), "{messages:?}");
    for id in ["b", "c"] {
        let codes: Vec<&Value> = told(id).iter().map(|message| &message["error"]["code"]).collect();
        assert_eq!(codes, ["insufficient_scope"]);
    }
    assert_eq!(messages.last().unwrap()["error"]["code"], "token_expired", "{messages:?}");
    assert_eq!(close.map(|(code, _)| code), Some(1008));
    drop(socket);
    system.stop().await;
}

pub async fn a_stream_token_opens_what_it_names_until_it_ends(bed: &Bed) {
    let acme = create(bed, "acme");
    let system = start_closed(bed).await;
    let nobody = &system.front.client;
    let acme = nobody.with_key(&acme);
    let paid = acme.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    let theirs = acme.pay_to_the_end("order-2", &body("cus_2", "pm_card_visa")).await;
    let (id, other) = (paid.text("id"), theirs.text("id"));

    let of_payment = nobody.with_key(&token(&acme, json!({"payment_id": id})).await);
    let of_customer = nobody.with_key(&token(&acme, json!({"customer_id": "cus_1"})).await);
    for client in [&of_payment, &of_customer] {
        assert_eq!(client.get(&format!("/v1/payments/{id}")).await.status, 200);
        assert_eq!(client.whole_stream(&format!("payment_id={id}"), None).await.len(), 1, "the snapshot");
    }
    for path in ["/v1/payments?customer_id=cus_1", "/v1/events?customer_id=cus_1"] {
        let page = of_customer.get(path).await;
        assert!(page.status == 200 && page.body.to_string().contains(id), "{page:?}");
        assert_eq!(of_payment.get(path).await.status, 403, "{path}");
    }
    let more = [
        "/v1/payments",
        "/v1/payments?customer_id=cus_2",
        "/v1/events",
        "/v1/stream",
        "/v1/stream?customer_id=cus_2",
        "/v1/totals",
        "/v1/operator/keys",
    ];
    let scope = "Bearer realm=\"paylog\", error=\"insufficient_scope\"";
    for path in more {
        for client in [&of_payment, &of_customer] {
            assert_eq!(challenge(&client.get(path).await), (403, "insufficient_scope", scope), "{path}");
        }
    }
    assert_eq!(of_payment.get(&format!("/v1/payments/{other}")).await.status, 403);
    assert_eq!(of_customer.get(&format!("/v1/payments/{other}")).await.status, 404, "as if it were not there");
    assert_eq!(of_customer.pay("order-3", &body("cus_1", "pm_card_visa")).await.status, 403);
    let wish = json!({"customer_id": "cus_1"});
    assert_eq!(of_customer.post("/v1/stream_tokens", &wish).await.status, 403, "a token makes no token");

    let short = token(&acme, json!({"customer_id": "cus_1", "expires_in": 2})).await;
    let (status, mut stream) = nobody.with_key(&short).stream("customer_id=cus_1", None).await;
    assert_eq!(status, 200);
    ended(&mut stream).await;
    let (status, refused) = nobody.with_key(&short).stream("customer_id=cus_1", None).await;
    assert_eq!((status, refused.problem().await["code"].as_str()), (401, Some("token_expired")));
    system.stop().await;
}

pub async fn a_browser_comes_to_its_stream_with_a_cookie_or_a_ticket(bed: &Bed) {
    let acme = create(bed, "acme");
    let system = start_closed(bed).await;
    let nobody = &system.front.client;
    let acme = nobody.with_key(&acme);
    let paid = acme.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    let token = token(&acme, json!({"payment_id": paid.text("id")})).await;
    let browser = nobody.with_key(&token);

    let set = browser.send(Method::POST, "/v1/stream_tokens/cookie", &[], None).await;
    assert_eq!(set.status, 204);
    let cookie = set.header("set-cookie").to_owned();
    for attribute in ["__Secure-", "; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/v1/", "; Max-Age="] {
        assert!(cookie.contains(attribute), "{attribute}: {cookie}");
    }
    let pair = [("cookie", cookie.split(';').next().unwrap())];
    let path = format!("/v1/payments/{}", paid.text("id"));
    assert_eq!(nobody.get_with(&path, &pair).await.status, 200);
    assert_eq!(nobody.get_with("/v1/payments", &pair).await.status, 403);
    let asked = nobody.pay_with("order-2", &body("cus_1", "pm_card_visa"), &pair).await;
    assert_eq!(asked.status, 403, "a cookie makes nothing");
    let gone = browser.send(Method::DELETE, "/v1/stream_tokens/cookie", &[], None).await;
    assert!(gone.header("set-cookie").contains("Max-Age=0"), "{gone:?}");
    let key_as_cookie = acme.send(Method::POST, "/v1/stream_tokens/cookie", &[], None).await;
    assert_eq!(key_as_cookie.text("code"), "invalid_token", "a key is not kept in a browser");

    let ticket = browser.send(Method::POST, "/v1/stream_tokens/ticket", &[], None).await;
    let query = format!("payment_id={}&ticket={}", paid.text("id"), ticket.text("ticket"));
    let (status, mut stream) = nobody.stream(&query, None).await;
    assert_eq!(status, 200);
    ended(&mut stream).await;
    let (status, again) = nobody.stream(&query, None).await;
    assert_eq!((status, again.problem().await["code"].as_str()), (401, Some("ticket_used")));
    let in_url = format!("payment_id={}&ticket={token}", paid.text("id"));
    assert_eq!(nobody.stream(&in_url, None).await.0, 401, "a token is no ticket");
    system.stop().await;
}

/// A status would end a browser's EventSource for ever: it is told in a stream, and comes back by itself.
pub async fn whoever_has_too_many_streams_is_told_when_to_come_back(bed: &Bed) {
    let key = create(bed, "acme");
    let system = start_closed_with(bed, &["--streams-each-merchant", "3", "--streams-each-token", "1"]).await;
    let nobody = &system.front.client;
    let acme = nobody.with_key(&key);
    let token = |customer: &'static str| token(&acme, json!({"customer_id": customer}));
    let ada = [nobody.with_key(&token("cus_1").await), nobody.with_key(&token("cus_1").await)];
    let bob = nobody.with_key(&token("cus_2").await);

    let (_, mut first) = ada[0].stream("customer_id=cus_1", None).await;
    assert!(first.next().await.is_some(), "her one stream");
    for client in &ada {
        let (status, mut turned_away) = client.stream("customer_id=cus_1", None).await;
        assert_eq!((status, turned_away.header("content-type").as_str()), (200, "text/event-stream"));
        let told = turned_away.rest().await;
        let retry: u64 =
            told.strip_prefix("retry: ").and_then(|rest| rest.split('\n').next()).unwrap().parse().unwrap();
        assert!((30_000..60_000).contains(&retry), "{told}");
        let data = told.split("event: problem\ndata: ").nth(1).unwrap();
        let problem: Value = serde_json::from_str(data.trim_end()).unwrap();
        assert_eq!((&problem["code"], &problem["status"]), (&"too_many_streams".into(), &429.into()));
    }
    let ticket = ada[0].send(Method::POST, "/v1/stream_tokens/ticket", &[], None).await;
    let by_ticket = format!("customer_id=cus_1&ticket={}", ticket.text("ticket"));
    let (_, mut turned_away) = nobody.stream(&by_ticket, None).await;
    assert_eq!(turned_away.next().await.unwrap().event.as_deref(), Some("problem"));
    let (_, mut of_another) = bob.stream("customer_id=cus_2", None).await;
    assert!(of_another.next().await.is_some(), "another's are not hers");
    drop(first);
    let again = async {
        loop {
            let (_, mut stream) = nobody.stream(&by_ticket, None).await;
            if stream.next().await.is_some_and(|frame| frame.event.as_deref() != Some("problem")) {
                return stream;
            }
        }
    };
    let again = tokio::time::timeout(PATIENCE, again).await;
    let again = again.expect("the place of a stream that has ended is free, and a ticket that was turned away is good");

    // All of a merchant are counted together, and a socket is one of them, however many subscriptions it has.
    let socket = Socket::open_by_key(nobody, &key).await.unwrap_or_else(|status| panic!("{status}"));
    assert_eq!(Socket::open_by_key(nobody, &key).await.err(), Some(429));
    let (_, mut turned_away) = acme.stream("", None).await;
    assert_eq!(turned_away.next().await.unwrap().event.as_deref(), Some("problem"));
    drop((again, of_another, socket));
    system.stop().await;
}
