//! The operator's routes, described.

use super::super::described::EVERYWHERE;
use super::{checkpoints, import, keys, parked, projections, rejected, requests, resume};
use crate::contract::asked::{
    AdoptionBody, NewDecisionBody, NewRejectionBody, NewSchemaDecisionBody, PromotionBody, RevocationBody,
    VersionChangeBody,
};
use crate::contract::{
    FrameBody, KeyBody, NewKeyBody, ParkedBody, PaymentBody, ProjectionBody, SchemaDecisionBody, text,
};
use crate::openapi::{BODY, DECISION, LetIn, Operation, QUERY, RECORDED, Tag};

pub const TAG: Tag = (
    "operator",
    "For those who run this: with an operator's key, or, where paylog listens on a loopback address, on the machine itself.",
);

fn new(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(method, path, id, summary).tag("operator").let_in(LetIn::Operator).everywhere(EVERYWHERE)
}

#[must_use]
pub fn described() -> Vec<Operation> {
    let mut all = of_parked();
    all.extend(of_rejected());
    all.extend(of_requests());
    all.extend(of_import());
    all.extend(of_projections());
    all.extend(of_checkpoints());
    all.extend(of_keys());
    all
}

fn of_parked() -> Vec<Operation> {
    vec![
        new("get", "/v1/operator/parked", "listParked", "Payments that wait for a person")
            .about("By reason, and of one reason who has waited longest first.")
            .query::<text::Cursor>("cursor", "The `next_cursor` of the page before.")
            .query::<text::Limit>("limit", "50 if nothing is said.")
            .query::<text::ParkedReason>("reason", "Of this reason alone.")
            .answers_list::<ParkedBody<'_>>("A page.")
            .refuses(QUERY)
            .refuses(&[(400, &["invalid_cursor", "invalid_limit"]), (409, &["other_log"])]),
        new("get", "/v1/operator/parked/summary", "countParked", "How many wait, by reason")
            .answers::<parked::SummaryBody>(200, "Counted from the state.", &[])
            .refuses(QUERY),
        new("get", "/v1/operator/parked/{id}", "getParked", "One of them, with its history")
            .about("Whether it is still parked or not: who has decided wants to see what became of it.")
            .path::<text::PaymentId>("id", "Which payment.")
            .answers::<parked::OneBody<'_>>(200, "The payment.", &[])
            .refuses(QUERY)
            .refuses(&[(404, &["payment_not_found"])]),
        new("post", "/v1/operator/parked/{id}/resume", "resumeParked", "Decide what becomes of it")
            .about("It goes to the log, and has its effect only if the payment is still as `at_version` says.")
            .path::<text::PaymentId>("id", "Which payment.")
            .body::<NewDecisionBody>()
            .answers::<FrameBody<'_>>(200, "It had its effect.", &[])
            .answers::<resume::UnconfirmedBody>(
                202,
                "It is on the log, and that is all that is known.",
                &["Retry-After"],
            )
            .refuses(BODY)
            .refuses(DECISION)
            .refuses(RECORDED)
            .refuses(&[
                (404, &["payment_not_found"]),
                (409, &["not_parked_at_version"]),
                (422, &["invalid_decision", "field_not_allowed", "invalid_reference", "invalid_code"]),
                (422, &["invalid_at_version"]),
                (503, &["halted"]),
            ]),
        new("get", "/v1/operator/payments", "listAllPayments", "Every payment of the instance, by id")
            .query::<text::Cursor>("cursor", "The `next_cursor` of the page before.")
            .query::<text::Limit>("limit", "50 if nothing is said.")
            .answers_list::<PaymentBody<'_>>("A page.")
            .refuses(QUERY)
            .refuses(&[(400, &["invalid_cursor", "invalid_limit"]), (409, &["other_log"])]),
    ]
}

fn of_rejected() -> [Operation; 2] {
    [
        new("get", "/v1/operator/rejected", "listRejected", "Where the fold has halted, and what it passes over")
            .answers::<rejected::RejectedBody<'_>>(200, "Both.", &[])
            .refuses(QUERY),
        new("post", "/v1/operator/rejected", "reject", "Have a record passed over, for ever")
            .about("Only a record at which this very instance has halted. What a later version may read is not rejected by mistake.")
            .body::<NewRejectionBody>()
            .answers::<rejected::AddedBody<'_>>(201, "It is passed over.", &[])
            .answers::<rejected::UnconfirmedBody>(202, "It is on the log, and that is all that is known.", &["Retry-After"])
            .refuses(BODY)
            .refuses(DECISION)
            .refuses(RECORDED)
            .refuses(&[
                (409, &["not_halted_there", "unknown_schema", "already_rejected", "registry_away"]),
                (422, &["invalid_position", "invalid_despite"]),
            ]),
    ]
}

/// Of a process that takes requests in, too.
#[must_use]
pub fn of_requests() -> [Operation; 3] {
    let change = |path, id, summary, about, codes| {
        new("post", path, id, summary)
            .about(about)
            .path::<u32>("schema_id", "The id of a schema in the registry.")
            .body::<NewSchemaDecisionBody>()
            .answers::<SchemaDecisionBody>(201, "It is decided.", &[])
            .answers::<requests::UnconfirmedBody>(
                202,
                "It is on the log, and that is all that is known.",
                &["Retry-After"],
            )
            .refuses(BODY)
            .refuses(DECISION)
            .refuses(RECORDED)
            .refuses(&[(400, &["invalid_schema_id"])])
            .refuses(codes)
    };
    [
        new(
            "get",
            "/v1/operator/requests",
            "listHeldRequests",
            "Partitions of requests that wait, and what is refused",
        )
        .about("Of this instance: another knows of its own.")
        .answers::<requests::HeldBody>(200, "Both.", &[])
        .refuses(QUERY),
        change(
            "/v1/operator/requests/schemas/{schema_id}/refuse",
            "refuseSchema",
            "Have requests by this id become dead letters",
            "Only of an id that the schema registry says nothing of, while it answers for others. Events are never refused.",
            &[(409, &["already_refused", "no_registry", "schema_explained", "registry_away"])],
        ),
        change(
            "/v1/operator/requests/schemas/{schema_id}/readmit",
            "readmitSchema",
            "Have requests by this id waited for again",
            "It takes back what was refused; what is a dead letter by now stays one.",
            &[(409, &["not_refused"])],
        ),
    ]
}

fn of_import() -> [Operation; 2] {
    [
        new("get", "/v1/operator/import", "getImport", "What the log has from another")
            .answers::<import::ShownBody<'_>>(200, "It, or `null`.", &[])
            .refuses(QUERY),
        new("post", "/v1/operator/import/adopt", "adoptImport", "Say that this log alone acts for it now")
            .body::<AdoptionBody>()
            .answers::<import::ShownBody<'_>>(201, "It is adopted.", &[])
            .answers::<import::UnconfirmedBody>(
                202,
                "It is on the log, and that is all that is known.",
                &["Retry-After"],
            )
            .refuses(BODY)
            .refuses(DECISION)
            .refuses(RECORDED)
            .refuses(&[(409, &["nothing_imported", "other_archive", "already_adopted"]), (422, &["invalid_despite"])]),
    ]
}

fn of_projections() -> Vec<Operation> {
    let change = |path, id, summary| {
        new("post", path, id, summary)
            .path::<text::ProjectionName>("projection", "Which projection.")
            .refuses(BODY)
            .refuses(&[(404, &["projection_not_found"]), (503, &["shutting_down"])])
    };
    let decided = |path, id, summary| {
        change(path, id, summary).refuses(DECISION).refuses(&[
            (404, &["version_not_found"]),
            (409, &["version_not_ready"]),
            (422, &["invalid_differences"]),
        ])
    };
    vec![
        new("get", "/v1/operator/projections", "listProjections", "Projections and their versions, on this instance")
            .answers::<projections::ListBody>(200, "The one that is served first.", &[])
            .refuses(QUERY),
        change(
            "/v1/operator/projections/{projection}/rebuild",
            "rebuildProjection",
            "Build a version beside the served one",
        )
        .body::<projections::RebuildBody>()
        .answers::<ProjectionBody>(202, "It has begun.", &["Retry-After"])
        .refuses(&[(409, &["version_already_there"]), (422, &["invalid_effort"])]),
        decided("/v1/operator/projections/{projection}/promote", "promoteVersion", "Serve a version")
            .body::<PromotionBody>()
            .answers::<ProjectionBody>(200, "It is served.", &[])
            .refuses(&[(409, &["version_differs", "version_behind"])]),
        decided("/v1/operator/projections/{projection}/rollback", "rollBackVersion", "Serve the version before")
            .body::<VersionChangeBody>()
            .answers::<ProjectionBody>(200, "It is served.", &[])
            .refuses(&[(409, &["version_behind"])]),
        decided("/v1/operator/projections/{projection}/cancel", "cancelVersion", "Let go of a version")
            .body::<VersionChangeBody>()
            .answers::<ProjectionBody>(200, "It is gone.", &[]),
    ]
}

fn of_checkpoints() -> [Operation; 2] {
    [
        new("get", "/v1/operator/checkpoints", "listCheckpoints", "The checkpoints that were asked for last")
            .answers::<checkpoints::ListBody>(200, "One of each projection.", &[])
            .refuses(QUERY),
        new("post", "/v1/operator/checkpoints", "createCheckpoint", "Write a copy of the rows to the instance's disk")
            .body::<checkpoints::WantedBody>()
            .answers::<checkpoints::LatestBody>(202, "It has begun.", &["Retry-After"])
            .refuses(BODY)
            .refuses(&[
                (404, &["projection_not_found"]),
                (409, &["checkpoint_being_written"]),
                (422, &["invalid_effort", "invalid_keep"]),
                (503, &["shutting_down"]),
            ]),
    ]
}

fn of_keys() -> [Operation; 4] {
    const SIGNED: &[(u16, &[&str])] = &[(422, &["invalid_operator", "invalid_reason", "card_number"])];
    let change = |path, id, summary| {
        new("post", path, id, summary)
            .path::<text::KeyId>("id", "Which key, by its id.")
            .refuses(BODY)
            .refuses(RECORDED)
            .refuses(SIGNED)
            .refuses(&[
                (404, &["key_not_found"]),
                (409, &["key_over", "key_changed"]),
                (422, &["invalid_overlap"]),
                (503, &["unconfirmed"]),
            ])
    };
    [
        new("get", "/v1/operator/keys", "listKeys", "Keys, without what makes them keys")
            .answers::<keys::ListBody<'_>>(200, "All there ever were.", &[])
            .refuses(QUERY),
        new("post", "/v1/operator/keys", "createKey", "Make a key")
            .body::<keys::CreateBody>()
            .answers::<NewKeyBody<'_>>(201, "The only time that the key is told.", &[])
            .refuses(BODY)
            .refuses(RECORDED)
            .refuses(SIGNED)
            .refuses(&[
                (409, &["key_changed"]),
                (422, &["invalid_scope", "invalid_merchant_id"]),
                (503, &["unconfirmed"]),
            ]),
        change("/v1/operator/keys/{id}/rotate", "rotateKey", "Have another key take its place")
            .body::<keys::ChangeBody>()
            .answers::<NewKeyBody<'_>>(201, "The only time that the new key is told.", &[]),
        change("/v1/operator/keys/{id}/revoke", "revokeKey", "Let nobody in with it any more")
            .body::<RevocationBody>()
            .answers::<KeyBody<'_>>(200, "It is good no longer.", &[]),
    ]
}
