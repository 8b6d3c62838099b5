//! Polling: a page of what has happened since a cursor.

use serde_json::Value;

use crate::client::{Answer, Client, body};
use crate::cluster::Bed;
use crate::streams::mark;

/// Which event of which payment, in the order of the page.
fn marks(page: &Answer) -> Vec<(String, u64)> {
    let changes = page.body["data"].as_array().unwrap_or_else(|| panic!("no page: {page:?}"));
    let mark = |change: &Value| {
        let payment = &change["payment"];
        (payment["id"].as_str().unwrap().to_owned(), payment["version"].as_u64().unwrap())
    };
    changes.iter().map(mark).collect()
}

/// Every page from `after` on, until there is no more, and the cursor behind them.
async fn pages(client: &Client, query: &str, after: Option<&str>) -> (Vec<(String, u64)>, String, usize) {
    let (mut all, mut after, mut pages) = (Vec::new(), after.map(str::to_owned), 0);
    loop {
        let from = after.map_or_else(String::new, |after| format!("&after={after}"));
        let page = client.get(&format!("/v1/events?{query}{from}")).await;
        assert_eq!((page.status, page.header("cache-control")), (200, "no-store"), "{page:?}");
        pages += 1;
        all.extend(marks(&page));
        let next = page.text("next_cursor").to_owned();
        if page.body["has_more"] == false {
            return (all, next, pages);
        }
        after = Some(next);
    }
}

pub async fn what_has_happened_since_a_cursor_is_paged(bed: &Bed) {
    const PAYMENTS: usize = 5;
    let system = bed.start().await;
    let client = &system.front.client;
    let (nothing, start, _) = pages(client, "", None).await;
    assert!(nothing.is_empty());
    let (mut expected, mut failed, mut of_first) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..PAYMENTS {
        let customer = if n % 2 == 0 { "cus_1" } else { "cus_2" };
        let method = if n == 2 { "pm_card_visa_chargeDeclined" } else { "pm_card_visa" };
        let paid = client.pay_to_the_end(&format!("order-{n}"), &body(customer, method)).await;
        let both = [1, 2].map(|version| (paid.text("id").to_owned(), version));
        failed.extend((n == 2).then(|| both[1].clone()));
        of_first.extend(both.iter().filter(|_| n % 2 == 0).cloned());
        expected.extend(both);
    }
    for sorted in [&mut expected, &mut of_first] {
        sorted.sort();
    }
    for (query, expected, least_pages) in [
        ("limit=3", &expected, 4),
        ("", &expected, 1),
        ("customer_id=cus_1&limit=1", &of_first, of_first.len()),
        ("types=PaymentFailed", &failed, 1),
        ("types=PaymentFailed&limit=1", &failed, 1),
    ] {
        for after in [None, Some(start.as_str())] {
            let (mut all, end, pages) = pages(client, query, after).await;
            all.sort();
            assert_eq!((&all, pages >= least_pages), (expected, true), "{query} in {pages} pages");
            assert!(self::pages(client, query, Some(&end)).await.0.is_empty(), "the cursor is behind all of it");
        }
    }
    // In the middle from the page to a stream, and back.
    let first = client.get(&format!("/v1/events?limit=1&after={start}")).await;
    let (_, mut stream) = client.stream("", first.body["next_cursor"].as_str()).await;
    let second = stream.next_change().await;
    let (rest, ..) = pages(client, "", second.id.as_deref()).await;
    let mut all = [marks(&first), vec![mark(&second)], rest].concat();
    all.sort();
    assert_eq!(all, expected);
    system.stop().await;
}

pub async fn a_page_is_held_open_until_something_happens(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let (_, end, _) = pages(client, "", None).await;
    let wait = [("prefer", "wait=1")];
    let nothing = client.get_with(&format!("/v1/events?after={end}"), &wait).await;
    assert_eq!((nothing.status, nothing.header("preference-applied")), (200, "wait=1"));
    assert!(marks(&nothing).is_empty() && nothing.body["has_more"] == false);

    let path = format!("/v1/events?types=PaymentFailed&after={end}");
    let poll = || {
        let (client, path) = (client.clone(), path.clone());
        tokio::spawn(async move { client.get_with(&path, &[("prefer", "wait=50")]).await })
    };
    let held = poll();
    client.pay_to_the_end("good", &body("cus_1", "pm_card_visa")).await;
    assert!(!held.is_finished(), "what is not asked for does not end the wait");
    let bad = client.pay_to_the_end("bad", &body("cus_1", "pm_card_visa_chargeDeclined")).await;
    let page = held.await.unwrap();
    assert_eq!(marks(&page), [(bad.text("id").to_owned(), 2)]);

    for (query, status, code) in [
        ("after=nonsense", 400, "invalid_cursor"),
        ("after=00000000.AAAA", 409, "other_log"),
        ("limit=0", 400, "invalid_limit"),
        ("limit=201", 400, "invalid_limit"),
        ("types=PaymentGone", 400, "invalid_types"),
        ("customer_id=", 400, "invalid_customer_id"),
        ("payment_id=x", 400, "unknown_parameter"),
    ] {
        let refused = client.get(&format!("/v1/events?{query}")).await;
        assert_eq!((refused.status, refused.text("code")), (status, code), "{query}");
    }
    // A stop lets nobody wait.
    let cursor = page.text("next_cursor");
    let (client, last) = (client.clone(), format!("/v1/events?after={cursor}"));
    let held = tokio::spawn(async move { client.get_with(&last, &[("prefer", "wait=60")]).await });
    let (_, mut stream) = system.front.client.stream("", Some(cursor)).await;
    assert!(stream.is_silent().await, "and by now the poll waits too");
    system.stop().await;
    assert!(marks(&held.await.unwrap()).is_empty());
}
