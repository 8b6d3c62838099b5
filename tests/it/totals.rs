//! What was accepted on each day, and what has become of it.

use serde_json::{Value, json};

use crate::client::{Answer, Client, body};
use crate::cluster::{Bed, until};
use crate::rebuild::{reaches_of, rebuild_of, wish_of};

/// Payments and amounts by status.
fn sums(answer: &Value) -> Vec<(String, u64, u64)> {
    let line = |total: &Value| {
        assert_eq!(total["currency"], "EUR");
        let number = |field: &str| total[field].as_u64().unwrap();
        (total["status"].as_str().unwrap().to_owned(), number("payments"), number("amount"))
    };
    let mut sums: Vec<_> = answer["data"].as_array().unwrap().iter().map(line).collect();
    sums.sort();
    sums
}

async fn totals(client: &Client, at_least: &str) -> Value {
    let answer = client.get(&format!("/v1/totals?at_least={at_least}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// How far a read of a payment that has ended has seen.
async fn seen(client: &Client, paid: &Answer) -> String {
    let read = client.get(paid.link("self")).await;
    assert_eq!(read.status, 200, "{read:?}");
    read.header("paylog-position").to_owned()
}

pub async fn totals_say_what_was_accepted_and_what_has_become_of_it(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let mut last = String::new();
    for n in 0..6 {
        let method = ["pm_card_visa", "pm_card_visa_chargeDeclined"][usize::from(n % 3 == 0)];
        let paid = client.pay_to_the_end(&format!("order-{n}"), &body("cus_1", method)).await;
        assert_eq!(paid.status, 200, "{paid:?}");
        last = seen(client, &paid).await;
    }
    // What one answer has seen, the totals have seen too.
    let expected = [("failed".to_owned(), 2, 2 * 1999), ("successful".to_owned(), 4, 4 * 1999)];
    assert_eq!(sums(&totals(client, &last).await), expected);
    let today = client.get("/v1/totals").await.body["data"][0]["day"].as_str().unwrap().to_owned();
    let one = client.get(&format!("/v1/totals?from={today}&to={today}")).await;
    assert_eq!(sums(&one.body), expected);
    let past = client.get("/v1/totals?from=2020-01-01&to=2020-12-31").await;
    assert_eq!((past.status, &past.body["data"]), (200, &json!([])));
    for (wrong, code) in [
        ("from=yesterday", "invalid_day"),
        ("from=2020-02-30", "invalid_day"),
        ("from=2020-01-02&to=2020-01-01", "invalid_days"),
        ("from=2020-01-01&to=2021-01-02", "invalid_days"),
        ("at_least=zzz", "invalid_position"),
        ("currency=EUR", "unknown_parameter"),
    ] {
        let refused = client.get(&format!("/v1/totals?{wrong}")).await;
        assert_eq!((refused.status, refused.text("code")), (400, code), "{wrong}: {refused:?}");
    }

    // They are a projection like any other.
    let version = rebuild_of(client, "totals", &json!({})).await;
    assert_eq!(version, "totals@1.2");
    reaches_of(client, "totals", "verified").await;
    until("it is served", async || wish_of(client, "totals", "promote", &version).await.status == 200).await;
    assert_eq!(sums(&totals(client, &last).await), expected);
    let paid = client.pay_to_the_end("order-6", &body("cus_1", "pm_card_visa")).await;
    assert_eq!(sums(&totals(client, &seen(client, &paid).await).await)[1], ("successful".to_owned(), 5, 5 * 1999));
    system.stop().await;

    let system = bed.start_with(&["--totals", "false"]).await;
    let none = system.front.client.get("/v1/totals").await;
    assert_eq!((none.status, none.text("code")), (404, "no_totals"), "{none:?}");
    system.stop().await;
    let system = bed.start().await;
    until("the totals are folded to the end", async || system.front.client.get("/v1/totals").await.status == 200).await;
    assert_eq!(sums(&system.front.client.get("/v1/totals").await.body)[1], ("successful".to_owned(), 5, 5 * 1999));
    system.stop().await;
}
