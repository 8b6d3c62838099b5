//! The texts of the contract as its description knows them: each has a name, a form and a meaning, and all that carry one
//! refer to it. Nothing here is ever made; `#[schema(value_type = ...)]` names them.

use std::borrow::Cow;

use utoipa::openapi::schema::{ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::deliveries::outcome::ENDPOINT_DISABLED;
use crate::deliveries::target::URL_MAX;
use crate::payment::EventData;
use crate::payment::decision::{CODE_MAX, OPERATOR_MAX, REASON_MAX, REFERENCE_MAX};
use crate::payment::id::{PARTY_ID_MAX, REQUEST_ID_MAX};
use crate::payment::request::PAYMENT_METHOD_MAX;

macro_rules! texts {
    ($($name:ident, $doc:literal, $of:expr;)*) => {$(
        #[doc = $doc]
        pub struct $name;

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let of: ObjectBuilder = $of;
                of.schema_type(Type::String).description(Some($doc)).into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }
        }
    )*};
}

texts! {
    PaymentId, "Names one payment for ever: derived from the merchant and the idempotency key.", like("^pay_[a-z2-7]{25}[aeimquy4]$");
    EventId, "A UUIDv7 (RFC 9562), the same wherever the event is told: who has seen it has seen it.", like("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$");
    Time, "UTC, as RFC 3339 writes it.", format(KnownFormat::DateTime);
    Day, "A day, UTC.", format(KnownFormat::Date);
    Currency, "The code of a currency (ISO 4217).", like("^[A-Z]{3}$");
    Position, "A place on the log, opaque: to be given as `at_least`.", like(r"^[0-9a-f]{8}\.\d+\.\d+$");
    Place, "A partition and an offset, as operators name them.", like(r"^\d+:\d+$");
    Cursor, "Where something goes on, opaque.", ObjectBuilder::new();
    AtLeast, "A position, as `Paylog-Position`, a link or an event has it.", ObjectBuilder::new();
    LastEventId, "The id of the last frame that was received, opaque.", ObjectBuilder::new();
    Tag, "An entity tag, or `*`.", ObjectBuilder::new();
    Wait, "`wait=N`: up to N seconds, 60 at most (RFC 7240). What cannot be understood is ignored.", ObjectBuilder::new();
    IdempotencyKey, "1 to 255 visible ASCII characters, bare or in double quotes.", like(r#"^([!#-~]{1,255}|"[!#-~]{1,255}")$"#);
    Url, "An absolute URL (or IRI): over HTTPS, with no user, password or fragment, to an address that others can reach.", like("^https?://").max_length(Some(URL_MAX));
    EndpointUrl, "Of an endpoint: `https:` for a webhook and a topic of Event Grid, `amqps://HOST/QUEUE` for a queue, `kafka://HOST:PORT/HUB` for a hub. No user, password or fragment; to an address that others can reach.", like("^(https?|amqps?|kafka)://").max_length(Some(URL_MAX));
    Traceparent, "As W3C Trace Context has it; what is not well formed is passed over.", ObjectBuilder::new();
    File, "A path in the folder of the page.", ObjectBuilder::new();
    TicketText, "A ticket, good once.", ObjectBuilder::new();
    SpecVersion, "The version of CloudEvents.", one_of(&["1.0"]);
    Word, "As RFC 6455 has it.", ObjectBuilder::new();
    ParkedReason, "Why a payment is parked, as its event says it.", ObjectBuilder::new();
    MerchantId, "Names a merchant.", visible(PARTY_ID_MAX);
    CustomerId, "Names a customer, as the merchant does; no card number.", visible(PARTY_ID_MAX);
    RequestId, "Names the request that brought a payment: over HTTP, or a record as `<topic>/<partition>/<offset>`.", visible(REQUEST_ID_MAX);
    PaymentMethod, "A token of the gateway's; no card number.", visible(PAYMENT_METHOD_MAX);
    Reference, "Under what name the gateway has a charge.", visible(REFERENCE_MAX);
    FailureCode, "Why a payment failed, for programs.", visible(CODE_MAX);
    OperatorName, "Who decides: one line.", line(OPERATOR_MAX);
    Reason, "Why: one line.", line(REASON_MAX);
    Types, "Names of events, with commas between: no others are told.", like(&format!("^({0})(,({0}))*$", EventData::NAMES.join("|")));
    ProjectionName, "A projection of this instance.", one_of(&["payments", "totals"]);
    DecisionKind, "What becomes of it.", one_of(&["inquire", "charge_again", "settle_successful", "settle_failed"]);
    Despite, "What is set aside.", one_of(&["unknown_schema"]);
    HeldFor, "What a partition of requests waits for.", one_of(&["halted", "registry_away", "schema_withheld"]);
    Accepted, "They are.", one_of(&["accepted"]);
    True, "Yes or no.", one_of(&["true", "false"]);
    Path, "A path of this server, with a position from which on it may be answered.", like("^/v1/");
    Status, "Whether a payment has ended, and how.", one_of(&["in_progress", "successful", "failed"]);
    Phase, "What a payment waits for; `done` once it has ended.", one_of(&["processing", "retrying", "unknown", "parked", "done"]);
    EndpointEvent, "What an endpoint may ask to be told.", one_of(&EventData::NAMES.into_iter().chain([ENDPOINT_DISABLED]).collect::<Vec<_>>());
    FrameName, "What a frame carries.", one_of(&EventData::NAMES.into_iter().chain(["snapshot", "reset"]).collect::<Vec<_>>());
    EventName, "What happened.", one_of(&EventData::NAMES);
    Part, "Which part of paylog wrote an event.", one_of(&["api", "intake", "processor"]);
    EndpointId, "Names one webhook endpoint for ever.", like("^we_[0-9a-f]{32}$");
    AskedId, "Names one request about deliveries.", like("^wr_[0-9a-f]{32}$");
    PushSubscriptionId, "Names one browser's subscription to one payment or customer.", like("^ps_[0-9a-f]{32}$");
    TargetId, "A webhook endpoint or a push subscription.", like("^(we|ps)_[0-9a-f]{32}$");
    EndpointStatus, "Whether an endpoint is told.", one_of(&["enabled", "disabled"]);
    TellingState, "How it stands with one event for one endpoint.", one_of(&["pending", "delivered", "given_up", "dropped"]);
    AttemptResult, "What came of one attempt.", one_of(&["delivered", "failed"]);
    KeyId, "Names one key; no secret.", like("^[a-z2-7]+$");
    Scope, "Whose key it is.", one_of(&["merchant", "operator"]);
    KeyStatus, "Whether a key lets anybody in; `expiring` while another takes its place.", one_of(&["good", "expiring", "expired", "revoked"]);
    CheckpointState, "How far a checkpoint is.", one_of(&["writing", "whole", "failed"]);
    VersionPhase, "What a version of a projection is doing.", one_of(&["building", "caught-up", "verified", "different", "uncompared", "serving", "retired", "failed"]);
    Digest, "SHA-256, in hex.", like("^[0-9a-f]{64}$");
}

/// A text that looks like this, whole.
fn like(pattern: &str) -> ObjectBuilder {
    ObjectBuilder::new().pattern(Some(pattern))
}

fn visible(max: usize) -> ObjectBuilder {
    like(&format!("^[!-~]{{1,{max}}}$"))
}

/// With something in it.
fn line(max: usize) -> ObjectBuilder {
    like(r"^[^\x00-\x1f\x7f-\x9f]*[^\x00-\x1f\x7f-\x9f\s][^\x00-\x1f\x7f-\x9f]*$").max_length(Some(max))
}

fn format(format: KnownFormat) -> ObjectBuilder {
    ObjectBuilder::new().format(Some(SchemaFormat::KnownFormat(format)))
}

fn one_of(words: &[&str]) -> ObjectBuilder {
    ObjectBuilder::new().enum_values(Some(words.iter().copied()))
}

/// How many a page is to hold.
pub struct Limit;

impl PartialSchema for Limit {
    fn schema() -> RefOr<Schema> {
        let says = "How many a page is to hold, at most.";
        let whole = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(200));
        whole.description(Some(says)).into()
    }
}

impl ToSchema for Limit {
    fn name() -> Cow<'static, str> {
        "Limit".into()
    }
}
