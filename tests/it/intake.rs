//! What comes over Kafka from producers that are not ours: it is judged as over HTTP, paid once, or told why not.

use paylog::payment::{Event, EventData, PaymentId};
use paylog::service::Role;

use crate::client::body;
use crate::cluster::{Bed, Running, System, ends_of, until};
use crate::foreign::{Foreign, GOOD, Sent, avro, id};

async fn ended(front: &Running, id: PaymentId) {
    until("the payment ends", async || front.view.payment(id).unwrap().is_some_and(|row| row.payment.is_terminal()))
        .await;
}

pub fn initiations(log: &[Event], id: PaymentId) -> usize {
    log.iter().filter(|e| e.payment_id == id && matches!(e.data, EventData::PaymentInProgress(_))).count()
}

/// A front, a processor, and somebody else's producer.
async fn started(bed: &Bed) -> (System, Foreign) {
    (bed.start().await, Foreign::new(bed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn json_and_avro_are_paid() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let bed = Bed::kafka().await;
    // Before anybody is there to take it in: the group begins at the beginning.
    let foreign = Foreign::new(&bed);
    let (partition, offset) = foreign.send(&Sent::json("early").header("traceparent", Some(TRACE.as_bytes()))).await;
    let system = bed.start().await;
    let front = &system.front;
    let header = Sent::json("customer-7").header("idempotency-key", Some(b"\"in-header\""));
    foreign.send(&header.header("paylog-merchant", Some(b"acme"))).await;
    foreign.send(&Sent::bytes("anything", &avro("acme", "in-avro", 500))).await;
    let ids = [id("default", "early"), id("acme", "in-header"), id("acme", "in-avro")];
    for id in ids {
        ended(front, id).await;
    }
    let early = front.client.get(&format!("/v1/payments/{}", ids[0])).await;
    assert_eq!((early.status, early.text("status")), (200, "successful"));
    assert_eq!(early.text("request_id"), format!("{}/{partition}/{offset}", foreign.requests()));
    let avro = front.view.payment(ids[2]).unwrap().unwrap().payment.initiation;
    assert_eq!((avro.merchant_id.as_str(), avro.money.amount()), ("acme", 500));
    assert_eq!(front.view.payment(id("acme", "customer-7")).unwrap(), None, "the header beats the record's key");
    assert_eq!(foreign.dead_letters().await, []);

    let log = foreign.read(&foreign.prefix).await;
    let first = log.iter().find(|stood| stood.says("ce_subject") == ids[0].to_string()).unwrap();
    assert_eq!(first.says("traceparent"), TRACE, "the trace goes on");
    assert_eq!(first.key.as_deref(), Some(ids[0].to_string().as_bytes()));
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn the_same_key_over_http_and_over_kafka_is_one_payment() {
    let bed = Bed::kafka().await;
    let (system, foreign) = started(&bed).await;
    let client = &system.front.client;
    let asked = body("cus_1", "pm_card_visa");

    let http_first = client.pay_to_the_end("http-first", &asked).await;
    let end = system.front.log_end().await;
    foreign.send(&Sent::json("http-first")).await;
    foreign.send(&Sent::bytes("http-first", GOOD.replace("1999", "2000").as_bytes())).await;
    foreign.all_taken().await;
    assert_eq!(system.front.log_end().await, end, "what the fold knows is not appended again");

    foreign.send(&Sent::json("kafka-first")).await;
    ended(&system.front, id("default", "kafka-first")).await;
    let replayed = client.pay("kafka-first", &asked).await;
    assert_eq!((replayed.status, replayed.header("idempotent-replayed")), (200, "true"), "{replayed:?}");
    let other = client.pay("kafka-first", &body("cus_2", "pm_card_visa")).await;
    assert_eq!(other.text("code"), "idempotency_key_reused");

    let keys: Vec<String> = (0..20).map(|n| format!("at-once-{n}")).collect();
    let posts = futures_util::future::join_all(keys.iter().map(|key| client.pay(key, &asked)));
    let sends = keys.iter().map(|key| async { foreign.send(&Sent::json(key)).await });
    let (answers, _) = futures_util::future::join(posts, futures_util::future::join_all(sends)).await;
    for (answer, key) in answers.iter().zip(&keys) {
        assert!([200, 202].contains(&answer.status) && answer.id() == id("default", key), "{answer:?}");
        ended(&system.front, id("default", key)).await;
    }
    foreign.all_taken().await;
    let log = system.front.log().await;
    for id in keys.iter().map(|key| id("default", key)).chain([http_first.id(), id("default", "kafka-first")]) {
        assert_eq!(ends_of(&log, id), 1, "{id} ends once");
    }
    assert_eq!(initiations(&log, http_first.id()), 1);
    assert_eq!(foreign.dead_letters().await, [], "neither a repeat nor a conflict is a dead letter");
    system.stop().await;
}

/// librdkafka reads none of the headers of a record that has more than 100,000. One of them names the merchant.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn nobody_is_charged_for_a_record_whose_headers_cannot_be_read() {
    let bed = Bed::kafka().await;
    let (system, foreign) = started(&bed).await;
    let mut sent = Sent::json("k").header("paylog-merchant", Some(b"acme"));
    sent.headers.resize(100_001, ("h".to_owned(), None));
    foreign.send(&sent.clone().to(0)).await;
    foreign.send(&Sent::json("next").to(0)).await;
    ended(&system.front, id("default", "next")).await;
    foreign.all_taken().await;
    let letters = foreign.dead_letters().await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((&letters[0].key, &letters[0].value), (&sent.key, &sent.value));
    let reason = ("paylog-reason".to_owned(), Some(b"malformed_headers".to_vec()));
    assert!(letters[0].headers.contains(&reason), "{letters:?}");
    for merchant in ["default", "acme"] {
        assert_eq!(system.front.view.payment(id(merchant, "k")).unwrap(), None, "{merchant}");
    }
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn every_refused_record_is_a_dead_letter_as_it_came_and_its_neighbours_are_paid() {
    let bed = Bed::kafka().await;
    let (system, foreign) = started(&bed).await;
    foreign.allow_requests_of("20000000").await;
    let good = avro("default", "k", 1);
    let mut unknown = good.clone();
    unknown[2] ^= 1;
    let card = GOOD.replace("pm_card_visa", "4242424242424242");
    let cases: Vec<(Sent, &str)> = vec![
        (Sent::bytes("k", &[0xFF, 0xFE, 0, 1]), "unknown_format"),
        (Sent::bytes("k", b""), "empty_record"),
        (Sent { value: None, ..Sent::json("k") }, "empty_record"),
        (Sent::bytes("k", &good[..good.len() - 3]), "malformed_avro"),
        (Sent::bytes("k", &unknown), "unknown_schema"),
        (Sent::bytes("k", &[&[0, 0, 0, 0, 7][..], &good[10..]].concat()), "unknown_schema"),
        (Sent::bytes("k", &avro("default", "k", -5)), "amount_negative"),
        (Sent::bytes("k", &GOOD.as_bytes()[..40]), "malformed_json"),
        (Sent::bytes("k", GOOD.replace("1999", "19.99").as_bytes()), "amount_not_whole"),
        (Sent::bytes("k", card.as_bytes()), "card_number"),
        (Sent { key: None, ..Sent::json("k") }, "idempotency_key_missing"),
        (Sent::json("k").header("idempotency-key", None), "invalid_idempotency_key"),
        (Sent::json("k").header("paylog-merchant", Some(b"two words")), "invalid_merchant_id"),
        (
            Sent::json("k").header("paylog-reason", Some(b"theirs")).header("idempotency-key", Some(&[0xFF])),
            "invalid_idempotency_key",
        ),
        (Sent::bytes("k", &vec![b'{'; 64 * 1024]), "record_too_large"),
        (Sent::bytes("k", &vec![b'x'; 1_000_000]), "record_too_large"),
    ];
    let mut places = Vec::new();
    for (n, (sent, _)) in cases.iter().enumerate() {
        foreign.send(&Sent::json(&format!("neighbour-{n}")).to(0)).await;
        places.push(foreign.send(&sent.clone().to(0)).await);
    }
    let far_too_large = vec![b'a'; 3_000_000];
    foreign.send(&Sent::bytes("k", &far_too_large).to(0)).await;
    foreign.send(&Sent::json("last").to(0)).await;

    ended(&system.front, id("default", "last")).await;
    for n in 0..cases.len() {
        ended(&system.front, id("default", &format!("neighbour-{n}"))).await;
    }
    foreign.all_taken().await;
    let letters = foreign.dead_letters().await;
    assert_eq!(letters.len(), cases.len() + 1);
    for ((sent, reason), (partition, offset)) in cases.iter().zip(&places) {
        let source = format!("{}/{partition}/{offset}", foreign.requests());
        let letter = letters.iter().find(|letter| letter.says("paylog-source") == source).expect(&source);
        assert_eq!(letter.says("paylog-reason"), *reason, "{}", letter.says("paylog-detail"));
        assert!(letter.value == sent.value && letter.key == sent.key, "{reason}: as it came");
        assert_eq!(letter.headers[..sent.headers.len()], sent.headers[..], "{reason}: with its headers");
        assert!(!letter.says("paylog-detail").contains("4242"), "the detail repeats nothing");
    }
    let cut =
        letters.iter().find(|letter| letter.says("paylog-length") == "3000000").expect("what does not fit is cut");
    assert_eq!(cut.value.as_deref(), Some(&far_too_large[..64 * 1024]));
    assert_eq!(cut.says("paylog-sha256").len(), 64);
    let log = system.front.log().await;
    assert_eq!(initiations(&log, id("default", "k")), 0, "nothing that was refused is paid");
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn what_a_foreign_transaction_aborted_is_not_read() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    let bed = Bed::kafka().await;
    let (system, foreign) = started(&bed).await;
    let topic = foreign.requests();
    let producer: BaseProducer = foreign.client().set("transactional.id", &topic).create().unwrap();
    tokio::task::spawn_blocking(move || {
        let wait = std::time::Duration::from_secs(30);
        producer.init_transactions(wait).unwrap();
        for (key, commits) in [("aborted", false), ("committed", true)] {
            producer.begin_transaction().unwrap();
            let record = BaseRecord::to(&topic).partition(0).key(key).payload(GOOD);
            producer.send(record).map_err(|(error, _)| error).unwrap();
            producer.flush(wait).unwrap();
            if commits { producer.commit_transaction(wait) } else { producer.abort_transaction(wait) }.unwrap();
        }
    })
    .await
    .unwrap();
    ended(&system.front, id("default", "committed")).await;
    assert_eq!(
        system.front.view.payment(id("default", "aborted")).unwrap(),
        None,
        "it stood before, and was passed over"
    );
    assert_eq!(foreign.dead_letters().await, []);
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn too_many_dead_letters_slow_their_partition_and_no_other() {
    const PER_MINUTE: usize = 12;
    let bed = Bed::kafka().await.with(&["--dead-letters-per-minute", "12"]);
    let front = bed.run(Role::Serve, "serve", &[]).await;
    let foreign = Foreign::new(&bed);
    for _ in 0..=PER_MINUTE {
        foreign.send(&Sent::bytes("k", b"garbage").to(0)).await;
    }
    foreign.send(&Sent::json("behind").to(0)).await;
    let processor = bed.run(Role::Process, "process", &[]).await;
    until("a minute's worth has passed", async || foreign.dead_letters().await.len() >= PER_MINUTE).await;
    foreign.send(&Sent::json("elsewhere").to(1)).await;
    ended(&front, id("default", "elsewhere")).await;
    assert_eq!(front.view.payment(id("default", "behind")).unwrap(), None, "it waits its turn");
    ended(&front, id("default", "behind")).await;
    let letters = foreign.dead_letters().await;
    let times: Vec<i64> = letters.iter().map(|letter| letter.at_ms).collect();
    let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(letters.len() == PER_MINUTE + 1 && last - first >= 4_500, "12 a minute is one in 5 s: {times:?}");
    processor.stop().await;
    front.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn a_request_for_a_halted_partition_waits_and_is_neither_refused_nor_passed_over() {
    use crate::cluster::PARTITIONS;
    use paylog::journal::{NewRecord, Partition, partition_of};
    let bed = Bed::kafka().await;
    let (system, foreign) = started(&bed).await;
    let of = |partition| {
        let keys = (0..).map(|n| format!("order-{n}"));
        let home = |key: &String| partition_of(id("default", key).to_string().as_bytes(), PARTITIONS);
        keys.into_iter().find(|key| home(key) == Partition(partition)).unwrap()
    };
    let garbage =
        NewRecord { partition: Partition(1), key: Vec::new(), headers: Vec::new(), value: b"garbage".to_vec() };
    system.front.journal.append(garbage).await.unwrap();
    let processor = system.processor.as_ref().unwrap();
    until("the processor has halted there", async || processor.view.is_halted(Partition(1))).await;

    let (_, waits_at) = foreign.send(&Sent::json(&of(1)).to(0)).await;
    foreign.send(&Sent::json(&of(0)).to(0)).await;
    foreign.send(&Sent::json(&of(2)).to(3)).await;
    ended(&system.front, id("default", &of(2))).await;
    until("only what waits is left", async || {
        let behind = foreign.behind(&foreign.requests()).await;
        behind.iter().map(|(partition, _)| *partition).eq([0])
    })
    .await;
    let behind = foreign.behind(&foreign.requests()).await;
    assert!(behind[0].1.is_none_or(|at| at == waits_at), "{behind:?}");
    assert_eq!(system.front.view.payment(id("default", &of(0))).unwrap(), None, "what stands behind it waits too");
    assert_eq!(foreign.dead_letters().await, []);
    system.stop().await;
}

/// `paylog dead-letter`, as an operator uses it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn an_operator_looks_at_dead_letters() {
    let bed = Bed::kafka().await;
    let up = bed.run(Role::All, "up", &[]).await; // on Kafka it takes requests in too
    let foreign = Foreign::new(&bed);
    for n in 0..5 {
        // Through the end of the topic: each is there before the next is sent.
        foreign.send(&Sent::bytes(&format!("k{n}"), format!("bad {n}\u{1b}[2J").as_bytes()).to(n % 3)).await;
        foreign.all_taken().await;
    }
    let kafka = bed.args("up", "operator", &[]).kafka;
    let run = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_paylog"));
        command.args(["dead-letter", words[0], "--bootstrap-servers", kafka.servers().unwrap()]);
        command.args(["--topic-prefix", &bed.prefix]).args(&words[1..]).env("RUST_LOG", "off").output().unwrap()
    };
    let listed = run(&["ls", "--limit", "3"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines.len(), 3, "{listed}");
    for (line, n) in lines.iter().zip(2..) {
        assert!(line.contains("unknown_format") && line.contains(&format!(".requests/{}/", n % 3)), "{listed}");
    }
    let place = lines[2].split_whitespace().next().unwrap();
    let shown = run(&["show", place]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((shown["reason"].as_str(), shown["key"]["text"].as_str()), (Some("unknown_format"), Some("k4")));
    assert!(shown["value"]["base64"].is_string(), "nothing that a terminal would obey: {shown}");
    assert_eq!(run(&["show", place, "--raw"]).stdout, b"bad 4\x1b[2J");
    let nowhere = run(&["show", "0:999"]);
    let said = String::from_utf8_lossy(&nowhere.stderr).into_owned();
    assert!(nowhere.status.code() == Some(1) && said.contains("there is no dead letter at 0:999"), "{said}");
    up.stop().await;
}
