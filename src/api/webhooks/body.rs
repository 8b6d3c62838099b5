//! From a merchant's untrusted JSON about an endpoint to what cannot be wrong.

use serde::de::DeserializeOwned;

use crate::amqp::ConnectionString;
use crate::contract::text;
use crate::control::hubs;
use crate::control::{Credential, EndpointKind, PayloadKind};
use crate::deliveries::outcome::ENDPOINT_DISABLED;
use crate::deliveries::target;
use crate::http::read_object;
use crate::payment::{Invalid, PaymentId, Timestamp};

/// The names that an endpoint may ask for.
pub(super) const EVENTS: &[&str] = &[
    "PaymentInProgress",
    "PaymentSuccessful",
    "PaymentFailed",
    "PaymentRetryScheduled",
    "PaymentOutcomeUnknown",
    "PaymentParked",
    "PaymentResumed",
    ENDPOINT_DISABLED,
];
/// How long an old secret may go on signing, in seconds, and how long it does if nobody says.
const OVERLAP_MAX_S: u64 = 7 * 24 * 60 * 60;
const OVERLAP_S: u64 = 24 * 60 * 60;

#[derive(serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = WebhookEndpointAsked)]
pub(in crate::api) struct Create {
    #[serde(default)]
    #[schema(value_type = Option<EndpointKind>)]
    kind: Option<String>,
    #[schema(value_type = text::EndpointUrl)]
    url: String,
    #[serde(default)]
    #[schema(value_type = Option<Vec<text::EndpointEvent>>, min_items = 1)]
    events: Option<Vec<String>>,
    #[serde(default)]
    ordered: bool,
    #[serde(default)]
    payload: Option<PayloadKind>,
    #[serde(default)]
    #[schema(min_length = 1, max_length = 2048)]
    credential: Option<String>,
}

/// A new endpoint, checked.
#[derive(Debug)]
pub(super) struct NewEndpoint {
    pub kind: EndpointKind,
    /// Of every kind but webhooks.
    pub credential: Option<Credential>,
    pub url: String,
    pub events: Option<Vec<String>>,
    pub ordered: bool,
    pub payload: PayloadKind,
}

#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Nothing)]
pub(in crate::api) struct Nothing {}

#[derive(serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RotationAsked)]
pub(in crate::api) struct Rotate {
    /// Of a webhook.
    #[serde(default)]
    #[schema(maximum = 604_800)]
    overlap_seconds: Option<u64>,
    /// Of every other kind.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 2048)]
    credential: Option<String>,
}

#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ResendAsked)]
pub(in crate::api) struct Resend {
    #[schema(value_type = text::PaymentId)]
    payment_id: String,
    #[schema(minimum = 1)]
    version: u64,
}

#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RecoverAsked)]
pub(in crate::api) struct Recover {
    #[schema(value_type = text::Time)]
    since: String,
    #[serde(default)]
    #[schema(value_type = Option<text::Time>)]
    until: Option<String>,
}

pub(super) fn new_endpoint(body: &[u8], allow_private: bool) -> Result<NewEndpoint, Invalid> {
    let Create { kind, url, events, ordered, payload, credential } = read(body)?;
    let kind = kind_of(kind.as_deref())?;
    check_address(kind, &url, allow_private)?;
    if let Some(names) = &events {
        let known = |name: &String| EVENTS.contains(&name.as_str());
        if names.is_empty() || !names.iter().all(known) {
            let detail = format!("events must name some of {}, or be left out for all", EVENTS.join(", "));
            return Err(invalid("invalid_events", "events", &detail));
        }
    }
    let (payload, credential) = (payload_of(kind, payload)?, credential_of(kind, credential.as_deref())?);
    if let Some(credential) = &credential {
        check_credential(kind, &url, credential)?;
    }
    Ok(NewEndpoint { kind, credential, url, events, ordered, payload })
}

fn kind_of(name: Option<&str>) -> Result<EndpointKind, Invalid> {
    let Some(name) = name else { return Ok(EndpointKind::default()) };
    EndpointKind::parse(name).ok_or_else(|| {
        let all: Vec<&str> = EndpointKind::ALL.iter().map(|kind| kind.name()).collect();
        invalid(
            "invalid_kind",
            "kind",
            &format!("kind must be one of {}, or be left out for a webhook", all.join(", ")),
        )
    })
}

/// As far as it can be judged before its name is resolved.
fn check_address(kind: EndpointKind, url: &str, allow_private: bool) -> Result<(), Invalid> {
    match kind {
        EndpointKind::Webhook | EndpointKind::EventGrid => target::parse(url, allow_private).map(drop),
        EndpointKind::ServiceBus => target::queue(url, allow_private).map(drop),
        EndpointKind::EventHubs => hubs::hub(url).map(drop),
    }
}

fn payload_of(kind: EndpointKind, payload: Option<PayloadKind>) -> Result<PayloadKind, Invalid> {
    match (kind, payload) {
        (EndpointKind::Webhook, payload) => Ok(payload.unwrap_or_default()),
        (_, None | Some(PayloadKind::CloudEvents)) => Ok(PayloadKind::CloudEvents),
        _ => {
            let detail = "an endpoint of this kind is always sent cloudevents: leave payload out";
            Err(invalid("invalid_payload", "payload", detail))
        }
    }
}

fn credential_of(kind: EndpointKind, text: Option<&str>) -> Result<Option<Credential>, Invalid> {
    match (kind, text) {
        (EndpointKind::Webhook, None) => Ok(None),
        (EndpointKind::Webhook, Some(_)) => {
            let detail = "a webhook has no credential: it is signed with a secret that paylog makes";
            Err(invalid("invalid_credential", "credential", detail))
        }
        (_, text) => parsed(text).map(Some),
    }
}

/// Repeats nothing of it.
fn parsed(text: Option<&str>) -> Result<Credential, Invalid> {
    let detail =
        "an endpoint of this kind needs a credential: the access key, or the connection string, of its service";
    let text = text.ok_or_else(|| invalid("invalid_credential", "credential", detail))?;
    Credential::parse(text).map_err(|bad| invalid("invalid_credential", "credential", &format!("credential: {bad}")))
}

/// What takes the place of the credential of an endpoint of this kind.
pub(super) fn credential(body: &[u8], kind: EndpointKind, url: &str) -> Result<Credential, Invalid> {
    let Rotate { overlap_seconds, credential } = read(body)?;
    if overlap_seconds.is_some() {
        let detail = "a credential takes the place of the one before at once: leave overlap_seconds out";
        return Err(invalid("invalid_overlap", "overlap_seconds", detail));
    }
    let credential = parsed(credential.as_deref())?;
    check_credential(kind, url, &credential)?;
    Ok(credential)
}

/// Is it one that its service could take? Repeats nothing of it.
fn check_credential(kind: EndpointKind, url: &str, credential: &Credential) -> Result<(), Invalid> {
    let refuse = |why: &str| Err(invalid("invalid_credential", "credential", &format!("credential: {why}")));
    match kind {
        EndpointKind::Webhook | EndpointKind::EventGrid => Ok(()),
        EndpointKind::ServiceBus => match ConnectionString::parse(credential.as_str()) {
            Err(why) => refuse(&why),
            Ok(read) if target::queue(url, true).is_ok_and(|queue| !read.is_of(&queue)) => {
                refuse("it is of another namespace or queue than url")
            }
            Ok(_) => Ok(()),
        },
        EndpointKind::EventHubs => match hubs::hub(url).map(|hub| hubs::check_credential(&hub, credential.as_str())) {
            Ok(Err(why)) => refuse(&why),
            Ok(Ok(())) | Err(_) => Ok(()), // another url is refused for itself
        },
    }
}

pub(super) fn nothing(body: &[u8]) -> Result<(), Invalid> {
    read::<Nothing>(body).map(|Nothing {}| ())
}

/// For how many seconds the secrets before go on signing.
pub(super) fn overlap(body: &[u8]) -> Result<u64, Invalid> {
    let Rotate { overlap_seconds, credential } = read(body)?;
    credential_of(EndpointKind::Webhook, credential.as_deref())?;
    match overlap_seconds.unwrap_or(OVERLAP_S) {
        seconds if seconds <= OVERLAP_MAX_S => Ok(seconds),
        _ => Err(invalid("invalid_overlap", "overlap_seconds", "overlap_seconds must be at most 604800, seven days")),
    }
}

pub(super) fn resend(body: &[u8]) -> Result<(PaymentId, u64), Invalid> {
    let Resend { payment_id, version } = read(body)?;
    let payment = PaymentId::parse(&payment_id)
        .ok_or_else(|| invalid("invalid_payment_id", "payment_id", "payment_id is no id of a payment"))?;
    if version == 0 {
        return Err(invalid("invalid_version", "version", "version must be from 1"));
    }
    Ok((payment, version))
}

pub(super) fn recover(body: &[u8]) -> Result<(Timestamp, Option<Timestamp>), Invalid> {
    let Recover { since, until } = read(body)?;
    let time = |name: &'static str, text: &str| {
        let detail = format!("{name} must be a time such as 2026-11-25T10:00:00Z");
        Timestamp::parse(text).ok_or_else(|| invalid("invalid_time", name, &detail))
    };
    let (since, until) = (time("since", &since)?, until.as_deref().map(|text| time("until", text)).transpose()?);
    if until.is_some_and(|until| until <= since) {
        return Err(invalid("invalid_time", "until", "until must be later than since"));
    }
    Ok((since, until))
}

/// Repeats nothing of what was sent.
pub(in crate::api) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Invalid> {
    read_object(body).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        let (code, detail) = match error.classify() {
            serde_json::error::Category::Data => {
                ("invalid_body", format!("a field is missing, unknown or not of its type: see {place}"))
            }
            _ => ("malformed_json", format!("the body is not a JSON object: see {place}")),
        };
        Invalid { code, field: None, detail, malformed: true }
    })
}

fn invalid(code: &'static str, field: &'static str, detail: &str) -> Invalid {
    Invalid { code, field: Some(field), detail: detail.to_owned(), malformed: false }
}

#[cfg(test)]
mod tests {
    use super::{credential, new_endpoint, nothing, overlap, recover, resend};
    use crate::control::{EndpointKind, PayloadKind};

    #[test]
    fn an_endpoint_is_a_url_and_what_it_wants_to_hear_of() {
        let code = |body: &str| new_endpoint(body.as_bytes(), false).map_err(|e| e.code).err();
        assert_eq!(code(r#"{"url":"https://example.org/"}"#), None);
        assert_eq!(
            code(r#"{"url":"https://example.org/","events":["PaymentFailed"],"ordered":true,"payload":"thin"}"#),
            None
        );
        for (body, wrong) in [
            (r#"{"url":"https://example.org/","events":[]}"#, "invalid_events"),
            (r#"{"url":"https://example.org/","events":["PaymentLost"]}"#, "invalid_events"),
            (r#"{"url":"http://example.org/"}"#, "invalid_url"),
            (r#"{"url":"https://10.0.0.1/"}"#, "invalid_url"),
            (r#"{"url":"https://example.org/","secret":"x"}"#, "invalid_body"),
            (r#"{"url":1}"#, "invalid_body"),
            (r#"{"events":[]}"#, "invalid_body"),
            (r#"{"url":"https://example.org/","payload":"all"}"#, "invalid_body"),
            ("", "malformed_json"),
            (r#"{"kind":"carrier_pigeon","url":"https://example.org/"}"#, "invalid_kind"),
            (r#"{"kind":"webhook","url":"https://example.org/","credential":"x"}"#, "invalid_credential"),
            (r#"{"kind":"event_grid","url":"https://example.org/"}"#, "invalid_credential"),
            (r#"{"kind":"event_grid","url":"https://example.org/","credential":"a b"}"#, "invalid_credential"),
            (r#"{"kind":"event_grid","url":"http://example.org/","credential":"x"}"#, "invalid_url"),
            (r#"{"kind":"service_bus","url":"https://example.org/q","credential":"x"}"#, "invalid_url"),
            (r#"{"kind":"service_bus","url":"amqps://example.org/q","credential":"s3cret"}"#, "invalid_credential"),
            (
                r#"{"kind":"service_bus","url":"amqps://example.org/q","credential":"Endpoint=sb://other.org/;SharedAccessKeyName=a;SharedAccessKey=b"}"#,
                "invalid_credential",
            ),
            (
                r#"{"kind":"event_grid","url":"https://example.org/","credential":"x","payload":"thin"}"#,
                "invalid_payload",
            ),
        ] {
            assert_eq!(code(body), Some(wrong), "{body}");
        }
    }

    #[test]
    fn what_is_no_webhook_has_a_credential_and_is_sent_cloud_events() {
        let new = |body: &str| new_endpoint(body.as_bytes(), false).unwrap();
        let grid = new(r#"{"kind":"event_grid","url":"https://example.org/api/events","credential":"a2V5"}"#);
        assert_eq!((grid.kind, grid.payload), (EndpointKind::EventGrid, PayloadKind::CloudEvents));
        assert_eq!(grid.credential.unwrap().as_str(), "a2V5");
        let webhook = new(r#"{"url":"https://example.org/","payload":"cloudevents"}"#);
        assert_eq!((webhook.kind, webhook.payload), (EndpointKind::Webhook, PayloadKind::CloudEvents));
        let exchanged = |body: &str| credential(body.as_bytes(), EndpointKind::EventGrid, "https://example.org/");
        assert_eq!(exchanged(r#"{"credential":"bmV3"}"#).unwrap().as_str(), "bmV3");
        let bus = new(
            r#"{"kind":"service_bus","url":"amqps://example.org/q","credential":"SharedAccessKeyName=a;SharedAccessKey=b"}"#,
        );
        assert_eq!((bus.kind, bus.payload), (EndpointKind::ServiceBus, PayloadKind::CloudEvents));
        for wrong in ["{}", r#"{"overlap_seconds":1,"credential":"bmV3"}"#, r#"{"credential":""}"#] {
            assert!(exchanged(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_asked_of_an_endpoint_is_checked() {
        assert!(nothing(b"{}").is_ok() && nothing(br#"{"a":1}"#).is_err());
        assert!(nothing(b" []").is_err() && overlap(b"[3600]").is_err(), "a list is no object");
        assert_eq!(overlap(b"{}").unwrap(), 86_400);
        assert_eq!(overlap(br#"{"overlap_seconds":0}"#).unwrap(), 0);
        assert!(overlap(br#"{"credential":"bmV3"}"#).is_err());
        assert!(overlap(br#"{"overlap_seconds":604801}"#).is_err() && overlap(br#"{"overlap_seconds":-1}"#).is_err());
        assert!(resend(br#"{"payment_id":"pay_py4e5muxaklg75g4chpkn2gms4","version":1}"#).is_ok());
        assert!(resend(br#"{"payment_id":"pay_py4e5muxaklg75g4chpkn2gms4","version":0}"#).is_err());
        assert!(resend(br#"{"payment_id":"../x","version":1}"#).is_err());
        assert!(recover(br#"{"since":"2026-11-25T10:00:00Z"}"#).is_ok());
        for wrong in [
            r#"{"since":"yesterday"}"#,
            r#"{"since":"2026-11-25T10:00:00Z","until":"2026-11-25T10:00:00Z"}"#,
            r#"{"until":"2026-11-25T10:00:00Z"}"#,
        ] {
            assert!(recover(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
