//! One record of each kind, and what is said of it.

use super::*;
use crate::journal::{Header, Offset, Partition, Position};

const GOOD: &str = r#"{"amount":1999,"currency":"EUR","customer_id":"cus_42","payment_method":"pm_card_visa"}"#;
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn record(key: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)], value: Option<&[u8]>) -> SourceRecord {
    let header = |(name, value): &(&str, Option<&[u8]>)| -> Header { ((*name).to_owned(), value.map(<[u8]>::to_vec)) };
    SourceRecord {
        position: Position::new(Partition(3), Offset(7)),
        timestamp_us: 0,
        key: key.map(<[u8]>::to_vec),
        headers: Some(headers.iter().map(header).collect()),
        value: value.map(<[u8]>::to_vec),
    }
}

fn ask(record: &SourceRecord) -> Result<Asked, Refused> {
    read(record, Instant::now(), &crate::schema::Codec::new().unwrap().requests()).map_err(|unread| match unread {
        Unread::Refused(refused) => refused,
        Unread::NotRegistered(id) => panic!("it waits for a registry to explain {id}"),
    })
}

fn id(merchant: &str, key: &str) -> PaymentId {
    PaymentId::derive(&MerchantId::parse(merchant).unwrap(), &IdempotencyKey::parse(key).unwrap())
}

#[test]
fn the_key_is_in_the_header_or_it_is_the_record_s() {
    let good = Some(GOOD.as_bytes());
    let of_key = ask(&record(Some(b"order-1"), &[], good)).unwrap();
    assert_eq!((of_key.id, of_key.merchant), (id("default", "order-1"), MerchantId::default()));
    let header: &[(&str, Option<&[u8]>)] = &[("idempotency-key", Some(b"\"order-2\""))];
    assert_eq!(ask(&record(Some(b"order-1"), header, good)).unwrap().id, id("default", "order-2"), "the header wins");
    let capitals: &[(&str, Option<&[u8]>)] = &[("Idempotency-Key", Some(b"order-2"))];
    assert_eq!(ask(&record(Some(b"order-1"), capitals, good)).unwrap().id, id("default", "order-2"));
    let merchant: &[(&str, Option<&[u8]>)] = &[("paylog-merchant", Some(b"acme"))];
    assert_eq!(ask(&record(Some(b"order-1"), merchant, good)).unwrap().id, id("acme", "order-1"));
}

#[test]
fn json_and_avro_ask_for_the_same() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/golden-requests/PaymentRequested-00.avro");
    let avro = ask(&record(Some(b"not the key"), &[], Some(&std::fs::read(golden).unwrap()))).unwrap();
    let merchant: &[(&str, Option<&[u8]>)] = &[("paylog-merchant", Some(b"acme"))];
    let json = ask(&record(Some(b"order-1001"), merchant, Some(GOOD.as_bytes()))).unwrap();
    assert_eq!(avro, json);
}

/// The golden request of another merchant: a text in Avro begins with twice its length.
fn avro_of(merchant: &[u8]) -> Vec<u8> {
    let golden = include_bytes!("../../schemas/golden-requests/PaymentRequested-00.avro");
    let (framed, rest) = golden.split_at(10);
    assert_eq!(&rest[..5], b"\x08acme");
    [framed, &[2 * merchant.len() as u8], merchant, &rest[5..]].concat()
}

#[test]
fn every_refusal_has_its_code_and_repeats_nothing() {
    let good = Some(GOOD.as_bytes());
    let key: Option<&[u8]> = Some(b"order-1");
    let card = GOOD.replace("pm_card_visa", "4242424242424242");
    let large = vec![b'{'; RECORD_MAX + 1];
    let of_registry = [0, 0, 0, 0, 9, 2, 65];
    let unknown = [0xC3, 1, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42, 0];
    let cases: Vec<(SourceRecord, &str)> = vec![
        (record(key, &[], None), "empty_record"),
        (record(key, &[], Some(b"")), "empty_record"),
        (record(key, &[], Some(&large)), "record_too_large"),
        (record(key, &[("x", Some(&large[..RECORD_MAX - 50]))], good), "record_too_large"),
        (SourceRecord { headers: None, ..record(key, &[], good) }, "malformed_headers"),
        (record(key, &[], Some(b"4242424242424242")), "unknown_format"),
        (record(key, &[], Some(&of_registry)), "unknown_schema"),
        (record(key, &[], Some(&unknown)), "unknown_schema"),
        (record(key, &[], Some(&[0xC3, 1, 1])), "malformed_avro"),
        (record(key, &[], Some(b"{\"amount\":4242424242424242")), "malformed_json"),
        (record(key, &[], Some(b"{\xff}")), "malformed_json"),
        (record(key, &[], Some(card.as_bytes())), "card_number"),
        (record(None, &[], good), "idempotency_key_missing"),
        (record(Some(b""), &[], good), "invalid_idempotency_key"),
        (record(Some(b"4242 4242"), &[], good), "invalid_idempotency_key"),
        (record(Some(b"caf\xc3\xa9"), &[], good), "invalid_idempotency_key"),
        (record(Some(&[0xFF, 0xFE]), &[], good), "invalid_idempotency_key"),
        (record(key, &[("idempotency-key", None)], good), "invalid_idempotency_key"),
        (
            record(key, &[("idempotency-key", Some(b"a")), ("Idempotency-Key", Some(b"a"))], good),
            "idempotency_key_repeated",
        ),
        (record(key, &[("paylog-merchant", Some(b"4242 4242"))], good), "invalid_merchant_id"),
        (record(key, &[("paylog-merchant", Some(b"4242-4242-4242-4242/12"))], good), "card_number"),
        (record(key, &[], Some(&avro_of(b"4242424242424242"))), "card_number"),
        (record(key, &[("paylog-merchant", Some(b"a")), ("paylog-merchant", Some(b"b"))], good), "merchant_repeated"),
    ];
    for (record, code) in cases {
        let refused = ask(&record).expect_err(code);
        assert_eq!(refused.code, code, "{}", refused.detail);
        assert!(!refused.detail.contains("4242"), "{}", refused.detail);
    }
}

#[test]
fn a_trace_counts_if_it_is_said_once() {
    let said: (&str, Option<&[u8]>) = ("traceparent", Some(TRACE.as_bytes()));
    assert_eq!(trace(&record(None, &[said], None)), Some(TRACE));
    assert_eq!(trace(&record(None, &[said, said], None)), None);
    assert_eq!(trace(&record(None, &[], None)), None);
}
