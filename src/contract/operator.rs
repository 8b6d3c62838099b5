//! What an operator sees: payments that wait for a person, records at which a fold has halted, and those that were rejected.

use crate::archive::Digest;
use crate::checkpoint::{State, Status as CheckpointStatus};
use crate::contract::{Shown, text};
use crate::control::{Import, ImportedArchive, ImportedRange, Mark, Rejection, SchemaDecision};
use crate::holding::{HeldRequest, WaitsFor};
use crate::journal::Position;
use crate::payment::{Currency, Payment, PaymentId, Phase, Timestamp};
use crate::projection::versions::{Rebuilds, Status};
use crate::projection::{Difference, Halt};
use crate::schema::IdStanding;

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Parked)]
pub struct ParkedBody<'a> {
    #[schema(value_type = text::PaymentId)]
    payment: Shown<PaymentId>,
    reason: &'a str,
    detail: &'a str,
    #[schema(value_type = text::Time)]
    parked_since: Shown<Timestamp>,
    /// At which a decision about it has to be made.
    version: u64,
    /// The last try that is on the log.
    attempt: u32,
    gateway: &'a str,
    amount: i64,
    #[schema(value_type = text::Currency)]
    currency: Shown<Currency>,
    merchant_id: &'a str,
    customer_id: &'a str,
    #[schema(value_type = text::Time)]
    created_at: Shown<Timestamp>,
}

/// Where the fold of this instance has stopped.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Halt)]
pub struct HaltBody {
    #[schema(value_type = text::Place)]
    position: Shown<Position>,
    reason: String,
    /// It may be an event of a later version of paylog: rather upgrade than reject it.
    may_be_newer: bool,
    /// It waits for the schema registry's answer, and goes on with it: there is nothing to decide.
    waits: bool,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Rejection)]
pub struct RejectionBody<'a> {
    #[schema(value_type = text::Place)]
    position: Shown<Position>,
    operator: &'a str,
    reason: &'a str,
    #[schema(value_type = text::Time)]
    at: &'a str,
}

/// A partition of requests that waits, at its first record that cannot go on.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = HeldRequest)]
pub struct HeldRequestBody {
    topic: String,
    #[schema(value_type = text::Place)]
    position: Shown<Position>,
    /// Since when it waits for just that.
    #[schema(value_type = text::Time)]
    since: Shown<Timestamp>,
    #[schema(value_type = text::HeldFor)]
    waits_for: &'static str,
    /// The id of the registry that its schema has, if it waits for that.
    #[schema(required)]
    schema_id: Option<u32>,
    /// For people.
    reason: String,
}

impl HeldRequestBody {
    /// `standing`: how it stands with an id of the registry.
    #[must_use]
    pub fn new(topic: String, held: HeldRequest, standing: impl Fn(u32) -> IdStanding) -> Self {
        let HeldRequest { position, since, waits_for } = held;
        let (waits_for, schema_id, reason) = match waits_for {
            WaitsFor::HaltedPartition(home) => (
                "halted",
                None,
                format!("the partition {home} of the log, to which it belongs, has halted or is behind"),
            ),
            WaitsFor::SchemaId(id) => match standing(id) {
                IdStanding::Withheld(said) => (
                    "schema_withheld",
                    Some(id),
                    format!("the schema registry answers for other ids, and of {id} it says: {said}"),
                ),
                _ => ("registry_away", Some(id), format!("the schema registry has not said yet what its id {id} is")),
            },
        };
        Self { topic, position: Shown(position), since: Shown(since), waits_for, schema_id, reason }
    }
}

/// What an operator has decided of requests by one id of the registry.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = SchemaDecision)]
pub struct SchemaDecisionBody {
    schema_id: u32,
    /// They become dead letters.
    refused: bool,
    operator: String,
    reason: String,
    #[schema(value_type = text::Time)]
    at: String,
}

impl SchemaDecisionBody {
    #[must_use]
    pub fn new(decision: SchemaDecision) -> Self {
        let SchemaDecision { schema_id, refused, mark: Mark { operator, reason, at }, .. } = decision;
        Self { schema_id, refused, operator, reason, at }
    }
}

/// What the log has from another.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Import)]
pub struct ImportBody<'a> {
    archive: &'a ImportedArchive,
    ranges: &'a [ImportedRange],
    begun: MarkBody<'a>,
    finished: bool,
    /// `null` while its open payments are only asked about.
    #[schema(required)]
    adopted: Option<MarkBody<'a>>,
}

#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Mark)]
struct MarkBody<'a> {
    operator: &'a str,
    reason: &'a str,
    #[schema(value_type = text::Time)]
    at: &'a str,
}

impl<'a> ImportBody<'a> {
    #[must_use]
    pub fn new(import: &'a Import) -> Self {
        let Import { archive, ranges, begun, finished, adopted } = import;
        let adopted = adopted.as_ref().map(MarkBody::new);
        Self { archive, ranges, begun: MarkBody::new(begun), finished: *finished, adopted }
    }
}

impl<'a> MarkBody<'a> {
    fn new(mark: &'a Mark) -> Self {
        let Mark { operator, reason, at } = mark;
        Self { operator, reason, at }
    }
}

impl<'a> ParkedBody<'a> {
    /// `None` if it is not parked.
    #[must_use]
    pub fn of(payment: &'a Payment) -> Option<Self> {
        let Phase::Parked { reason, detail } = &payment.phase else { return None };
        let initiation = &payment.initiation;
        Some(Self {
            payment: Shown(payment.id),
            reason,
            detail,
            parked_since: Shown(payment.updated_at),
            version: payment.version,
            attempt: payment.attempt,
            gateway: &initiation.gateway,
            amount: initiation.money.amount(),
            currency: Shown(initiation.money.currency()),
            merchant_id: initiation.merchant_id.as_str(),
            customer_id: initiation.customer_id.as_str(),
            created_at: Shown(payment.created_at),
        })
    }
}

impl HaltBody {
    #[must_use]
    pub fn new(halt: Halt) -> Self {
        let Halt { position, reason, may_be_newer, waits } = halt;
        Self { position: Shown(position), reason, may_be_newer, waits }
    }
}

impl<'a> RejectionBody<'a> {
    #[must_use]
    pub fn new(rejection: &'a Rejection) -> Self {
        let Rejection { position, operator, reason, at, .. } = rejection;
        Self { position: Shown(*position), operator, reason, at }
    }
}

/// A projection of one instance.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Projection)]
pub struct ProjectionBody {
    projection: &'static str,
    /// The one that is served first.
    versions: Vec<VersionBody>,
}

impl ProjectionBody {
    #[must_use]
    pub fn new(projection: &dyn Rebuilds) -> Self {
        let versions = projection.versions().into_iter().map(VersionBody::new).collect();
        Self { projection: projection.name(), versions }
    }
}

/// One version of a projection.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = ProjectionVersion)]
struct VersionBody {
    version: String,
    #[schema(value_type = text::VersionPhase)]
    phase: String,
    /// `null` of one that was there before any was exchanged.
    #[schema(value_type = Option<text::Time>, required)]
    since: Option<String>,
    #[schema(required)]
    note: Option<String>,
    /// Sums of the offsets of all partitions.
    folded_offsets: u64,
    #[schema(required)]
    end_offsets: Option<u64>,
    #[schema(required)]
    offsets_per_second: Option<f64>,
    #[schema(required)]
    seconds_left: Option<f64>,
    rows_compared: u64,
    differences: u64,
    /// The first of them, at most 100.
    first_differences: Vec<Difference>,
}

impl VersionBody {
    fn new(status: Status) -> Self {
        let Status { version, phase, since, note, folded, pace, compared } = status;
        Self {
            version,
            phase: phase.to_string(),
            since: Some(since).filter(|since| !since.is_empty()),
            note,
            folded_offsets: folded,
            end_offsets: pace.end,
            offsets_per_second: pace.per_second,
            seconds_left: pace.seconds_left,
            rows_compared: compared.rows,
            differences: compared.differences,
            first_differences: compared.shown,
        }
    }
}

/// The checkpoint that was asked for last.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[schema(as = Checkpoint)]
pub struct CheckpointBody {
    /// On the instance's machine.
    file: String,
    #[schema(value_type = text::CheckpointState)]
    state: &'static str,
    /// Why it failed, if it has.
    #[schema(required)]
    error: Option<String>,
    /// What was written so far, or all of it.
    rows: u64,
    bytes: u64,
    /// Once it is whole.
    #[schema(value_type = Option<text::Digest>, required)]
    digest: Option<Shown<Digest>>,
}

impl CheckpointBody {
    #[must_use]
    pub fn new(status: CheckpointStatus) -> Self {
        let CheckpointStatus { file, state, made } = status;
        let whole = made.filter(|_| state == State::Whole);
        let (state, error) = match state {
            State::Writing => ("writing", None),
            State::Whole => ("whole", None),
            State::Failed(error) => ("failed", Some(error)),
        };
        let (rows, bytes) = made.map_or((0, 0), |made| (made.rows, made.bytes));
        let digest = whole.map(|made| Shown(made.digest));
        Self { file: file.display().to_string(), state, error, rows, bytes, digest }
    }
}
