//! Reading what has become of payments.

use crate::client::body;
use crate::cluster::Bed;

pub async fn the_etag_and_the_long_poll(bed: &Bed) {
    let system = bed.start_with(&["--simulator-latency-ms", "300"]).await;
    let client = &system.front.client;
    let accepted = client.pay("order-1", &body("cus_1", "pm_card_visa")).await;
    let path = format!("/v1/payments/{}", accepted.text("id"));
    let first = client.get(accepted.link("self")).await;
    let etag = first.header("etag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with(".1\""), "{etag}");
    assert_eq!(client.get_with(&path, &[("if-none-match", &etag)]).await.status, 304);

    let changed = client.get_with(&path, &[("if-none-match", &etag), ("prefer", "wait=30")]).await;
    assert_eq!((changed.status, changed.text("status")), (200, "successful"));
    assert_eq!(changed.header("preference-applied"), "wait=30");
    let last = changed.header("etag").to_owned();
    let unchanged = client.get_with(&path, &[("if-none-match", &last), ("prefer", "wait=1")]).await;
    assert_eq!((unchanged.status, unchanged.header("etag")), (304, last.as_str()));
    system.stop().await;
}

pub async fn a_customers_list_is_paged_newest_first(bed: &Bed) {
    const PAYMENTS: usize = 7;
    let system = bed.start().await;
    let client = &system.front.client;
    let mut paid = Vec::new();
    for n in 0..PAYMENTS {
        let method = if n % 2 == 0 { "pm_card_visa" } else { "pm_card_visa_chargeDeclined" };
        paid.push(client.pay_to_the_end(&format!("order-{n}"), &body("cus_1", method)).await.text("id").to_owned());
    }
    let other = client.pay_to_the_end("other", &body("cus_2", "pm_card_visa")).await;
    paid.reverse();
    let all = client.get("/v1/payments?limit=200").await;
    let all = all.body["data"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap().to_owned());
    let newest_first = std::iter::once(other.text("id").to_owned()).chain(paid.iter().cloned());
    assert_eq!(all.collect::<Vec<_>>(), newest_first.collect::<Vec<_>>(), "without a customer, all of the merchant's");
    let (mut listed, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let more = cursor.map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
        let page = client.get(&format!("/v1/payments?customer_id=cus_1&limit=3{more}")).await;
        assert_eq!(page.status, 200, "{page:?}");
        let ids = page.body["data"].as_array().unwrap().iter().map(|p| p["id"].as_str().unwrap().to_owned());
        listed.extend(ids);
        pages += 1;
        cursor = page.body["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!((listed, pages), (paid, 3));
    let failed = client.get("/v1/payments?customer_id=cus_1&status=failed").await;
    assert_eq!(failed.body["data"].as_array().unwrap().len(), PAYMENTS / 2);
    for (query, code) in [
        ("limit=0", "invalid_limit"),
        ("limit=201", "invalid_limit"),
        ("status=done", "invalid_status"),
        ("cursor=x", "invalid_cursor"),
    ] {
        let refused = client.get(&format!("/v1/payments?customer_id=cus_1&{query}")).await;
        assert_eq!((refused.status, refused.text("code")), (400, code), "{query}");
    }
    system.stop().await;
}

pub async fn what_became_of_a_request_can_be_asked(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let mine = client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    let (id, request, position) = (mine.text("id"), mine.text("request_id"), mine.header("paylog-position"));
    let asked = client.get(&format!("/v1/payments/{id}?request_id={request}&at_least={position}")).await;
    assert_eq!((asked.status, asked.text("request_id")), (200, request));
    let stranger = client.get(&format!("/v1/payments/{id}?request_id=req_other&at_least={position}")).await;
    assert_eq!(stranger.status, 404, "{stranger:?}");
    let behind = position.rsplit_once('.').unwrap().0;
    let later = client.get(&format!("/v1/payments/{id}?request_id={request}&at_least={behind}.999999")).await;
    assert_eq!((later.status, &later.body["confirmed"]), (202, &serde_json::json!(false)));
    let late = client.get(&format!("/v1/payments/{id}?at_least={behind}.999999")).await;
    assert_eq!((late.status, late.text("code"), late.header("retry-after").is_empty()), (503, "behind", false));
    let other = client.get(&format!("/v1/payments/{id}?at_least=00000000.0.1")).await;
    assert_eq!((other.status, other.text("code")), (409, "other_log"));
    system.stop().await;
}
