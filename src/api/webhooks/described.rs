//! The routes of webhook endpoints, described.

use super::asks::RecoveryBody;
use super::body::{Create, Nothing, Recover, Resend, Rotate};
use super::changes::UnconfirmedBody;
use crate::api::described::EVERYWHERE;
use crate::contract::{AskedBody, AttemptBody, EndpointBody, ToldBody, text};
use crate::openapi::{BODY, LetIn, Operation, QUERY, RECORDED, Tag};

pub const TAG: Tag = ("webhooks", "Who is told of payments by webhook, how, and what came of it.");

fn new(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(method, path, id, summary).tag("webhooks").let_in(LetIn::Merchant).everywhere(EVERYWHERE)
}

#[must_use]
pub fn described() -> Vec<Operation> {
    let mut all = endpoints();
    all.extend(told());
    all.extend(changes());
    all.extend(asks());
    all
}

fn endpoints() -> Vec<Operation> {
    vec![
        new("get", "/v1/webhook_endpoints", "listWebhookEndpoints", "All endpoints of the merchant")
            .answers_page::<EndpointBody<'_>>("All of them.")
            .refuses(QUERY),
        new("post", "/v1/webhook_endpoints", "createWebhookEndpoint", "Have a URL told")
            .about("Of what happens from now on, signed as Standard Webhooks 1.0 says. The secret is in this answer alone.")
            .body::<Create>()
            .answers::<EndpointBody<'_>>(201, "The endpoint, with its secret.", &[])
            .answers::<UnconfirmedBody<'_>>(202, "It is on the log, and this instance has not seen it yet.", &["Retry-After"])
            .refuses(BODY)
            .refuses(RECORDED)
            .refuses(&[
                (400, &["invalid_body"]),
                (409, &["too_many_webhook_endpoints", "changed_meanwhile"]),
                (422, &["invalid_url", "invalid_events", "invalid_kind", "invalid_payload", "invalid_credential"]),
                (503, &["no_secrets_key", "log_unavailable"]),
            ]),
        new("get", "/v1/webhook_endpoints/{id}", "getWebhookEndpoint", "An endpoint, and how it stands with it")
            .path::<text::EndpointId>("id", "Which endpoint.")
            .answers::<EndpointBody<'_>>(200, "The endpoint.", &[])
            .refuses(QUERY)
            .refuses(&[(404, &["webhook_endpoint_not_found"])]),
        new("delete", "/v1/webhook_endpoints/{id}", "deleteWebhookEndpoint", "Have it told no more")
            .path::<text::EndpointId>("id", "Which endpoint.")
            .answers_nothing(204, "Its secrets are gone with it.", &[])
            .refuses(RECORDED)
            .refuses(&[(404, &["webhook_endpoint_not_found"]), (409, &["changed_meanwhile"])]),
    ]
}

fn told() -> [Operation; 2] {
    [
        new(
            "get",
            "/v1/webhook_endpoints/{id}/attempts",
            "listWebhookAttempts",
            "What came of the attempts to tell it",
        )
        .path::<text::EndpointId>("id", "Which endpoint.")
        .query::<text::Cursor>("cursor", "The `next_cursor` of the page before.")
        .answers_page::<AttemptBody<'_>>("A page, the newest first.")
        .refuses(QUERY)
        .refuses(&[(400, &["invalid_cursor"]), (404, &["webhook_endpoint_not_found"])]),
        new("get", "/v1/payments/{id}/webhooks", "listPaymentWebhooks", "Who is, or was, to be told of a payment")
            .path::<text::PaymentId>("id", "Which payment.")
            .answers_page::<ToldBody<'_>>("By event and endpoint.")
            .refuses(QUERY)
            .refuses(&[(404, &["payment_not_found"])]),
    ]
}

/// What may be done with an endpoint.
fn act(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    new("post", path, id, summary)
        .path::<text::EndpointId>("id", "Which endpoint.")
        .refuses(BODY)
        .refuses(RECORDED)
        .refuses(&[(400, &["invalid_body"]), (404, &["webhook_endpoint_not_found"])])
}

fn changes() -> [Operation; 3] {
    let change = |path, id, summary| {
        act(path, id, summary)
            .answers::<EndpointBody<'_>>(200, "The endpoint as it is now.", &[])
            .answers::<UnconfirmedBody<'_>>(
                202,
                "It is on the log, and this instance has not seen it yet.",
                &["Retry-After"],
            )
            .refuses(&[(409, &["changed_meanwhile"])])
    };
    [
        change("/v1/webhook_endpoints/{id}/rotate", "rotateWebhookSecret", "Exchange its secret")
            .about(
                "The new secret signs at once, and is in this answer alone; those before sign for `overlap_seconds`.",
            )
            .body_if_any::<Rotate>()
            .refuses(&[
                (409, &["too_many_secrets"]),
                (422, &["invalid_overlap", "invalid_credential"]),
                (503, &["no_secrets_key"]),
            ]),
        change("/v1/webhook_endpoints/{id}/disable", "disableWebhookEndpoint", "Tell it nothing for now")
            .body_if_any::<Nothing>(),
        change("/v1/webhook_endpoints/{id}/enable", "enableWebhookEndpoint", "Tell it of what happens from now on")
            .body_if_any::<Nothing>()
            .refuses(&[(503, &["log_unavailable"])]),
    ]
}

fn asks() -> [Operation; 3] {
    let ask = |path, id, summary| {
        act(path, id, summary).refuses(&[(409, &["webhook_endpoint_disabled"]), (429, &["too_many_webhook_requests"])])
    };
    [
        ask("/v1/webhook_endpoints/{id}/test", "testWebhookEndpoint", "Send it a test")
            .body_if_any::<Nothing>()
            .answers::<AskedBody>(202, "It will be sent.", &["Retry-After"]),
        ask("/v1/webhook_endpoints/{id}/resend", "resendWebhook", "Send it one event again")
            .body::<Resend>()
            .answers::<AskedBody>(202, "It will be sent, with the id that it had.", &["Retry-After"])
            .refuses(&[
                (404, &["payment_not_found", "version_not_found"]),
                (422, &["invalid_payment_id", "invalid_version"]),
            ]),
        ask("/v1/webhook_endpoints/{id}/recover", "recoverWebhooks", "Send it all that it has missed since a time")
            .body::<Recover>()
            .answers::<RecoveryBody<'_>>(202, "The log will be looked through.", &["Retry-After"])
            .refuses(&[(422, &["invalid_time"]), (503, &["log_unavailable"])]),
    ]
}
