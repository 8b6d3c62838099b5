//! From the untrusted JSON of a page to a browser that can be told, and of what.

use crate::access::Named;
use crate::api::webhooks::body::read;
use crate::contract::text;
use crate::deliveries::target;
use crate::payment::{CustomerId, Invalid, PaymentId};
use crate::webpush::Subscription;

const HTTPS: u16 = 443;

/// `PushSubscription.toJSON()`, and what it is for.
#[derive(serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PushSubscriptionAsked)]
pub(in crate::api) struct Asked {
    #[schema(value_type = text::Url)]
    endpoint: String,
    /// When the browser lets go of it: its push service says so by itself.
    #[serde(rename = "expirationTime", default)]
    _expiration_time: Option<f64>,
    keys: Keys,
    #[serde(default)]
    #[schema(value_type = Option<text::PaymentId>)]
    payment_id: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<text::CustomerId>)]
    customer_id: Option<String>,
    /// The key that the page subscribed with, so that one which nobody can use is refused at once.
    #[serde(default)]
    application_server_key: Option<String>,
}

#[derive(serde::Deserialize, utoipa::ToSchema)]
#[schema(as = PushKeys)]
pub(in crate::api) struct Keys {
    p256dh: String,
    auth: String,
}

/// A browser, checked.
#[derive(Debug)]
pub(super) struct Browser {
    pub subscription: Subscription,
    /// The origin of its push service.
    pub service: String,
    /// `None` if the request does not say.
    pub named: Option<Named>,
    pub application_server_key: Option<String>,
}

pub(super) fn browser(body: &[u8], allow_private: bool) -> Result<Browser, Invalid> {
    let Asked { endpoint, keys, payment_id, customer_id, application_server_key, .. } = read(body)?;
    let url = target::parse(&endpoint, allow_private).map_err(|invalid| Invalid {
        code: "invalid_endpoint",
        field: Some("endpoint"),
        detail: invalid.detail.replacen("url", "endpoint", 1),
        ..invalid
    })?;
    // No push service has another, and what answers elsewhere is nobody's to find out through us.
    if !allow_private && url.port_or_known_default() != Some(HTTPS) {
        let detail = "endpoint must be on port 443, as all push services are".to_owned();
        return Err(Invalid::field("invalid_endpoint", "endpoint", detail));
    }
    let subscription = Subscription::parse(&endpoint, &keys.p256dh, &keys.auth)?;
    let named = match (payment_id, customer_id) {
        (None, None) => None,
        (Some(id), None) => Some(Named::Payment(PaymentId::parse(&id).ok_or_else(|| {
            Invalid::field("invalid_payment_id", "payment_id", "payment_id is not the id of a payment".to_owned())
        })?)),
        (None, Some(id)) => Some(Named::Customer(CustomerId::parse(&id)?)),
        (Some(_), Some(_)) => return Err(of_what()),
    };
    let service = url.origin().ascii_serialization();
    Ok(Browser { subscription, service, named, application_server_key })
}

pub(super) fn of_what() -> Invalid {
    let detail = "a push subscription is for one payment_id or for one customer_id".to_owned();
    Invalid::new("invalid_push_subscription", detail)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::browser;
    use crate::access::Named;

    fn good() -> Value {
        json!({
            "endpoint": "https://push.example/send/1",
            "expirationTime": null,
            "keys": {
                "p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
                "auth": "BTBZMqHH6r4Tts7J_aSIgg",
            },
        })
    }

    #[test]
    fn what_a_browser_says_of_itself_is_taken_as_it_is() {
        let of = |more: Value| {
            let mut asked = good();
            asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            browser(asked.to_string().as_bytes(), false)
        };
        let one = of(json!({"customer_id": "cus_1"})).unwrap();
        assert_eq!(
            (one.service.as_str(), one.subscription.endpoint()),
            ("https://push.example", "https://push.example/send/1")
        );
        assert!(matches!(one.named, Some(Named::Customer(_))));
        assert!(of(json!({"endpoint": "https://push.example:443/send/1"})).is_ok());
        assert!(of(json!({"expirationTime": 1_764_000_000_000.5_f64})).unwrap().named.is_none());
        for (more, code, field) in [
            (json!({"endpoint": "http://push.example/"}), "invalid_endpoint", Some("endpoint")),
            (json!({"endpoint": "https://10.0.0.1/"}), "invalid_endpoint", Some("endpoint")),
            (json!({"endpoint": "https://push.example:22/"}), "invalid_endpoint", Some("endpoint")),
            (json!({"endpoint": ""}), "invalid_endpoint", Some("endpoint")),
            (
                json!({"keys": {"p256dh": "AAAA", "auth": "BTBZMqHH6r4Tts7J_aSIgg"}}),
                "invalid_push_key",
                Some("keys.p256dh"),
            ),
            (
                json!({"keys": {"p256dh": good()["keys"]["p256dh"], "auth": "AAAA"}}),
                "invalid_push_key",
                Some("keys.auth"),
            ),
            (json!({"keys": {}}), "invalid_body", None),
            (json!({"keys": null}), "invalid_body", None),
            (json!({"payment_id": "x"}), "invalid_payment_id", Some("payment_id")),
            (json!({"customer_id": ""}), "invalid_customer_id", Some("customer_id")),
            (json!({"customer_id": "a", "payment_id": "b"}), "invalid_push_subscription", None),
            (json!({"merchant_id": "a"}), "invalid_body", None),
        ] {
            let refused = of(more.clone()).unwrap_err();
            assert_eq!((refused.code, refused.field), (code, field), "{more}");
            assert!(!refused.detail.starts_with("url"), "{}", refused.detail);
        }
        assert_eq!(browser(b"", false).unwrap_err().code, "malformed_json");
    }
}
