use super::{Cause, Failure, Outcome, Result, What, WorkId, decode, encode};
use crate::control::{EndpointId, RequestId, SubscriptionId};
use crate::journal::{LogId, Offset, Partition};
use crate::payment::samples::{at, payment_id};

const LOG: LogId = LogId([7; 16]);

fn outcome(what: What, cause: Cause, result: Result) -> Outcome {
    let target = EndpointId([1; 16]).into();
    let work = WorkId { target, partition: Partition(3), offset: Offset(42), cause };
    let pause_until = (result != Result::Delivered).then(|| at(8));
    Outcome { work, what, attempt: 2, at: at(5), took_ms: 12, status: Some(503), result, pause_until }
}

fn event() -> What {
    let event = "0197a4c0-0000-7000-8000-000000000000".to_owned();
    What::Event { payment: payment_id("a"), version: 2, name: "PaymentSuccessful".to_owned(), event }
}

#[test]
fn an_outcome_survives_a_round_trip_and_knows_its_log() {
    let failed = |next_at| Result::Failed { failure: Failure::Status, next_at };
    let to_a_browser = |result| {
        let outcome = outcome(event(), Cause::Live, result);
        Outcome { work: WorkId { target: SubscriptionId([4; 16]).into(), ..outcome.work }, ..outcome }
    };
    for outcome in [
        outcome(event(), Cause::Live, Result::Delivered),
        outcome(event(), Cause::Asked(RequestId([2; 16])), failed(Some(at(9)))),
        outcome(What::Test, Cause::Asked(RequestId([2; 16])), failed(None)),
        to_a_browser(Result::Delivered),
        to_a_browser(Result::Failed { failure: Failure::TooLarge, next_at: None }),
        outcome(
            What::Disabled { endpoint: EndpointId([3; 16]), reason: "gone".to_owned() },
            Cause::Asked(RequestId([2; 16])),
            Result::Delivered,
        ),
    ] {
        let bytes = encode(LOG, &outcome).unwrap();
        assert_eq!(decode(LOG, &bytes), Ok(Some(outcome)));
        assert_eq!(decode(LogId([8; 16]), &bytes), Ok(None));
    }
}

#[test]
fn what_cannot_be_read_is_told_and_what_is_new_is_passed_over() {
    let good = String::from_utf8(encode(LOG, &outcome(event(), Cause::Live, Result::Delivered)).unwrap()).unwrap();
    assert_eq!(decode(LOG, good.replace("WebhookDelivered", "LetterDelivered").as_bytes()), Ok(None));
    for wrong in [
        "garbage".to_owned(),
        good.replace("\"live\"", "\"dead\""),
        good.replace("pay_", "pax_"),
        good.replace("we_", "wx_"),
        good.replace("\"endpoint\"", "\"end\""),
        good.replace("\"at\":\"2", "\"at\":\"x2"),
        good.replace("WebhookDelivered", "WebhookAttemptFailed"),
    ] {
        assert!(decode(LOG, wrong.as_bytes()).is_err(), "{wrong}");
    }
}

/// As it stands on somebody's log: these bytes never change their meaning.
#[test]
fn a_golden_document() {
    let golden = r#"{"type":"WebhookAttemptFailed","log":"07070707070707070707070707070707","endpoint":"we_01010101010101010101010101010101","partition":3,"offset":42,"cause":"live","event":"test","attempt":2,"at":"2025-11-24T16:00:05.000000Z","took_ms":12,"status":503,"failure":"address_not_allowed","next_at":"2025-11-24T16:00:09.000000Z"}"#;
    let result = Result::Failed { failure: Failure::AddressNotAllowed, next_at: Some(at(9)) };
    let paused = outcome(What::Test, Cause::Live, result);
    let written = |outcome: &Outcome| String::from_utf8(encode(LOG, outcome).unwrap()).unwrap();
    assert_eq!(written(&Outcome { pause_until: None, ..paused.clone() }), golden);
    let pause = r#","pause_until":"2025-11-24T16:00:08.000000Z"}"#;
    assert_eq!(written(&paused), golden.replace('}', pause));
}
