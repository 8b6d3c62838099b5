//! Web Push over what stops and starts in the middle: kills, another key for secrets, rows that are gone.

use std::collections::BTreeMap;
use std::time::Duration;

use paylog::service::Role;
use serde_json::{Value, json};

use crate::client::Client;
use crate::cluster::{Bed, until};
use crate::crashes::Process;
use crate::push::{FLAGS, attempts, ids, once_each, pay, pay_as, pay_slowly, public, subscribe};
use crate::push_service::{Browser, PushService, Says};
use crate::receiver::Receiver;
use crate::webhooks::{Parts, create as webhook, flags, stop_all};

/// With the payment, when its subscription is over, too; and after a start that has nothing but the log.
pub async fn who_was_told_of_a_payment_is_shown_with_it(bed: &Bed) {
    let parts = Parts::start(bed, FLAGS).await;
    let client = &parts.front.client;
    let service = PushService::start().await;
    let (mine, customers) = (service.browser(), service.browser());
    let of_customer = subscribe(client, &customers, json!({"customer_id": "cus_1"})).await;
    let payment = pay_slowly(client, "order-1", "cus_1").await;
    let of_payment = subscribe(client, &mine, json!({"payment_id": payment})).await;
    service.has(2).await;
    until("one of them is over", async || ids(client).await.len() == 1).await;
    let shown = async |client: &Client| {
        let told = client.get(&format!("/v1/payments/{payment}/pushes")).await;
        assert_eq!(told.status, 200, "{told:?}");
        told.body
    };
    let version = client.get(&format!("/v1/payments/{payment}")).await.body["version"].clone();
    let row = |id: &str, service: Value| {
        let told = json!({"subscription": id, "service": service, "event": "PaymentSuccessful", "version": version});
        let stands = json!({"state": "delivered", "attempts": 1, "next_at": null});
        let all = [told, stands].into_iter().flat_map(|part| part.as_object().unwrap().clone());
        Value::Object(all.collect())
    };
    let mut expected = vec![row(&of_customer, json!(service.origin())), row(&of_payment, Value::Null)];
    expected.sort_by_key(|row| row["subscription"].to_string());
    let expected = json!({"data": expected});
    until("both are known to be told", async || shown(client).await == expected).await;
    assert_eq!(client.get("/v1/payments/pay_none/pushes").await.status, 404);
    parts.stop().await;
    for data in ["up", "serve"] {
        drop(std::fs::remove_dir_all(bed.data_dir(data).join("deliveries-store")));
    }
    let parts = Parts::start(bed, FLAGS).await;
    until("it is the same", async || shown(&parts.front.client).await == expected).await;
    parts.stop().await;
}

/// Each process shows the same, whether it tells or not: who is still to be told, and that who is over is not; and what is known
/// of one that is over is answered, tried or not.
pub async fn whoever_is_over_untold_is_shown_as_such(bed: &Bed) {
    let more = [FLAGS, &["--webhook-retry-ms", "600000"]].concat();
    let mut parts = Parts::start(bed, &more).await;
    let service = PushService::saying(|_, _| Says::status(500)).await;
    let (tried, untried) = (service.browser(), service.browser());
    let of = |state: &str, attempts: u32| json!({"state": state, "attempts": attempts});
    let client = parts.front.client.clone();
    let of_tried = subscribe(&client, &tried, json!({"customer_id": "cus_1"})).await;
    let payment = pay(&client, "order-1", "pm_card_visa").await;
    let rows = async |payment: &str| {
        let told = client.get(&format!("/v1/payments/{payment}/pushes")).await;
        let all = told.body["data"].as_array().cloned().unwrap_or_default();
        all.into_iter().map(|row| (row["subscription"].as_str().unwrap().to_owned(), row)).collect::<BTreeMap<_, _>>()
    };
    let stands = |row: &Value| json!({"state": row["state"], "attempts": row["attempts"]});
    until("it was tried once", async || rows(&payment).await.values().any(|row| stands(row) == of("pending", 1))).await;
    assert!(!rows(&payment).await[&of_tried]["next_at"].is_null());
    // On Kafka nobody is there any more who would try.
    if let Some(notifier) = parts.notifier.take() {
        notifier.stop().await;
        let of_untried = subscribe(&client, &untried, json!({"customer_id": "cus_1"})).await;
        let later = pay(&client, "order-2", "pm_card_visa").await;
        until("it is to be told", async || rows(&later).await.contains_key(&of_untried)).await;
        let row = rows(&later).await.remove(&of_untried).unwrap();
        assert_eq!((stands(&row), row["service"].as_str()), (of("pending", 0), Some(service.origin().as_str())));
        assert!(!rows(&payment).await.contains_key(&of_untried), "what was before is not for it");
    }
    let gone = client.send(reqwest::Method::DELETE, &format!("/v1/push_subscriptions/{of_tried}"), &[], None).await;
    assert_eq!(gone.status, 204, "{gone:?}");
    until("it is told no more", async || rows(&payment).await.values().all(|row| stands(row) == of("dropped", 1)))
        .await;
    assert!(rows(&payment).await[&of_tried]["next_at"].is_null());
    assert_eq!(attempts(&client, &of_tried).await.len(), 1);
    parts.stop().await;
}

/// One whose push service wants to be left alone is over before it was tried.
pub async fn whoever_was_never_tried_has_no_attempts_and_is_known(bed: &Bed) {
    let parts = Parts::start(bed, FLAGS).await;
    let client = &parts.front.client;
    let service = PushService::saying(|_, _| Says::retry_after(429, 600)).await;
    let (first, mine) = (service.browser(), service.browser());
    let paused_by = subscribe(client, &first, json!({"customer_id": "cus_1"})).await;
    pay(client, "order-1", "pm_card_visa").await;
    until("the service is left alone", async || attempts(client, &paused_by).await.len() == 1).await;
    let (id, open) = (subscribe(client, &mine, json!({"customer_id": "cus_2"})).await, PushService::start().await);
    subscribe(client, &open.browser(), json!({"customer_id": "cus_2"})).await;
    let paid = client.pay_to_the_end("order-2", &crate::client::body("cus_2", "pm_card_visa")).await;
    let path = format!("/v1/payments/{}/pushes", paid.text("id"));
    let state = async || {
        let told = client.get(&path).await;
        let all = told.body["data"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|row| row["subscription"] == id).map_or(Value::Null, |row| row["state"].clone())
    };
    open.has(1).await; // who tells one of them knows that the other was to be told too
    until("it is to be told", async || state().await == "pending").await;
    client.send(reqwest::Method::DELETE, &format!("/v1/push_subscriptions/{id}"), &[], None).await;
    // Who does not look for what is to be told knows of no more than what was tried.
    let over = if bed.is_kafka() { Value::Null } else { json!("dropped") };
    until("it is told no more", async || state().await == over).await;
    if !bed.is_kafka() {
        let known = client.get(&format!("/v1/push_subscriptions/{id}/attempts")).await;
        assert_eq!((known.status, &known.body["data"]), (200, &json!([])), "whose payment it was for is known");
    }
    parts.stop().await;
}

/// A start that has nothing but the log.
pub async fn a_rebuild_tells_no_browser_anything(bed: &Bed) {
    let parts = Parts::start(bed, FLAGS).await;
    let client = &parts.front.client;
    let service = PushService::start().await;
    let browser = service.browser();
    let id = subscribe(client, &browser, json!({"customer_id": "cus_1"})).await;
    for n in 0..10 {
        pay(client, &format!("order-{n}"), "pm_card_visa").await;
    }
    service.has(10).await;
    until("all of it is on the log", async || attempts(client, &id).await.len() == 10).await;
    let before = public(client).await;
    parts.stop().await;
    for data in ["up", "notify"] {
        for rows in ["store", "deliveries-store"] {
            drop(std::fs::remove_dir_all(bed.data_dir(data).join(rows)));
        }
    }
    let parts = Parts::start(bed, FLAGS).await;
    // What is new comes after all that was before, on each partition.
    for n in 0..20 {
        pay(&parts.front.client, &format!("later-{n}"), "pm_card_visa").await;
    }
    let pushed = service.has(30).await;
    assert_eq!(once_each(&browser, &pushed), 30);
    assert_eq!(public(&parts.front.client).await, before, "browsers know us by it");
    parts.stop().await;
}

/// Browsers come and payments end while nobody sends; then somebody does.
pub async fn a_notifier_that_was_away_tells_browsers_what_they_missed(bed: &Bed) {
    let mut parts = Parts::start(bed, FLAGS).await;
    let service = PushService::start().await;
    let (early, late, mine) = (service.browser(), service.browser(), service.browser());
    subscribe(&parts.front.client, &early, json!({"customer_id": "cus_1"})).await;
    pay(&parts.front.client, "order-0", "pm_card_visa").await;
    service.has(1).await;
    let away = parts.notifier.take();
    let is_kafka = away.is_some();
    if let Some(notifier) = away {
        notifier.stop().await;
    } else {
        service.now_says(|_, _| Says::status(503)); // one process: nothing can be handed over
    }
    let client = &parts.front.client;
    for n in 1..8 {
        pay(client, &format!("order-{n}"), "pm_card_visa").await;
    }
    subscribe(client, &late, json!({"customer_id": "cus_1"})).await;
    let payment = pay_slowly(client, "order-8", "cus_1").await;
    subscribe(client, &mine, json!({"payment_id": payment})).await;
    pay(client, "order-9", "pm_card_visa").await;
    until("the slow one has ended", async || {
        client.get(&format!("/v1/payments/{payment}")).await.text("status") == "successful"
    })
    .await;
    if is_kafka {
        assert_eq!(service.pushed().len(), 1, "nobody sends");
        let flags = flags(bed);
        let words: Vec<&str> = flags.iter().map(String::as_str).chain(FLAGS.iter().copied()).collect();
        parts.notifier = Some(bed.run(Role::Notify, "notify", &words).await);
    } else {
        parts.stop().await;
        service.now_says(|_, _| Says::status(201));
        parts = Parts::start(bed, FLAGS).await;
    }
    let events = |browser: &Browser| told(browser, &service).len();
    until("each is told what it missed", async || [&early, &late, &mine].map(events) == [10, 2, 1]).await;
    until("the payment's is over", async || ids(&parts.front.client).await.len() == 2).await;
    parts.stop().await;
}

/// How often each event came to this browser.
fn told(browser: &Browser, service: &PushService) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for one in browser.mine(&service.pushed()) {
        *told.entry(browser.reads(&one)["id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    told
}

/// Whoever sends is killed again and again, with messages on their way and subscriptions about to end.
pub async fn killed_at_any_moment_a_notifier_leaves_no_browser_untold(bed: &Bed) {
    const KILLS: usize = 3;
    const EACH: usize = 4;
    let flags = flags(bed);
    let words: Vec<&str> = flags.iter().map(String::as_str).chain(FLAGS.iter().copied()).collect();
    let service = PushService::start().await;
    let customer = service.browser();
    let lasting = if bed.is_kafka() {
        Some((bed.run(Role::Serve, "serve", &words).await, bed.run(Role::Process, "process", &[]).await))
    } else {
        None
    };
    let mut browsers = Vec::new();
    for round in 0..KILLS {
        let command = if bed.is_kafka() { "notify" } else { "up" };
        let mut victim = Process::start(bed.words(command, command, &words)).await;
        let client = lasting.as_ref().map_or_else(|| victim.client.clone(), |(front, _)| front.client.clone());
        if round == 0 {
            subscribe(&client, &customer, json!({"customer_id": "cus_1"})).await;
        }
        let mut slow = Vec::new();
        for n in 0..EACH {
            slow.push(pay_slowly(&client, &format!("order-{round}-{n}"), "cus_1").await);
        }
        for payment in &slow {
            browsers.push(service.browser());
            subscribe(&client, &browsers[browsers.len() - 1], json!({"payment_id": payment})).await;
        }
        let before = service.pushed().len();
        service.has(before + 1 + round).await; // the first, or some, of this round; the others are on their way
        victim.kill();
    }
    let parts = if bed.is_kafka() { None } else { Some(Parts::start(bed, FLAGS).await) };
    let notifier = if bed.is_kafka() { Some(bed.run(Role::Notify, "notify", &words).await) } else { None };
    until("everybody is told", async || {
        told(&customer, &service).len() == KILLS * EACH && browsers.iter().all(|one| told(one, &service).len() == 1)
    })
    .await;
    let counts = told(&customer, &service);
    assert!(counts.values().all(|count| *count <= 1 + KILLS), "{counts:?}");
    let client = parts.as_ref().map_or_else(|| lasting.as_ref().unwrap().0.client.clone(), |p| p.front.client.clone());
    until("what was told is over", async || ids(&client).await.len() == 1).await;
    stop_all(notifier, lasting, parts).await;
}

/// The key for secrets was exchanged, or a wrong one was given by mistake: nobody can write to the browsers of before, but none of
/// them is lost. They are told again when the key is the right one, or find out and come again.
pub async fn browsers_of_another_key_stay_and_may_come_again(bed: &Bed) {
    let short = [FLAGS, &["--push-ttl-seconds", "2"]].concat();
    let parts = Parts::start(bed, FLAGS).await;
    let service = PushService::start().await;
    let (browser, loyal) = (service.browser(), service.browser());
    let asks = json!({"customer_id": "cus_1"});
    let id = subscribe(&parts.front.client, &browser, asks.clone()).await;
    let before = public(&parts.front.client).await;
    parts.stop().await;
    let other = bed.data_dir("other-key");
    std::fs::write(&other, data_encoding::BASE64.encode(&[9; 32])).unwrap();
    let key = ["--secrets-key-file", other.to_str().unwrap()];
    let parts = Parts::start(bed, &[short, key.to_vec()].concat()).await;
    let client = &parts.front.client;
    let now = public(client).await;
    assert_ne!(now, before);
    pay(client, "order-1", "pm_card_visa").await;
    until("it is given up when it is of no use any more", async || !attempts(client, &id).await.is_empty()).await;
    let one = attempts(client, &id).await.remove(0);
    assert_eq!((one["failure"].as_str(), one["next_at"].is_null()), (Some("other_key"), true), "{one}");
    assert_eq!((ids(client).await, service.pushed().len()), (vec![id.clone()], 0), "nobody is let go for it");
    let known = json!({"customer_id": "cus_1", "application_server_key": before});
    let refused = client.post("/v1/push_subscriptions", &browser.asks(known)).await;
    assert_eq!((refused.status, refused.text("code")), (409, "other_application_server_key"));
    assert_eq!(subscribe(client, &browser, asks.clone()).await, id, "as the push service knows it, it is the same");
    pay(client, "order-2", "pm_card_visa").await;
    let pushed = service.has(1).await;
    assert_eq!(browser.reads(&pushed[0])["type"], "PaymentSuccessful");
    assert_eq!(pushed[0].claims(&now)["sub"], "mailto:ops@shop.example");
    let last = subscribe(client, &loyal, asks).await;
    parts.stop().await;

    let parts = Parts::start(bed, FLAGS).await;
    pay(&parts.front.client, "order-3", "pm_card_visa").await;
    parts.stop().await;
    let parts = Parts::start(bed, &[FLAGS, &key].concat()).await;
    until("with its own key again it is told what it missed", async || loyal.mine(&service.pushed()).len() == 1).await;
    assert!(ids(&parts.front.client).await.contains(&last));
    parts.stop().await;
}

/// The first attempt fails, and whoever would make the next one is away until it is of no use.
pub async fn what_is_too_old_when_a_notifier_comes_back_is_not_told(bed: &Bed) {
    const TTL: Duration = Duration::from_secs(4);
    let more = [FLAGS, &["--push-ttl-seconds", "4", "--webhook-retry-ms", "2000"]].concat();
    let mut parts = Parts::start(bed, &more).await;
    let service = PushService::saying(|_, _| Says::status(500)).await;
    let browser = service.browser();
    let id = subscribe(&parts.front.client, &browser, json!({"customer_id": "cus_1"})).await;
    pay(&parts.front.client, "order-1", "pm_card_visa").await;
    let paid = std::time::Instant::now();
    until("the first attempt is on the log", async || attempts(&parts.front.client, &id).await.len() == 1).await;
    let is_too_old = async || paid.elapsed() >= TTL;
    if let Some(notifier) = parts.notifier.take() {
        notifier.stop().await;
        until("it is too old", is_too_old).await;
        let flags = flags(bed);
        let words: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        parts.notifier = Some(bed.run(Role::Notify, "notify", &words).await);
    } else {
        parts.stop().await;
        until("it is too old", is_too_old).await;
        parts = Parts::start(bed, &more).await;
    }
    until("it is given up", async || attempts(&parts.front.client, &id).await.len() == 2).await;
    let last = attempts(&parts.front.client, &id).await.remove(0);
    assert_eq!(
        (last["failure"].as_str(), last["status"].is_null(), last["next_at"].is_null()),
        (Some("expired"), true, true)
    );
    assert_eq!(service.pushed().len(), 1, "nothing was sent for it");
    parts.stop().await;
}

/// Two that take messages and answer none, and have more browsers than there are slots: neither those of a third service nor
/// webhooks wait for them.
pub async fn a_push_service_that_stalls_holds_up_nobody_else(bed: &Bed) {
    const PAYMENTS: usize = 12;
    // Longer than anybody waits here: what stalls ends in this test never.
    let more = [FLAGS, &["--webhooks-in-flight", "32", "--webhook-timeout-ms", "60000"]].concat();
    let parts = Parts::start(bed, &more).await;
    let client = &parts.front.client;
    let (good, hook) = (PushService::start().await, Receiver::start().await);
    let stalling = [PushService::stalling().await, PushService::stalling().await];
    let sent = || stalling.iter().map(|service| service.pushed().len()).sum::<usize>();
    let browser = good.browser();
    for n in 0..8 {
        for service in &stalling {
            subscribe(client, &service.browser(), json!({"customer_id": format!("cus_{}", n % 2)})).await;
        }
    }
    for customer in ["cus_0", "cus_1"] {
        pay_as(client, &format!("first-{customer}"), customer).await;
    }
    until("both have what they may have", async || sent() == 3).await;
    subscribe(client, &browser, json!({"customer_id": "cus_1"})).await;
    webhook(client, json!({"url": hook.url(), "events": ["PaymentSuccessful"]})).await;
    for n in 0..PAYMENTS {
        pay_as(client, &format!("order-{n}"), "cus_1").await;
    }
    let (pushed, received) = (good.has(PAYMENTS).await, hook.has(PAYMENTS).await);
    assert_eq!((once_each(&browser, &pushed), received.len()), (PAYMENTS, PAYMENTS));
    assert_eq!(
        sent(),
        3,
        "of four slots for push services that nobody knows yet one is left, and none of them has ended"
    );
    parts.stop().await;
}
