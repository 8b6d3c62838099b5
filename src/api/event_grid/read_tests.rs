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

/// A backslash is of its way here in quotes alone, and percent-encoding is read behind it.
#[test]
fn an_attribute_in_a_header_is_what_its_sender_has_in_it() {
    let id = |text: &str| {
        let binary =
            [("content-type", "application/json"), ("ce-specversion", "1.0"), ("ce-source", "s"), ("ce-id", text)];
        events(&binary, DATA).remove(0).map(|given| given.key.as_str().to_owned())
    };
    for (header, expected) in [
        (r"a\b", r"s/a\b"),
        (r#""a\\b""#, r"s/a\b"),
        (r#""a\b""#, "s/ab"),
        (r#""\%41\"""#, r#"s/A""#),
        ("%5C%22", r#"s/\""#),
        (r#"""#, r#"s/""#),
    ] {
        assert_eq!(id(header).unwrap(), expected, "{header}");
    }
    for bad in [r#""a\""#, "%4", "%zz", "%ff"] {
        assert_eq!(id(bad).unwrap_err().code(), "invalid_event", "{bad}");
    }
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
        // Pairs that are one text where they are joined.
        ("/shop/orders", "1", "/shop/orders/1".to_owned()),
        ("/shop", "orders/1", "70af74ac5cab638174406537fdae9ca268c3b1ed14743e765315eac408859993".to_owned()),
        ("a b", "c/d", "2df97ac4a4989ef1559cf70245ec0224698bf0524ed0b203d5fa3222039c7c88".to_owned()),
        ("a b/c", "d", "10d47f28edc147ecf305160ba4e80cfc845703acaaed785eb9dc40cefd536928".to_owned()),
        ("a b", "1", "36864974f54c9e55f134c262b2db4165f17d0f0d89194bef8ede488b29c2daa6".to_owned()),
        ("\"/shop\"", "1", "b88101e4f6b1b30e4488b5763325c1af33059f7c76154c5835ad5585555854c0".to_owned()),
        (&"s".repeat(253), "1", format!("{}/1", "s".repeat(253))),
        (&"s".repeat(254), "1", "5abd0accccf9149dfb5805495fd2f3a11ad6c9c277fcd93fc62dc3a1dc362329".to_owned()),
        ("caf\u{e9}", "1", "bbf057803ae3a3fcb8a5d097a878c26422311fd9d683fa798fdf2a7b6720847a".to_owned()),
    ] {
        assert_eq!(key(source, id).unwrap().as_str(), expected, "{source}");
    }
}
