//! Server-sent events: nothing is skipped and nothing repeated, from whatever position a client comes back.

use paylog::client::Followed;
use paylog::journal::{Offset, Position};
use serde_json::Value;

use crate::client::{Frame, Stream, body};
use crate::cluster::{Bed, PATIENCE};

fn version(frame: &Frame) -> u64 {
    frame.data["payment"]["version"].as_u64().unwrap_or_else(|| panic!("no version in {frame:?}"))
}

pub async fn a_stream_resumes_at_every_position(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let payment = client.pay_to_the_end("order-1", &body("cus_1", "pm_sim_transient")).await;
    let query = format!("payment_id={}", payment.text("id"));
    let last = payment.body["version"].as_u64().unwrap();
    assert_eq!(last, 3);

    let whole = client.whole_stream(&query, None).await;
    assert_eq!((whole.len(), whole[0].event.as_deref(), version(&whole[0])), (1, Some("snapshot"), last));
    let log8 = whole[0].id.clone().unwrap().split_once('.').unwrap().0.to_owned();
    for seen in 1..last {
        let id = format!("{log8}.{seen}");
        let frames = client.whole_stream(&query, Some(&id)).await;
        let versions: Vec<u64> = frames.iter().map(version).collect();
        assert_eq!(versions, (seen + 1..=last).collect::<Vec<_>>(), "after {seen}");
        for frame in &frames {
            assert_eq!(frame.id.as_deref(), Some(format!("{log8}.{}", version(frame)).as_str()));
            assert_eq!(frame.event.as_deref(), frame.data["event"]["type"].as_str());
            assert_eq!(frame.data["event"]["version"], version(frame));
        }
        let by_query = client.whole_stream(&format!("{query}&last_event_id={id}"), None).await;
        assert_eq!(by_query, frames, "the parameter means what the header means");
    }
    for up_to_date in [format!("{log8}.{last}"), whole[0].id.clone().unwrap()] {
        assert_eq!(client.stream(&query, Some(&up_to_date)).await.0, 204);
    }
    let open = client.pay("order-2", &body("cus_1", "pm_sim_unavailable")).await;
    let of_open = format!("payment_id={}", open.text("id"));
    let (status, mut ahead) = client.stream(&of_open, Some(&format!("{log8}.99"))).await;
    assert_eq!(status, 200, "an instance that is behind the id answers 200 and waits");
    assert!(ahead.is_silent().await);
    system.stop().await;
}

/// The snapshot frames, up to and without the cursor, and the cursor.
pub async fn snapshot(stream: &mut Stream) -> (Vec<Frame>, String) {
    let mut frames = Vec::new();
    loop {
        let frame = stream.next().await.expect("the stream ended before its cursor");
        if frame.event.is_none() && frame.data == Value::Null {
            return (frames, frame.id.unwrap());
        }
        assert_eq!((frame.event.as_deref(), &frame.id), (Some("snapshot"), &None));
        frames.push(frame);
    }
}

/// Which event of which payment.
pub fn mark(frame: &Frame) -> (String, u64) {
    (frame.data["payment"]["id"].as_str().unwrap().to_owned(), version(frame))
}

pub async fn a_customers_stream_resumes_at_every_position(bed: &Bed) {
    resumes_at_every_position(bed, "customer_id=cus_1", &["cus_1"]).await;
}

pub async fn a_merchants_whole_stream_resumes_at_every_position(bed: &Bed) {
    resumes_at_every_position(bed, "", &["cus_1", "cus_2"]).await;
}

/// A stream by `query`, of the payments of these customers.
async fn resumes_at_every_position(bed: &Bed, query: &str, customers: &[&str]) {
    const PAYMENTS: usize = 6;
    let system = bed.start().await;
    let client = &system.front.client;
    client.pay_to_the_end("before", &body("cus_1", "pm_card_visa")).await;
    let (status, mut stream) = client.stream(query, None).await;
    assert_eq!((status, stream.header("content-type").as_str()), (200, "text/event-stream"));
    assert_eq!(
        (stream.header("cache-control").as_str(), stream.header("x-accel-buffering").as_str()),
        ("no-cache", "no")
    );
    let (payments, cursor) = snapshot(&mut stream).await;
    assert_eq!(payments.len(), 1);
    assert_eq!(payments[0].data["more"], false);

    for n in 0..PAYMENTS {
        client.pay_to_the_end(&format!("order-{n}"), &body("cus_1", "pm_card_visa")).await;
        client.pay_to_the_end(&format!("other-{n}"), &body("cus_2", "pm_card_visa")).await;
    }
    let mut live = Vec::new();
    while live.len() < PAYMENTS * 2 * customers.len() {
        live.push(stream.next().await.unwrap());
    }
    assert!(stream.is_silent().await, "nothing of another customer, and nothing twice");
    let marks: Vec<_> = live.iter().map(mark).collect();
    assert_eq!(marks.iter().collect::<std::collections::HashSet<_>>().len(), marks.len());
    for (id, _) in &marks {
        let versions: Vec<u64> = marks.iter().filter(|(other, _)| other == id).map(|(_, v)| *v).collect();
        assert_eq!(versions, [1, 2], "the events of one payment come in order");
    }

    let ids: Vec<String> = std::iter::once(cursor).chain(live.iter().map(|f| f.id.clone().unwrap())).collect();
    for (position, id) in ids.iter().enumerate() {
        let (status, mut resumed) = client.stream(query, Some(id)).await;
        assert_eq!(status, 200);
        let mut missed = Vec::new();
        while missed.len() < live.len() - position {
            let frame = resumed.next().await.unwrap();
            missed.extend((frame.data != Value::Null).then_some(frame));
        }
        let missed: Vec<_> = missed.iter().map(mark).collect();
        same_but_for_partitions(missed, marks[position..].to_vec(), &format!("resumed after position {position}"));
    }
    system.stop().await;
}

/// Between partitions there is no order, so only within one payment it must be kept.
fn same_but_for_partitions(mut told: Vec<(String, u64)>, mut expected: Vec<(String, u64)>, what: &str) {
    for (id, _) in &expected {
        let of = |marks: &[(String, u64)]| -> Vec<u64> {
            marks.iter().filter(|(other, _)| other == id).map(|(_, v)| *v).collect()
        };
        assert_eq!(of(&told), of(&expected), "{what}");
    }
    told.sort();
    expected.sort();
    assert_eq!(told, expected, "{what}");
}

/// What is not asked for moves the cursor all the same, and a silent stream tells it.
pub async fn types_are_asked_for_by_their_names(bed: &Bed) {
    let system = bed.start_with(&["--stream-heartbeat-ms", "50"]).await;
    let client = &system.front.client;
    let (status, refused) = client.stream("types=PaymentGone", None).await;
    let detail = refused.problem().await["detail"].as_str().unwrap().to_owned();
    assert!(status == 400 && detail.contains("PaymentInProgress") && detail.contains("PaymentResumed"), "{detail}");

    let (_, mut failures) = client.stream("types=PaymentFailed", None).await;
    let (payments, cursor) = snapshot(&mut failures).await;
    assert!(payments.is_empty());
    let good = client.pay_to_the_end("good", &body("cus_1", "pm_card_visa")).await;
    let moved = failures.next().await.unwrap();
    assert_eq!((moved.event.as_deref(), &moved.data), (None, &Value::Null), "a cursor alone, for it was not asked for");
    assert_ne!(moved.id, Some(cursor.clone()));
    let bad = client.pay_to_the_end("bad", &body("cus_2", "pm_card_visa_chargeDeclined")).await;
    let expected = (bad.text("id").to_owned(), 2);
    assert_eq!(mark(&failures.next_change().await), expected);
    let (_, mut again) = client.stream("types=PaymentFailed,PaymentParked", Some(&cursor)).await;
    assert_eq!(mark(&again.next_change().await), expected, "from a cursor before all of it");

    // Of one payment, the end ends the stream although it is not asked for.
    let begun = format!("{}.1", moved.id.unwrap().split_once('.').unwrap().0);
    let query = format!("payment_id={}&types=PaymentInProgress", good.text("id"));
    let rest = client.whole_stream(&query, Some(&begun)).await;
    assert_eq!(rest.len(), 1, "{rest:?}");
    assert_eq!((rest[0].event.as_deref(), &rest[0].data), (None, &Value::Null));
    assert_eq!(client.stream(&query, rest[0].id.as_deref()).await.0, 204);
    system.stop().await;
}

/// A cursor of an instance that is further: 200 and silence until this one has come as far.
pub async fn an_instance_that_is_behind_waits_in_silence(bed: &Bed) {
    let system = bed.start_with(&["--stream-heartbeat-ms", "50"]).await;
    let client = &system.front.client;
    client.pay_to_the_end("first", &body("cus_1", "pm_card_visa")).await;
    let mut ahead = system.front.view.folded();
    for position in system.front.view.folded().positions() {
        ahead.set(Position::new(position.partition, Offset(position.offset.0 + 2)));
    }
    let cursor = ahead.encode(system.front.view.log_id());
    let (status, mut stream) = client.stream("", Some(&cursor)).await;
    assert_eq!(status, 200);
    let (gated_status, mut gated) = client.stream(&format!("at_least={cursor}"), None).await;
    assert_eq!(gated_status, 200);
    assert!(stream.is_silent().await && gated.is_silent().await);
    // On every partition more than the two offsets that it knows already; on Kafka, markers of transactions count too.
    let mut paid = 0;
    while !system.front.view.folded().covers(&ahead) {
        client.pay_to_the_end(&format!("more-{paid}"), &body("cus_1", "pm_card_visa")).await;
        paid += 1;
    }
    assert!(!snapshot(&mut gated).await.0.is_empty(), "as far as it was asked to be, it says what there is");
    client.pay_to_the_end("last", &body("cus_1", "pm_card_visa")).await;
    stream.next_change().await;
    system.stop().await;
}

/// What the command writes, line by line.
struct Lines(tokio::sync::mpsc::UnboundedSender<String>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let line = String::from_utf8(bytes.to_vec()).unwrap();
        self.0.send(line).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub async fn tail_follows_all_payments(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let (lines, mut written) = tokio::sync::mpsc::unbounded_channel();
    let url = client.url.clone();
    let tailing =
        tokio::spawn(async move { paylog::client::tail(&url, &Followed::All, None, &mut Lines(lines)).await });
    let mut text = String::new();
    for customer in ["cus_1", "cus_2"] {
        let paid = client.pay_to_the_end(customer, &body(customer, "pm_card_visa")).await;
        while !text.lines().any(|line| line.contains(paid.text("id")) && line.contains("successful/done")) {
            text.push_str(&tokio::time::timeout(PATIENCE, written.recv()).await.expect("it is silent").unwrap());
        }
    }
    tailing.abort();
    system.stop().await;
}

pub async fn http2_with_prior_knowledge_carries_streams(bed: &Bed) {
    let system = bed.start().await;
    let client = system.front.client.over_http2();
    let (status, mut stream) = client.stream("", None).await;
    assert_eq!((status, stream.version()), (200, reqwest::Version::HTTP_2));
    snapshot(&mut stream).await;
    let paid = client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    assert_eq!(mark(&stream.next_change().await), (paid.text("id").to_owned(), 1));
    assert_eq!(mark(&stream.next_change().await), (paid.text("id").to_owned(), 2));
    system.stop().await;
}

pub async fn a_stream_of_another_log_is_reset(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let payment = client.pay_to_the_end("order-1", &body("cus_1", "pm_card_visa")).await;
    let frames = client.whole_stream(&format!("payment_id={}", payment.text("id")), Some("00000000.1")).await;
    let events: Vec<_> = frames.iter().map(|f| f.event.as_deref().unwrap()).collect();
    assert_eq!(events, ["reset", "snapshot"]);

    for wide in ["customer_id=cus_1", ""] {
        let (_, mut stream) = client.stream(wide, Some("00000000.AAAAAA")).await;
        assert_eq!(stream.next().await.unwrap().event.as_deref(), Some("reset"));
        assert_eq!(snapshot(&mut stream).await.0.len(), 1);
    }
    system.stop().await;
}

pub async fn bad_stream_requests_are_refused(bed: &Bed) {
    let system = bed.start().await;
    let client = &system.front.client;
    let payment = client.pay("order-1", &body("cus_1", "pm_card_visa")).await;
    let of_payment = format!("payment_id={}", payment.text("id"));
    let cases: Vec<(&str, Option<&str>, u16, &str)> = vec![
        ("payment_id=pay_x&customer_id=cus_1", None, 400, "invalid_stream"),
        ("payment_id=nonsense", None, 400, "invalid_payment_id"),
        ("payment_id=pay_aaaaaaaaaaaaaaaaaaaaaaaaaa", None, 404, "payment_not_found"),
        (&of_payment, Some("nonsense"), 400, "invalid_last_event_id"),
        ("customer_id=cus_1", Some("nonsense"), 400, "invalid_last_event_id"),
        ("", Some("nonsense"), 400, "invalid_last_event_id"),
        ("types=", None, 400, "invalid_types"),
        ("types=PaymentSuccessful,PaymentGone", None, 400, "invalid_types"),
        ("last=1", None, 400, "unknown_parameter"),
    ];
    for (query, id, status, code) in cases {
        let (got, stream) = client.stream(query, id).await;
        assert_eq!((got, stream.header("content-type").as_str()), (status, "application/problem+json"), "{query}");
        assert_eq!(stream.problem().await["code"], code, "{query}");
    }
    system.stop().await;
}

pub async fn a_silent_stream_sends_heartbeats_and_an_old_one_ends(bed: &Bed) {
    let system = bed.start_with(&["--stream-heartbeat-ms", "50", "--stream-max-age-seconds", "1"]).await;
    let (status, mut stream) = system.front.client.stream("customer_id=cus_1", None).await;
    assert_eq!(status, 200);
    let text = stream.rest().await;
    let heartbeats = text.split("\n\n").filter(|block| block.starts_with(':')).count();
    assert!(heartbeats >= 3, "heartbeats in one second of 50 ms: {text:?}");
    system.stop().await;
}

/// Memory for a stream is its cursor: a client that does not read makes nothing grow, and finds everything when it does.
pub async fn a_reader_that_sleeps_misses_nothing(bed: &Bed) {
    const PAYMENTS: usize = 150;
    let system = bed.start().await;
    let client = &system.front.client;
    let (_, mut sleeper) = client.stream("customer_id=cus_1", None).await;
    snapshot(&mut sleeper).await;
    let paying: Vec<_> = (0..PAYMENTS)
        .map(|n| {
            let client = client.clone();
            tokio::spawn(async move { client.pay_to_the_end(&format!("o-{n}"), &body("cus_1", "pm_card_visa")).await })
        })
        .collect();
    for paid in paying {
        assert_eq!(paid.await.unwrap().status, 200);
    }
    let mut marks = Vec::new();
    while marks.len() < PAYMENTS * 2 {
        marks.push(mark(&sleeper.next().await.unwrap()));
    }
    assert!(sleeper.is_silent().await);
    marks.sort();
    marks.dedup();
    assert_eq!(marks.len(), PAYMENTS * 2, "nothing twice");
    system.stop().await;
}
