//! What may be asked of an endpoint: a test, one event again, all that it has missed, another secret; over HTTP and by command.

use serde_json::{Value, json};

use crate::cluster::{Bed, until};
use crate::operations::paylog;
use crate::receiver::Receiver;
use crate::webhooks::{PATH, Parts, act, attempts, counts, create, pay};

pub async fn an_event_is_sent_again_and_a_test_is_sent_when_somebody_asks(bed: &Bed) {
    let parts = Parts::start(bed, &[]).await;
    let client = &parts.front.client;
    let receiver = Receiver::start().await;
    let (id, secret) = create(client, json!({"url": receiver.url(), "events": ["PaymentSuccessful"]})).await;
    let payment = pay(client, "order-1").await;
    let first = receiver.has(1).await.remove(0);
    let asked = act(client, &id, "resend", json!({"payment_id": payment, "version": 2})).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    let again = receiver.has(2).await.remove(1);
    assert!(again.id() == first.id() && again.raw == first.raw && again.is_signed_with(&secret));
    // Also one that it did not ask to hear of.
    act(client, &id, "resend", json!({"payment_id": payment, "version": 1})).await;
    assert_eq!(receiver.has(3).await[2].kind(), "PaymentInProgress");
    for (wrong, status) in [
        (json!({"payment_id": payment, "version": 9}), 404),
        (json!({"payment_id": "pay_py4e5muxaklg75g4chpkn2gms4", "version": 1}), 404),
        (json!({"payment_id": payment}), 400),
    ] {
        assert_eq!(act(client, &id, "resend", wrong).await.status, status);
    }
    assert_eq!(act(client, &id, "test", json!({})).await.status, 202);
    let test = receiver.has(4).await.remove(3);
    assert!(test.kind() == "test" && test.is_signed_with(&secret) && test.id().starts_with("msg_test_"), "{test:?}");
    until("all four are on the log", async || attempts(client, &id).await.len() == 4).await;
    parts.stop().await;
    // Asked once, sent once: whoever starts anew knows it.
    for data in ["up", "notify"] {
        drop(std::fs::remove_dir_all(bed.data_dir(data).join("deliveries-store")));
    }
    let parts = Parts::start(bed, &[]).await;
    for n in 0..10 {
        pay(&parts.front.client, &format!("later-{n}")).await;
    }
    receiver.has(14).await;
    assert_eq!(receiver.received().len(), 14);
    parts.stop().await;
}

pub async fn what_an_endpoint_has_missed_is_recovered_from_the_log(bed: &Bed) {
    let parts = Parts::start(bed, &[]).await;
    let client = &parts.front.client;
    let mut payments = vec![pay(client, "before").await];
    let receiver = Receiver::start().await;
    let (id, _) = create(client, json!({"url": receiver.url(), "events": ["PaymentSuccessful"]})).await;
    payments.push(pay(client, "order-1").await);
    receiver.has(1).await;
    until("it is on the log", async || attempts(client, &id).await.len() == 1).await;
    act(client, &id, "disable", json!({})).await;
    for n in 2..8 {
        payments.push(pay(client, &format!("order-{n}")).await);
    }
    let recover = json!({"since": "2020-01-01T00:00:00Z"});
    assert_eq!(act(client, &id, "recover", recover.clone()).await.status, 409, "it is disabled");
    act(client, &id, "enable", json!({})).await;
    let asked = act(client, &id, "recover", recover).await;
    assert_eq!(asked.status, 202, "{asked:?}");
    let received = receiver.has(8).await;
    let mut told: Vec<_> = received.iter().map(|one| one.payment().to_owned()).collect();
    told.sort();
    payments.sort();
    assert_eq!(told, payments, "what came before it was there too, and nothing twice");
    // Nothing that happened before then is looked for.
    let later = jiff::Timestamp::now().to_string();
    assert_eq!(act(client, &id, "recover", json!({"since": later})).await.status, 202);
    pay(client, "order-9").await;
    receiver.has(9).await;
    assert!(counts(&receiver.received()).values().all(|count| *count == 1));
    parts.stop().await;
}

pub async fn a_secret_is_exchanged_with_an_overlap(bed: &Bed) {
    let parts = Parts::start(bed, &[]).await;
    let client = &parts.front.client;
    let receiver = Receiver::start().await;
    let (id, first) = create(client, json!({"url": receiver.url(), "events": ["PaymentSuccessful"]})).await;
    let rotated = act(client, &id, "rotate", json!({"overlap_seconds": 3_600})).await;
    let second = rotated.text("secret").to_owned();
    assert!(second.starts_with("whsec_") && second != first);
    pay(client, "order-1").await;
    let one = receiver.has(1).await.remove(0);
    assert!(one.is_signed_with(&first) && one.is_signed_with(&second));
    let third = act(client, &id, "rotate", json!({"overlap_seconds": 0})).await.text("secret").to_owned();
    pay(client, "order-2").await;
    let two = receiver.has(2).await.remove(1);
    assert!(two.is_signed_with(&third) && !two.is_signed_with(&first) && !two.is_signed_with(&second));
    parts.stop().await;
}

pub async fn the_command_webhook_does_what_the_routes_do(bed: &Bed) {
    let parts = Parts::start(bed, &[]).await;
    let client = &parts.front.client;
    let url = client.url.clone();
    let run = |words: &[&str]| {
        let words: Vec<String> =
            ["paylog", "webhook"].iter().chain(words).chain(&["--url", &url]).map(|word| (*word).to_owned()).collect();
        let output = paylog(&words);
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let receiver = Receiver::start().await;
    let created = run(&["create", "--to", &receiver.url(), "--event", "PaymentSuccessful", "--ordered"]);
    let created: Value = serde_json::from_str(&created).unwrap();
    let id = created["id"].as_str().unwrap();
    let listed = run(&["ls"]);
    assert!(listed.contains(id) && listed.contains("enabled PaymentSuccessful"), "{listed}");
    run(&["test", id]);
    let payment = pay(client, "order-1").await;
    receiver.has(2).await;
    run(&["resend", id, "--payment", &payment, "--version", "2"]);
    receiver.has(3).await;
    until("all three are known", async || attempts(client, id).await.len() == 3).await;
    let told = run(&["attempts", id, "--max", "2"]);
    assert!(told.lines().count() == 2 && told.contains("attempt 1 delivered 204"), "{told}");
    assert!(run(&["rotate", id]).contains("whsec_"));
    assert!(run(&["disable", id]).contains("operator"));
    assert!(run(&["enable", id]).contains("\"enabled\""));
    assert!(run(&["recover", id, "--since", "2020-01-01T00:00:00Z"]).contains("request_id"));
    assert!(run(&["show", id]).contains(&receiver.url()));
    run(&["rm", id]);
    assert_eq!(client.get(&format!("{PATH}/{id}")).await.status, 404);
    parts.stop().await;
}
