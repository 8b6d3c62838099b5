use warp::http::{HeaderMap, HeaderName, HeaderValue};

use super::{Given, Handshake, handshake, key, validation_code};
use crate::http::Problem;

const DATA: &str = r#"{"amount": 1999}"#;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn events(pairs: &[(&'static str, &str)], body: &str) -> Vec<Result<Given, Problem>> {
    super::events(&headers(pairs), body.as_bytes()).unwrap()
}

fn one(pairs: &[(&'static str, &str)], body: &str) -> (String, String) {
    let mut events = events(pairs, body);
    assert_eq!(events.len(), 1);
    let Given { key, body, .. } = events.remove(0).unwrap();
    (key.as_str().to_owned(), String::from_utf8(body).unwrap())
}

#[test]
fn every_form_of_an_event_asks_for_the_same() {
    let expected = ("/shop/orders/1".to_owned(), DATA.to_owned());
    let cloud = format!(r#"{{"specversion":"1.0","id":"1","source":"/shop/orders","type":"pay","data":{DATA}}}"#);
    let grid = format!(r#"[{{"id":"1","topic":"/shop/orders","subject":"x","eventType":"pay","data":{DATA}}}]"#);
    let base64 = r#"{"specversion":"1.0","id":"1","source":"/shop/orders","type":"pay","data_base64":"eyJhbW91bnQiOiAxOTk5fQ=="}"#;
    let structured = [("content-type", "application/cloudevents+json; charset=utf-8")];
    assert_eq!(one(&structured, &cloud), expected);
    assert_eq!(one(&structured, base64), expected);
    assert_eq!(one(&[("content-type", "application/cloudevents-batch+json")], &format!("[{cloud}]")), expected);
    assert_eq!(one(&[("content-type", "application/json"), ("aeg-event-type", "Notification")], &grid), expected);
    assert_eq!(one(&[("content-type", "application/json; charset=utf-8")], &grid), expected);
    let binary = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "%31"),
        ("ce-source", "\"/shop/orders\""),
        ("ce-type", "pay"),
    ];
    assert_eq!(one(&binary, DATA), expected);
}

#[test]
fn one_event_that_cannot_be_read_says_nothing_of_its_neighbours() {
    let body =
        format!(r#"[{{"id":"1","topic":"t","data":{DATA}}}, 5, {{"id":2}}, {{"id":"3","topic":"t","data":{DATA}}}]"#);
    let read: Vec<bool> = events(&[("content-type", "application/json")], &body).iter().map(Result::is_ok).collect();
    assert_eq!(read, [true, false, false, true]);
}

#[test]
fn what_is_no_event_is_refused() {
    let structured = [("content-type", "application/cloudevents+json")];
    for (body, code) in [
        (r#"{"specversion":"0.3","id":"1","source":"s","type":"t","data":{}}"#, "invalid_event"),
        (r#"{"specversion":"1.0","id":"","source":"s","type":"t","data":{}}"#, "invalid_event"),
        (r#"{"specversion":"1.0","id":"1","type":"t","data":{}}"#, "invalid_event"),
        (r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#, "invalid_event"),
        (r#"{"specversion":"1.0","id":"1","source":"s","datacontenttype":"text/xml","data":"x"}"#, "invalid_event"),
        (r#"{"specversion":"1.0","id":"1","source":"s","data_base64":"!"}"#, "invalid_event"),
    ] {
        let refused = events(&structured, body).remove(0).unwrap_err();
        assert_eq!(refused.code(), code, "{body}");
    }
    let large = format!(r#"{{"specversion":"1.0","id":"1","source":"s","data":"{}"}}"#, "x".repeat(16 * 1024));
    assert_eq!(events(&structured, &large).remove(0).unwrap_err().code(), "invalid_event");
    for (media_type, body, status) in [
        ("application/cloudevents-batch+json", "{}", 400),
        ("application/json", "{}", 400),
        ("text/plain", "[]", 415),
        ("", "[]", 415),
    ] {
        let refused = super::events(&headers(&[("content-type", media_type)]), body.as_bytes()).unwrap_err();
        assert_eq!(refused.status().as_u16(), status, "{media_type} {body}");
    }
}

#[test]
fn a_subscription_is_validated_with_its_code_and_with_nothing_else() {
    let asks = |body: &str| validation_code(body.as_bytes());
    let good = r#"[{"id":"1","topic":"t","data":{"validationCode":"512d38b6-c7b8"},"eventType":"Microsoft.EventGrid.SubscriptionValidationEvent"}]"#;
    assert_eq!(asks(good).unwrap(), "512d38b6-c7b8");
    for bad in
        ["[]", r#"[{"data":{}}]"#, r#"[{"data":{"validationCode":""}}]"#, r#"[{"data":{"validationCode":"<a b>"}}]"#]
    {
        assert!(asks(bad).is_err(), "{bad}");
    }
    for (kind, expected) in [
        ("SubscriptionValidation", Some(Handshake::Validation)),
        ("SubscriptionDeletion", Some(Handshake::Deletion)),
        ("Notification", None),
    ] {
        assert_eq!(handshake(&headers(&[("aeg-event-type", kind)])), expected);
    }
}

/// They can never change: what comes again would be another payment.
#[test]
fn golden_keys() {
    for (source, id, expected) in [
        ("/shop", "1", "/shop/1".to_owned()),
        ("a b", "1", "0ef174d92513c7d704229320c43a360a33388f4f10bd1321fe73d0679a6d92ba".to_owned()),
        ("\"/shop\"", "1", "288e19787dc8ddba0095a5a32f335a16669409e96822ba5c111f32dcae6c3d4a".to_owned()),
        (&"s".repeat(253), "1", format!("{}/1", "s".repeat(253))),
        (&"s".repeat(254), "1", "a1eac318dd0b2a0bbbf9e6869e668150f24083c8a16b24eeed680f98674c26c7".to_owned()),
        ("caf\u{e9}", "1", "32375930e978f5682a23454c0eb85377bda3786c98c1c80372ac55f878d74f23".to_owned()),
    ] {
        assert_eq!(key(source, id).unwrap().as_str(), expected, "{source}");
    }
}
