//! Requests whose schema is named by an id of a registry.

use apache_avro::types::Value as Avro;
use paylog::payment::PaymentId;

use crate::cluster::{Bed, Running, until};
use crate::foreign::{Foreign, Sent, avro, id};
use crate::registry_double::{Mode, Registry, framed, schema, topic};

async fn ends(front: &Running, id: PaymentId) {
    until("the payment ends", async || front.view.payment(id).unwrap().is_some_and(|row| row.payment.is_terminal()))
        .await;
}

/// Somebody's own: other names and types where Avro's rules allow it, no metadata, and a field of theirs.
const THEIRS: &str = r#"{"type": "record", "name": "PaymentRequested", "namespace": "com.example.shop", "fields": [
    {"name": "till", "type": {"type": "array", "items": "string"}},
    {"name": "amount", "type": "int"},
    {"name": "description", "type": "string"},
    {"name": "payment_method", "type": "string"},
    {"name": "customer_id", "type": "string"},
    {"name": "currency", "type": "string"},
    {"name": "idempotency_key", "type": "string"},
    {"name": "merchant_id", "type": "string"}]}"#;

fn theirs(id: u32, key: &str) -> Vec<u8> {
    let text = |name: &str, value: &str| (name.to_owned(), Avro::String(value.to_owned()));
    let record = Avro::Record(vec![
        ("till".to_owned(), Avro::Array(vec![Avro::String("7".to_owned()), Avro::String("8".to_owned())])),
        ("amount".to_owned(), Avro::Int(1250)),
        text("description", "Zwei Bücher"),
        text("payment_method", "pm_card_visa"),
        text("customer_id", "cus_1"),
        text("currency", "EUR"),
        text("idempotency_key", key),
        text("merchant_id", "default"),
    ]);
    let schema = apache_avro::Schema::parse_str(THEIRS).unwrap();
    let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&schema).build().unwrap();
    [&[0], &id.to_be_bytes()[..], &writer.write_value_to_vec(record).unwrap()].concat()
}

fn ours(id: u32, key: &str) -> Vec<u8> {
    framed(id, &avro("default", key, 1999))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn what_the_registry_explains_is_paid_and_what_it_does_not_know_is_a_dead_letter() {
    let bed = Bed::kafka().await;
    let registry = Registry::with_schemas_of(&bed).await;
    registry.explain(500, THEIRS);
    registry.explain(501, &THEIRS.replace(r#""type": "int""#, r#""type": "double""#));
    let foreign = Foreign::new(&bed);
    let known = registry.id_of(&format!("{}.requests-paylog.PaymentRequested", topic(&bed)));
    let event = registry.id_of(&format!("{}-paylog.PaymentFailed", topic(&bed)));
    foreign.send(&Sent::bytes("k", &ours(known, "by-ours")).to(0)).await;
    foreign.send(&Sent::bytes("k", &theirs(500, "by-theirs")).to(0)).await;
    let mut bad = Vec::new();
    for (value, reason) in [
        (theirs(501, "no"), "other_schema"),
        (ours(event, "no"), "other_schema"),
        (ours(999, "no-1"), "unknown_schema"),
        (ours(999, "no-2"), "unknown_schema"),
        (ours(999, "no-3"), "unknown_schema"),
        (ours(known, "no")[..20].to_vec(), "malformed_avro"),
        (vec![0, 0, 0], "malformed_avro"),
        (vec![0, 0xFF, 0xFF, 0xFF, 0xFF], "unknown_schema"),
    ] {
        foreign.send(&Sent::bytes("k", &value).to(0)).await;
        bad.push((value, reason));
    }
    foreign.send(&Sent::json("behind").to(0)).await;
    let system = bed.start_with(&["--schema-registry", &registry.url]).await;
    for key in ["by-ours", "by-theirs", "behind"] {
        ends(&system.front, id("default", key)).await;
    }
    let row = system.front.view.payment(id("default", "by-theirs")).unwrap().unwrap();
    assert_eq!(row.payment.initiation.money.amount(), 1250, "an int is as good as a long");
    foreign.all_taken().await;
    let letters = foreign.dead_letters().await;
    let found: Vec<_> =
        letters.iter().map(|stood| (stood.value.clone().unwrap(), stood.says("paylog-reason"))).collect();
    assert_eq!(found.len(), bad.len(), "{found:?}");
    assert!(bad.iter().all(|one| found.contains(one)), "{found:?}");
    assert_eq!(registry.asked(500), 1, "known at once");
    // Believed when it was said twice, of what had been read before: no more often than there were records.
    assert!([2, 4, 6].contains(&registry.asked(999)), "{}", registry.asked(999));
    assert_eq!(registry.asked(u32::MAX), 0, "it is no id");

    // Who registers first and sends then is not refused for what others had sent before.
    registry.explain(999, &schema("PaymentRequested"));
    foreign.send(&Sent::bytes("k", &ours(999, "registered-since")).to(0)).await;
    ends(&system.front, id("default", "registered-since")).await;
    system.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Kafka: see CONTRIBUTING.md"]
async fn a_registry_that_is_away_refuses_nobody_and_holds_up_only_who_needs_it() {
    let bed = Bed::kafka().await;
    let registry = Registry::with_schemas_of(&bed).await;
    let known = registry.id_of(&format!("{}.requests-paylog.PaymentRequested", topic(&bed)));
    let system = bed.start_with(&["--schema-registry", &registry.url]).await;
    let foreign = Foreign::new(&bed);
    for (n, mode) in [Mode::Fails(500), Mode::Fails(401), Mode::Stalls].into_iter().enumerate() {
        let (unknown, key) = (600 + n as u32, |what: &str| format!("{what}-{n}"));
        registry.now(mode);
        registry.explain(unknown, THEIRS);
        foreign.send(&Sent::bytes("k", &theirs(unknown, &key("held"))).to(0)).await;
        foreign.send(&Sent::json(&key("behind")).to(0)).await;
        foreign.send(&Sent::bytes("k", &ours(known, &key("known"))).to(1)).await;
        foreign.send(&Sent::json(&key("json")).to(1)).await;
        ends(&system.front, id("default", &key("known"))).await;
        ends(&system.front, id("default", &key("json"))).await;
        for what in ["held", "behind"] {
            assert_eq!(system.front.view.payment(id("default", &key(what))).unwrap(), None, "{what} waits");
        }
        registry.now(Mode::Well);
        ends(&system.front, id("default", &key("held"))).await;
        ends(&system.front, id("default", &key("behind"))).await;
    }
    assert_eq!(foreign.dead_letters().await, [], "nobody is refused for it");
    system.stop().await;
}
