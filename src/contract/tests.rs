//! The shapes, field by field, and the texts of places.

use super::{AtLeast, EventBody, FrameBody, HistoryBody, PaymentBody, UnconfirmedBody, VersionId, position_text};
use crate::journal::{LogId, Offset, Partition, Position};
use crate::payment::{Payment, RequestId, samples};
use crate::projection::{BadOffsets, Entry, Offsets};
use serde_json::json;

const LOG: LogId = LogId([7; 16]);

fn entry(data: Vec<crate::payment::EventData>) -> Entry {
    let mut payment = None;
    let mut last = None;
    for (data, seconds) in data.into_iter().zip(0..) {
        let event = samples::event(seconds, data);
        Payment::fold(&mut payment, &event, samples::at(seconds)).unwrap();
        last = Some(event);
    }
    let (event, payment) = (last.unwrap(), payment.unwrap());
    let (position, appended_at) = (Position::new(Partition(3), Offset(17)), samples::at(9));
    Entry { position, appended_at, version: Some(payment.version), event, payment }
}

#[test]
fn a_payment_has_the_fields_of_the_design_in_its_order() {
    let entry = entry(vec![samples::in_progress(1999), samples::successful("ch_1")]);
    let json = serde_json::to_string(&PaymentBody::new(&entry.payment, "07070707.3.17")).unwrap();
    let id = "pay_py4e5muxaklg75g4chpkn2gms4";
    let expected = format!(
        r#"{{"id":"{id}","status":"successful","phase":"done","version":2,"amount":1999,"currency":"EUR",{}"#,
        concat!(
            r#""customer_id":"cus_42","payment_method":"pm_card_visa","description":"Zwei Bücher","#,
            r#""metadata":{"order":"1001"},"created_at":"2025-11-24T16:00:00.000000Z","#,
            r#""updated_at":"2025-11-24T16:00:01.000000Z","failure":null,"#,
            r#""gateway":{"name":"simulator","reference":"ch_1"},"request_id":"req_1","links":{"#,
        )
    );
    let links = format!(
        r#""self":"/v1/payments/{id}?at_least=07070707.3.17","events":"/v1/payments/{id}/events?at_least=07070707.3.17","stream":"/v1/stream?payment_id={id}&at_least=07070707.3.17"}}}}"#
    );
    assert_eq!(json, expected + &links);
}

#[test]
fn a_failure_is_told_and_a_payment_in_progress_has_neither_end() {
    let failed = entry(vec![samples::in_progress(1), samples::failed("card_declined")]);
    let json = serde_json::to_value(PaymentBody::new(&failed.payment, "x")).unwrap();
    assert_eq!(json["failure"], serde_json::json!({"code": "card_declined", "message": "the card was declined"}));
    assert!(json["gateway"].is_null());
    let begun = entry(vec![samples::in_progress(1)]);
    let json = serde_json::to_value(PaymentBody::new(&begun.payment, "x")).unwrap();
    assert!(json["failure"].is_null() && json["gateway"].is_null());
    assert_eq!((&json["status"], &json["phase"]), (&"in_progress".into(), &"processing".into()));
}

#[test]
fn every_kind_of_event_has_its_data_and_no_fingerprint() {
    for data in samples::all() {
        let mut one = entry(vec![samples::in_progress(1)]);
        one.event.data = data;
        let json = serde_json::to_value(EventBody::new(&one, LOG)).unwrap();
        assert_eq!(json["type"], one.event.data.name());
        assert_eq!(json["position"], "07070707.3.17");
        assert!(json["data"].as_object().is_some_and(|data| data.len() >= 2), "{json}");
        assert!(!json.to_string().contains("fingerprint"));
    }
    let mut resumed = entry(vec![samples::in_progress(1)]);
    resumed.event.data =
        samples::resumed(2, crate::payment::event::Decision::SettleFailed { code: "refused".to_owned() });
    resumed.version = None;
    let json = serde_json::to_value(FrameBody::new(&resumed, LOG)).unwrap();
    assert_eq!(json["event"]["data"]["decision"], serde_json::json!({"type": "settle_failed", "code": "refused"}));
    assert!(json["event"]["version"].is_null());
    assert_eq!(json["payment"]["version"], 1);
}

#[test]
fn a_history_says_when_and_where_the_log_took_it_who_wrote_it_and_what_came_of_it() {
    let decision = || samples::resumed(2, crate::payment::event::Decision::Inquire);
    let mut of_record = samples::in_progress(1);
    if let crate::payment::EventData::PaymentInProgress(initiation) = &mut of_record {
        initiation.request_id = RequestId::of_record("payments.requests", 3, 17).unwrap();
    }
    let begun = samples::in_progress(1);
    let (at_once, by) = (
        "2025-11-24T16:00:00.000000Z",
        |part, request, operator| json!({"part": part, "request_id": request, "operator": operator}),
    );
    let none = None::<&str>;
    for (data, writer, state) in [
        (vec![begun.clone()], by("api", Some("req_1"), none), json!(["in_progress", "processing", 1, 0, at_once])),
        (
            vec![of_record],
            by("intake", Some("payments.requests/3/17"), none),
            json!(["in_progress", "processing", 1, 0, at_once]),
        ),
        (
            vec![begun.clone(), samples::retry(4)],
            by("processor", none, none),
            json!(["in_progress", "retrying", 2, 4, "2025-11-24T16:01:00.000000Z"]),
        ),
        (
            vec![begun.clone(), samples::parked(), decision()],
            by("api", none, Some("ada")),
            json!(["in_progress", "processing", 3, 0, "2025-11-24T16:00:02.000000Z"]),
        ),
        (
            vec![begun, samples::successful("ch_1")],
            by("processor", none, none),
            json!(["successful", "done", 2, 2, null]),
        ),
    ] {
        let entry = entry(data);
        let json = serde_json::to_value(HistoryBody::new(&entry, LOG)).unwrap();
        assert_eq!((&json["type"], &json["position"]), (&json!(entry.event.data.name()), &json!("07070707.3.17")));
        assert_eq!((&json["partition"], &json["offset"]), (&json!(3), &json!(17)));
        assert_eq!(json["appended_at"], "2025-11-24T16:00:09.000000Z");
        assert_eq!(json["written_by"], writer);
        let fields = ["status", "phase", "version", "attempt", "due_at"].map(|name| &json["state"][name]);
        assert_eq!(json!(fields), state);
    }
}

#[test]
fn an_unconfirmed_answer_has_only_what_is_certain() {
    let request = RequestId::parse("req_9").unwrap();
    let body = UnconfirmedBody::new(samples::payment_id("order-1001"), &request, "07070707.3.17");
    let json = serde_json::to_value(body).unwrap();
    let names: Vec<&String> = json.as_object().unwrap().keys().collect();
    assert_eq!(names, ["confirmed", "id", "links", "request_id", "status"]);
    assert_eq!(json["confirmed"], false);
    let itself = json["links"]["self"].as_str().unwrap();
    assert!(itself.ends_with("?request_id=req_9&at_least=07070707.3.17"), "{itself}");
}

#[test]
fn a_position_survives_a_round_trip_and_knows_its_log() {
    let position = Position::new(Partition(11), Offset(123_456_789));
    let text = position_text(LOG, position);
    assert_eq!(AtLeast::decode(&text, LOG, 12), Ok(AtLeast::Record(position)));
    assert_eq!(AtLeast::decode(&text, LogId([8; 16]), 12), Err(BadOffsets::OtherLog));
    assert_eq!(AtLeast::decode(&text, LOG, 11), Err(BadOffsets::Malformed));
    let mut state = Offsets::start(12);
    state.set(Position::new(Partition(2), Offset(5)));
    let at_least = AtLeast::decode(&state.encode(LOG), LOG, 12).unwrap();
    assert_eq!(at_least, AtLeast::State(state));
    assert_eq!(at_least.on(Partition(2)), Some(Position::new(Partition(2), Offset(4))));
    assert_eq!(at_least.on(Partition(3)), None, "nothing to wait for");
    for wrong in ["", "..", "07070707.1", "07070707.01.2", "07070707.1.+2", "07070707.1.2.3", "0707070Z.1.2"] {
        assert_eq!(AtLeast::decode(wrong, LOG, 12), Err(BadOffsets::Malformed), "{wrong}");
    }
}

#[test]
fn a_version_survives_a_round_trip_and_knows_its_log() {
    let text = VersionId { log: LOG, version: 42 }.to_string();
    assert_eq!(text, "07070707.42");
    assert_eq!(VersionId::decode(&text, LOG), Ok(42));
    assert_eq!(VersionId::decode(&text, LogId([8; 16])), Err(BadOffsets::OtherLog));
    for wrong in ["", "07070707", "07070707.", "07070707.x", "07070707.-1", "7.1", "07070707.1.2"] {
        assert_eq!(VersionId::decode(wrong, LOG), Err(BadOffsets::Malformed), "{wrong}");
    }
}
