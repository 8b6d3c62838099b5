//! Web Push: a browser that asked to be told how a payment ends is told it, once, so that it alone can read it.

use paylog::service::Role;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Answer, Client, body};
use crate::cluster::{Bed, until};
use crate::keys::{create as key_of, for_operators, id_of, operator, start_closed_with, token};
use crate::operations::paylog;
use crate::push_service::{Browser, PushService, Pushed, Says, at_least};
use crate::webhooks::{Parts, flags};

const PATH: &str = "/v1/push_subscriptions";
const SUBJECT: &str = "mailto:ops@shop.example";
pub const FLAGS: &[&str] = &["--vapid-subject", SUBJECT];

pub async fn public(client: &Client) -> String {
    client.get("/v1/push").await.text("application_server_key").to_owned()
}

pub async fn subscribe(client: &Client, browser: &Browser, more: Value) -> String {
    let created = client.post(PATH, &browser.asks(more)).await;
    assert_eq!(created.status, 201, "{created:?}");
    created.text("id").to_owned()
}

async fn remove(client: &Client, id: &str) -> Answer {
    client.send(Method::DELETE, &format!("{PATH}/{id}"), &[], None).await
}

pub async fn attempts(client: &Client, id: &str) -> Vec<Value> {
    client.get(&format!("{PATH}/{id}/attempts")).await.body["data"].as_array().cloned().unwrap_or_default()
}

pub async fn ids(client: &Client) -> Vec<String> {
    let listed = client.get(PATH).await;
    listed.body["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

/// A payment that stays open for a while: long enough to subscribe to it.
pub async fn pay_slowly(client: &Client, key: &str, customer: &str) -> String {
    let paid = client.pay(key, &body(customer, "pm_sim_delay")).await;
    assert_eq!(paid.status, 202, "{paid:?}");
    paid.text("id").to_owned()
}

pub async fn pay_as(client: &Client, key: &str, customer: &str) {
    let paid = client.pay_to_the_end(key, &body(customer, "pm_card_visa")).await;
    assert_eq!(paid.status, 200, "{paid:?}");
}

pub async fn pay(client: &Client, key: &str, method: &str) -> String {
    let paid = client.pay_to_the_end(key, &body("cus_1", method)).await;
    assert_eq!(paid.status, 200, "{paid:?}");
    paid.text("id").to_owned()
}

pub async fn a_browser_is_told_how_its_payment_ended_and_nobody_else_can_read_it(bed: &Bed) {
    let parts = Parts::start(bed, FLAGS).await;
    let client = &parts.front.client;
    let service = PushService::start().await;
    let (mine, customers, strangers) = (service.browser(), service.browser(), service.browser());
    subscribe(client, &strangers, json!({"customer_id": "cus_2"})).await;
    let of_customer = subscribe(client, &customers, json!({"customer_id": "cus_1"})).await;
    let payment = pay_slowly(client, "order-1", "cus_1").await;
    let of_payment = subscribe(client, &mine, json!({"payment_id": payment})).await;
    let pushed = service.has(2).await;
    let one = mine.mine(&pushed).remove(0);
    let told = mine.reads(&one);
    let shown = client.get(&format!("/v1/payments/{payment}")).await.body;
    let expected = json!({"id": payment, "status": "successful", "amount": 1999, "currency": "EUR"});
    assert_eq!((told["type"].as_str(), &told["data"]["payment"]), (Some("PaymentSuccessful"), &expected), "{told}");
    assert_eq!((&told["data"]["sequence"], &told["timestamp"]), (&shown["version"], &shown["updated_at"]));
    assert_eq!(customers.reads(&customers.mine(&pushed)[0])["id"], told["id"], "one event has one id");
    assert!(customers.cannot_read(&one) && strangers.cannot_read(&one));
    assert!(!told.to_string().contains("cus_1"), "nothing of a person: {told}");

    assert_eq!((one.header("content-encoding"), one.header("urgency")), ("aes128gcm", "high"));
    let ttl: u64 = one.header("ttl").parse().unwrap();
    assert!((86_000..=86_400).contains(&ttl), "{ttl}");
    let topic = one.header("topic");
    assert!(
        topic.len() == 32 && topic != customers.mine(&pushed)[0].header("topic"),
        "who hears of one payment is not told"
    );
    let claims = one.claims(&public(client).await);
    assert_eq!((claims["aud"].as_str(), claims["sub"].as_str()), (Some(&*service.origin()), Some(SUBJECT)));
    let left = claims["exp"].as_i64().unwrap() - jiff::Timestamp::now().as_second();
    assert!((1..=86_400).contains(&left), "{left}");

    // It asked to be told of one payment, and was; the customer's is told of the next.
    until("the subscription is over", async || !ids(client).await.contains(&of_payment)).await;
    assert_eq!(
        attempts(client, &of_payment).await[0]["result"],
        "delivered",
        "which can be asked for when it is over, too"
    );
    let next = pay(client, "order-2", "pm_card_visa_chargeDeclined").await;
    let pushed = service.has(3).await;
    let told = customers.reads(&pushed[2]);
    assert_eq!((told["type"].as_str(), told["data"]["payment"]["id"].as_str()), (Some("PaymentFailed"), Some(&*next)));
    assert_eq!(pushed[2].body.len(), one.body.len(), "its length does not tell how it ended");
    until("both are known to be told", async || attempts(client, &of_customer).await.len() == 2).await;
    let attempt = &attempts(client, &of_customer).await[0];
    assert_eq!((attempt["result"].as_str(), attempt["status"].as_u64()), (Some("delivered"), Some(201)), "{attempt}");
    assert_eq!(service.pushed().len(), 3);
    parts.stop().await;
}

/// Two messages to each: the first is answered as it is said, the second is of another payment and is taken.
pub async fn a_push_service_is_treated_as_it_answers(bed: &Bed) {
    let parts = Parts::start(bed, FLAGS).await;
    let client = &parts.front.client;
    let mut all = Vec::new();
    for says in [404, 410, 413, 400, 429, 500, 403] {
        let says = if says == 429 { Says::retry_after(429, 2) } else { Says::status(says) };
        let service = PushService::saying(move |n, _| if n == 0 { says.clone() } else { Says::status(201) }).await;
        let browser = service.browser();
        let id = subscribe(client, &browser, json!({"customer_id": "cus_1"})).await;
        all.push((service, browser, id));
    }
    let first = pay(client, "order-1", "pm_card_visa").await;
    for (service, ..) in &all {
        service.has(1).await;
    }
    let [gone, missing, large, refused, busy, broken, denied] = &all[..] else { panic!("seven of them") };
    until("those who are not there any more are removed", async || ids(client).await.len() == 5).await;
    for (.., id) in [gone, missing] {
        let why = attempts(client, id).await.remove(0);
        assert_eq!(why["failure"], "gone", "whoever asks later is told why");
    }
    for (service, ..) in [busy, broken, denied] {
        service.has(2).await; // tried again
    }
    assert!(at_least(&busy.0.pushed(), 1, std::time::Duration::from_millis(1_900)), "it asked for patience");
    let second = pay(client, "order-2", "pm_card_visa").await;
    for (name, (service, browser, id), count) in
        [("large", large, 2), ("refused", refused, 2), ("busy", busy, 3), ("broken", broken, 3), ("denied", denied, 3)]
    {
        let pushed = service.has(count).await;
        let told: Vec<_> = pushed.iter().map(|one| browser.reads(one)["data"]["payment"]["id"].clone()).collect();
        assert_eq!(told.last().unwrap(), &json!(second), "{name}: {told:?}");
        assert_eq!(told.iter().filter(|id| **id == json!(first)).count(), count - 1, "{name}");
        until("all of it is on the log", async || attempts(client, id).await.len() == count).await;
        let first = attempts(client, id).await.pop().unwrap();
        let (failure, again) = (first["failure"].as_str().unwrap(), !first["next_at"].is_null());
        let expected = match name {
            "large" => ("too_large", false),
            "refused" => ("refused", false),
            _ => ("status", true),
        };
        assert_eq!((failure, again), expected, "{first}");
    }
    assert_eq!((gone.0.pushed().len(), missing.0.pushed().len()), (1, 1), "nobody writes to them again");
    parts.stop().await;
}

/// What could not be handed over within its time is told to nobody.
pub async fn a_browser_is_not_told_later_than_is_of_use(bed: &Bed) {
    let parts = Parts::start(bed, &["--vapid-subject", SUBJECT, "--push-ttl-seconds", "2"]).await;
    let client = &parts.front.client;
    let service = PushService::saying(|_, _| Says::status(500)).await;
    let id = subscribe(client, &service.browser(), json!({"customer_id": "cus_1"})).await;
    pay(client, "order-1", "pm_card_visa").await;
    let last = async || attempts(client, &id).await.into_iter().next();
    until("it is given up", async || last().await.is_some_and(|last| last["next_at"].is_null())).await;
    let all = attempts(client, &id).await;
    assert!(all.len() >= 3 && all[0]["failure"] != "gone", "{all:?}");
    assert!(service.pushed().iter().all(|one| one.header("ttl").parse::<u64>().unwrap() < 2));
    parts.stop().await;
}

/// How many events these tell of, each of which must be told once.
pub fn once_each(browser: &Browser, pushed: &[Pushed]) -> usize {
    let mut told: Vec<_> = pushed.iter().map(|one| browser.reads(one)["id"].as_str().unwrap().to_owned()).collect();
    let count = told.len();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), count, "{told:?}");
    count
}

pub async fn a_browser_that_asks_twice_is_one_and_what_is_wrong_is_refused(bed: &Bed) {
    let parts = Parts::start(bed, FLAGS).await;
    let client = &parts.front.client;
    let service = PushService::start().await;
    let browser = service.browser();
    let id = subscribe(client, &browser, json!({"customer_id": "cus_1"})).await;
    let again = client.post(PATH, &browser.asks(json!({"customer_id": "cus_1"}))).await;
    assert_eq!((again.status, again.text("id"), ids(client).await.len()), (200, &*id, 1), "{again:?}");
    let asks = browser.asks(json!({"customer_id": "cus_9"}));
    let all = futures_util::future::join_all((0..8).map(|_| client.post(PATH, &asks))).await;
    assert!(all.iter().all(|one| [200, 201].contains(&one.status) && one.body["id"] == all[0].body["id"]), "{all:?}");
    let listed = client.get(PATH).await.body["data"][0].clone();
    assert!(!listed.to_string().contains("/send/") && listed["service"] == json!(service.origin()), "{listed}");

    let ended = pay(client, "order-1", "pm_card_visa").await;
    let other = public(client).await.replace('B', "C");
    for (more, status, code) in [
        (json!({}), 422, "invalid_push_subscription"),
        (json!({"customer_id": "a", "payment_id": ended}), 422, "invalid_push_subscription"),
        (json!({"payment_id": "pay_py4e5muxaklg75g4chpkn2gms4"}), 404, "payment_not_found"),
        (json!({"payment_id": ended}), 409, "payment_ended"),
        (json!({"customer_id": "a", "application_server_key": other}), 409, "other_application_server_key"),
        (json!({"customer_id": "a", "endpoint": "ftp://x"}), 422, "invalid_endpoint"),
        (json!({"customer_id": "a", "keys": {"p256dh": "AAAA", "auth": "AAAA"}}), 422, "invalid_push_key"),
        (json!({"customer_id": "a", "keys": {}}), 400, "invalid_body"),
        (json!({"customer_id": "a", "secret": "x"}), 400, "invalid_body"),
    ] {
        let refused = client.post(PATH, &browser.asks(more.clone())).await;
        assert_eq!((refused.status, refused.text("code")), (status, code), "{more}: {refused:?}");
    }
    let key = public(client).await;
    subscribe(client, &browser, json!({"customer_id": "cus_2", "application_server_key": key})).await;
    for _ in 0..9 {
        subscribe(client, &service.browser(), json!({"customer_id": "cus_2"})).await;
    }
    let full = client.post(PATH, &service.browser().asks(json!({"customer_id": "cus_2"}))).await;
    assert_eq!((full.status, full.text("code")), (409, "too_many_push_subscriptions"));
    // All at once: each is judged by what the one before has come to.
    let crowd: Vec<_> = (0..50).map(|_| service.browser().asks(json!({"customer_id": "cus_3"}))).collect();
    let all = futures_util::future::join_all(crowd.iter().map(|asks| client.post(PATH, asks))).await;
    let taken = all.iter().filter(|one| one.status == 201).count();
    assert!(taken == 10 && all.iter().all(|one| [201, 409, 429].contains(&one.status)), "{all:?}");
    let listed = client.get(PATH).await.body["data"].as_array().unwrap().clone();
    assert_eq!(listed.iter().filter(|one| one["customer_id"] == "cus_3").count(), 10);
    assert_eq!(remove(client, &id).await.status, 204);
    assert_eq!(remove(client, &id).await.status, 404);
    assert_eq!(subscribe(client, &browser, json!({"customer_id": "cus_1"})).await, id, "it may come again");
    let mut last = 0;
    while last != 429 {
        remove(client, &id).await;
        last = client.post(PATH, &browser.asks(json!({"customer_id": "cus_1"}))).await.status;
        assert!([201, 429].contains(&last), "{last}");
    }
    parts.stop().await;
}

/// With keys: a token subscribes to what it names, and another merchant's is not there.
pub async fn a_page_subscribes_to_what_its_token_names_and_to_nothing_else(bed: &Bed) {
    let (acme, other) = (key_of(bed, "acme"), key_of(bed, "other"));
    let flags = flags(bed);
    let more: Vec<&str> = flags.iter().map(String::as_str).chain(FLAGS.iter().copied()).collect();
    let system = start_closed_with(bed, &more).await;
    let nobody = &system.front.client;
    let (acme, other) = (nobody.with_key(&acme), nobody.with_key(&other));
    let service = PushService::start().await;
    let browser = service.browser();
    let (mine, theirs) = (pay_slowly(&acme, "order-1", "cus_1").await, pay_slowly(&acme, "order-2", "cus_2").await);
    let of_payment = nobody.with_key(&token(&acme, json!({"payment_id": mine})).await);
    let of_customer = nobody.with_key(&token(&acme, json!({"customer_id": "cus_1"})).await);

    assert_eq!(nobody.get("/v1/push").await.status, 200, "the key is public");
    assert_eq!(nobody.post(PATH, &browser.asks(json!({"customer_id": "cus_1"}))).await.status, 401);
    let named = of_payment.post(PATH, &browser.asks(json!({}))).await;
    assert_eq!((named.status, named.text("payment_id")), (201, &*mine), "{named:?}");
    let id = named.text("id").to_owned();
    let of_theirs = subscribe(&acme, &browser, json!({"payment_id": theirs})).await;
    let customers = subscribe(&of_customer, &browser, json!({"customer_id": "cus_1"})).await;
    for (client, asks, status) in [
        (&of_payment, json!({"payment_id": theirs}), 403),
        (&of_payment, json!({"customer_id": "cus_1"}), 403),
        (&of_customer, json!({"payment_id": theirs}), 404),
        (&of_customer, json!({"customer_id": "cus_2"}), 403),
        (&other, json!({"payment_id": mine}), 404),
    ] {
        let refused = client.post(PATH, &browser.asks(asks.clone())).await;
        assert_eq!(refused.status, status, "{asks}: {refused:?}");
    }
    assert_eq!(of_customer.get(PATH).await.status, 403, "the list is the merchant's");
    assert_eq!((ids(&acme).await.len(), ids(&other).await.len()), (3, 0));
    let absent = format!("ps_{}", "0".repeat(32));
    for (client, id) in
        [(&other, &id), (&of_payment, &customers), (&of_payment, &of_theirs), (&of_customer, &of_theirs)]
    {
        let (there, nowhere) = (remove(client, id).await, remove(client, &absent).await);
        assert_eq!((there.status, &there.body), (404, &nowhere.body), "{id}");
    }
    assert_eq!(other.get(&format!("{PATH}/{id}/attempts")).await.status, 404);
    for (token, id) in [(&of_payment, &id), (&of_customer, &customers)] {
        assert_eq!(
            token.get(&format!("{PATH}/{id}/attempts")).await.status,
            403,
            "what answers is the merchant's to know"
        );
    }
    let listed = acme.get(PATH).await.body["data"].as_array().unwrap().clone();
    let has_end = |id: &str| listed.iter().any(|one| one["id"] == id && !one["ends_at"].is_null());
    assert_eq!((has_end(&id), has_end(&customers), has_end(&of_theirs)), (true, true, false), "{listed:?}");
    assert_eq!(nobody.send(Method::DELETE, &format!("{PATH}/{id}"), &[], None).await.status, 401);
    assert_eq!(remove(&of_customer, &id).await.status, 204, "a payment of its customer's");
    assert_eq!(remove(&of_customer, &customers).await.status, 204);
    system.stop().await;
}

/// The page's subscription hangs on the key that its token was asked for with; the merchant's own does not.
pub async fn whom_a_token_let_in_is_told_nothing_once_its_key_is_revoked(bed: &Bed) {
    let (lost, ops) = (key_of(bed, "acme"), for_operators(bed));
    let flags = flags(bed);
    let more: Vec<&str> = flags.iter().map(String::as_str).chain(FLAGS.iter().copied()).collect();
    let system = start_closed_with(bed, &more).await;
    let notifier = if bed.is_kafka() { Some(bed.run(Role::Notify, "notify", &more).await) } else { None };
    let (nobody, service) = (&system.front.client, PushService::start().await);
    let (ops, first) = (nobody.with_key(&ops), nobody.with_key(&lost));
    let rotated = operator(&ops, &format!("/v1/operator/keys/{}/rotate", id_of(&lost)), json!({})).await;
    let acme = nobody.with_key(rotated.text("key"));
    let (let_in, own) = (service.browser(), service.browser());
    let page = nobody.with_key(&token(&first, json!({"customer_id": "cus_1"})).await);
    let id = subscribe(&page, &let_in, json!({})).await;
    let again = page.post(PATH, &let_in.asks(json!({}))).await;
    assert_eq!((again.status, again.text("id")), (200, &*id), "{again:?}");
    let owns = subscribe(&acme, &own, json!({"customer_id": "cus_1"})).await;
    for _ in 0..8 {
        subscribe(&page, &service.browser(), json!({})).await;
    }
    let eleventh = service.browser().asks(json!({}));
    assert_eq!(page.post(PATH, &eleventh).await.text("code"), "too_many_push_subscriptions");
    pay(&acme, "order-1", "pm_card_visa").await;
    service.has(10).await;
    let revoked = operator(&ops, &format!("/v1/operator/keys/{}/revoke", id_of(&lost)), json!({})).await;
    assert_eq!(revoked.status, 200, "{revoked:?}");
    for n in 2..5 {
        pay(&acme, &format!("order-{n}"), "pm_card_visa").await;
    }
    until("the other has it all", async || attempts(&acme, &owns).await.len() == 4).await;
    assert_eq!(let_in.mine(&service.pushed()).len(), 1, "{:?}", attempts(&acme, &id).await);
    assert_eq!(remove(&acme, &id).await.status, 404, "it is over");
    let page = nobody.with_key(&token(&acme, json!({"customer_id": "cus_1"})).await);
    assert_eq!(subscribe(&page, &let_in, json!({})).await, id, "a page with a token of a good key has it told again");
    assert_eq!(page.post(PATH, &eleventh).await.status, 201, "those that are over take nobody's room");
    pay(&acme, "order-5", "pm_card_visa").await;
    until("it is told again", async || let_in.mine(&service.pushed()).len() == 2).await;
    if let Some(notifier) = notifier {
        notifier.stop().await;
    }
    system.stop().await;
}

pub async fn the_command_push_does_what_the_routes_do(bed: &Bed) {
    let parts = Parts::start(bed, FLAGS).await;
    let client = &parts.front.client;
    let url = client.url.clone();
    let run = |words: &[&str]| {
        let words: Vec<String> =
            ["paylog", "push"].iter().chain(words).chain(&["--url", &url]).map(|word| (*word).to_owned()).collect();
        let output = paylog(&words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let service = PushService::start().await;
    let id = subscribe(client, &service.browser(), json!({"customer_id": "cus_1"})).await;
    assert_eq!(run(&["key"]).trim(), public(client).await);
    let listed = run(&["ls"]);
    assert!(listed.contains(&format!("{id} cus_1 {}", service.origin())), "{listed}");
    pay(client, "order-1", "pm_card_visa").await;
    until("it is told", async || attempts(client, &id).await.len() == 1).await;
    assert!(run(&["attempts", &id]).contains("attempt 1 delivered 201"));
    run(&["rm", &id]);
    assert_eq!(run(&["ls"]), "");
    parts.stop().await;
}

/// Nobody is told through us what only a private network knows; and without a subject there is no Web Push.
pub async fn what_must_not_or_cannot_be_told_is_refused(bed: &Bed) {
    let parts = Parts::start_plainly(bed).await;
    let client = &parts.front.client;
    let service = PushService::start().await;
    if bed.is_kafka() {
        let refused = client.get("/v1/push").await;
        assert_eq!((refused.status, refused.text("code")), (501, "push_not_configured"));
        let asked = client.post(PATH, &service.browser().asks(json!({"customer_id": "cus_1"}))).await;
        assert_eq!((asked.status, asked.text("code")), (501, "push_not_configured"));
    } else {
        for endpoint in [service.browser().endpoint, "https://169.254.169.254/".to_owned()] {
            let browser = Browser::subscribed_at(endpoint);
            let refused = client.post(PATH, &browser.asks(json!({"customer_id": "cus_1"}))).await;
            assert_eq!((refused.status, refused.text("code")), (422, "invalid_endpoint"), "{refused:?}");
        }
        let elsewhere = Browser::subscribed_at(format!("https://localhost:{}/send/1", service.port));
        let refused = client.post(PATH, &elsewhere.asks(json!({"customer_id": "cus_1"}))).await;
        assert_eq!((refused.status, refused.text("code")), (422, "invalid_endpoint"), "{refused:?}");
        let browser = Browser::subscribed_at("https://localhost/send/1".to_owned());
        let id = subscribe(client, &browser, json!({"customer_id": "cus_1"})).await;
        pay(client, "order-1", "pm_card_visa").await;
        until("the first attempt is known", async || !attempts(client, &id).await.is_empty()).await;
        assert_eq!(attempts(client, &id).await.pop().unwrap()["failure"], "address_not_allowed");
        assert_eq!(service.pushed().len(), 0);
    }
    parts.stop().await;
}
