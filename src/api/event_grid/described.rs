//! Events that come in, described.

use super::{AcceptedBody, ValidatedBody};
use crate::api::described::EVERYWHERE;
use crate::contract::asked::{CloudEventBody, GridEventBody, NewPaymentBody};
use crate::contract::text;
use crate::openapi::{BODY, LetIn, Operation, RECORDED, Tag};

pub const TAG: Tag =
    ("events in", "Events of Azure Event Grid, or of anybody who sends CloudEvents over HTTP, that start payments.");

#[must_use]
pub fn described() -> [Operation; 2] {
    [ask(), deliver()]
}

fn ask() -> Operation {
    Operation::new("options", "/v1/event_grid", "mayDeliverEvents", "Ask whether events may be delivered")
        .tag(TAG.0)
        .about("CloudEvents, \"HTTP 1.1 Web Hooks for Event Delivery\" 1.0, 4: consent is in the headers alone.")
        .everywhere(&["Allow"])
        .header::<text::Word>("WebHook-Request-Origin", "Who asks, as it calls itself.")
        .answers_nothing(200, "They may.", &["WebHook-Allowed-Origin", "WebHook-Allowed-Rate"])
        .answers_nothing(204, "Nobody has asked.", &[])
        .refuses(&[(403, &["event_origin"])])
}

fn deliver() -> Operation {
    Operation::new("post", "/v1/event_grid", "deliverEvents", "Start payments by events")
        .tag(TAG.0)
        .about(
            "The `data` of each event is the body of `POST /v1/payments`, and its source and id are the idempotency key: one that comes \
             again is no second payment. In Event Grid's own schema, or as CloudEvents (structured, batched or binary, where the body \
             is the data). 503 asks for all of it again; 400 `events_refused` says that all others are on the log, and that these can \
             never be payments. With `aeg-event-type: SubscriptionValidation` it sends back the code, and needs no key.",
        )
        .let_in(LetIn::Merchant)
        .everywhere(EVERYWHERE)
        .header::<text::Word>("aeg-event-type", "`Notification`, `SubscriptionValidation` or `SubscriptionDeletion`.")
        .header::<text::Word>("ce-specversion", "`1.0`, in binary mode, with `ce-id` and `ce-source`.")
        .header::<text::Word>("ce-id", "In binary mode.")
        .header::<text::Word>("ce-source", "In binary mode.")
        .body_either::<Vec<GridEventBody>, NewPaymentBody>("application/json")
        .body_as::<CloudEventBody>("application/cloudevents+json")
        .body_as::<Vec<CloudEventBody>>("application/cloudevents-batch+json")
        .answers_either::<AcceptedBody, ValidatedBody<'_>>(
            200,
            "Every event is on the log; or the code of a validation; or, of a subscription that is gone, nothing.",
            &[],
        )
        .refuses(&[
            (400, &["body_unreadable", "malformed_event", "invalid_validation", "events_refused"]),
            (413, &["too_many_events"]),
            (503, &["halted"]),
        ])
        .refuses(&BODY[1..])
        .refuses(RECORDED)
}
