//! The routes of Web Push, described.

use super::KeyBody;
use super::body::Asked;
use super::changes::Unconfirmed;
use crate::api::described::EVERYWHERE;
use crate::contract::{AttemptBody, PushedBody, SubscriptionBody, text};
use crate::openapi::{AT_LEAST, BODY, LetIn, Operation, QUERY, RECORDED, Tag};

pub const TAG: Tag = ("web push", "Browsers that are told by Web Push how a payment has ended.");

fn new(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::new(method, path, id, summary).tag("web push").everywhere(EVERYWHERE)
}

#[must_use]
pub fn described() -> Vec<Operation> {
    vec![key(), create(), list(), delete(), attempts(), of_payment()]
}

fn key() -> Operation {
    new("get", "/v1/push", "getPushKey", "The key that a page subscribes with")
        .answers::<KeyBody<'_>>(200, "The `applicationServerKey`.", &[])
        .refuses(QUERY)
        .refuses(&[(501, &["push_not_configured"])])
}

fn create() -> Operation {
    new("post", "/v1/push_subscriptions", "createPushSubscription", "Have a browser told")
        .about(
            "The body is `PushSubscription.toJSON()`, and what it is for; with a stream token, what that names. The same browser for \
             the same is one subscription, however often it asks.",
        )
        .let_in(LetIn::Follower)
        .query::<text::AtLeast>("at_least", "The payment is there from this position on.")
        .body::<Asked>()
        .answers::<SubscriptionBody<'_>>(200, "It was subscribed before.", &[])
        .answers::<SubscriptionBody<'_>>(201, "It is subscribed.", &[])
        .answers::<Unconfirmed>(202, "It is on the log, and this instance has not seen it yet.", &["Retry-After"])
        .refuses(QUERY)
        .refuses(BODY)
        .refuses(AT_LEAST)
        .refuses(RECORDED)
        .refuses(&[
            (400, &["invalid_body"]),
            (404, &["payment_not_found"]),
            (409, &["other_application_server_key", "payment_ended", "too_many_push_subscriptions", "changed_meanwhile"]),
            (422, &["invalid_endpoint", "invalid_push_key", "invalid_payment_id", "invalid_customer_id"]),
            (422, &["invalid_push_subscription"]),
            (429, &["too_many_push_changes"]),
            (501, &["push_not_configured"]),
            (503, &["push_is_full", "unconfirmed", "log_unavailable"]),
        ])
}

fn list() -> Operation {
    new("get", "/v1/push_subscriptions", "listPushSubscriptions", "All subscriptions of the merchant")
        .let_in(LetIn::Merchant)
        .query::<text::Cursor>("cursor", "The `next_cursor` of the page before.")
        .answers_page::<SubscriptionBody<'_>>("A page.")
        .refuses(QUERY)
        .refuses(&[(400, &["invalid_cursor"])])
}

fn delete() -> Operation {
    new("delete", "/v1/push_subscriptions/{id}", "deletePushSubscription", "Have it told no more")
        .let_in(LetIn::Follower)
        .path::<text::PushSubscriptionId>("id", "Which subscription.")
        .answers_nothing(204, "It is told no more.", &[])
        .refuses(RECORDED)
        .refuses(&[(404, &["push_subscription_not_found"]), (429, &["too_many_push_changes"])])
}

fn of_payment() -> Operation {
    new("get", "/v1/payments/{id}/pushes", "listPaymentPushes", "Which browsers are, or were, to be told of a payment")
        .let_in(LetIn::Merchant)
        .path::<text::PaymentId>("id", "Which payment.")
        .answers_page::<PushedBody<'_>>("By event and subscription.")
        .refuses(QUERY)
        .refuses(&[(404, &["payment_not_found"])])
}

fn attempts() -> Operation {
    new("get", "/v1/push_subscriptions/{id}/attempts", "listPushAttempts", "What came of the attempts to tell it")
        .let_in(LetIn::Merchant)
        .path::<text::PushSubscriptionId>("id", "Which subscription.")
        .query::<text::Cursor>("cursor", "The `next_cursor` of the page before.")
        .answers_page::<AttemptBody<'_>>("A page, the newest first.")
        .refuses(QUERY)
        .refuses(&[(400, &["invalid_cursor"]), (404, &["push_subscription_not_found"])])
}
