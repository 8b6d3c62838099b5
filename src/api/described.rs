//! The routes of this module, described: payments, totals, stream tokens, health and the page.

use super::health::HealthBody;
use super::tokens::{AskedBody, TicketBody, TokenBody};
use super::totals::TotalsBody;
use crate::contract::asked::NewPaymentBody;
use crate::contract::{HistoryBody, PaymentBody, UnconfirmedBody, text};
use crate::openapi::{AT_LEAST, BODY, LetIn, Operation, QUERY, RECORDED, Tag};

pub const TAGS: [Tag; 3] = [
    ("payments", "Payments: made, asked about, listed, and their history."),
    ("stream tokens", "What a browser follows a payment or a customer with, instead of a key."),
    ("service", "How the instance is, and what describes it."),
];

/// What every answer of the API says.
pub(super) const EVERYWHERE: &[&str] = &["Paylog-Position"];

#[must_use]
pub fn described() -> Vec<Operation> {
    let mut all = vec![create(), list(), one(), events(), totals()];
    all.extend(tokens());
    all.extend(health());
    all.extend(page());
    all
}

fn create() -> Operation {
    Operation::new("post", "/v1/payments", "createPayment", "Make a payment")
        .tag("payments")
        .about(
            "The payment is appended to the log, and the log decides whose the key is: the first request with an \
             `Idempotency-Key` makes the payment, and every other with the same body is answered with that one. What may or may \
             not have been recorded (`append_unknown`) is repeated with the same key.",
        )
        .let_in(LetIn::Merchant)
        .everywhere(EVERYWHERE)
        .required_header::<text::IdempotencyKey>(
            "Idempotency-Key",
            "Names the payment for ever, among those of its merchant. To be repeated with it, whatever came of the first request.",
        )
        .header::<text::Wait>("Prefer", "To be answered when the payment has ended, or after that time.")
        .header::<text::Traceparent>("traceparent", "W3C Trace Context: goes with the event, and to the gateway.")
        .body::<NewPaymentBody>()
        .answers::<PaymentBody<'_>>(200, "It has ended.", &["Location", "Idempotent-Replayed", "Preference-Applied"])
        .answers_either::<PaymentBody<'_>, UnconfirmedBody<'_>>(
            202,
            "It is on the log, and not yet at its end. With `confirmed: false` this instance has not yet seen what became of the \
             request: the `self` link tells.",
            &["Location", "Retry-After", "Idempotent-Replayed", "Preference-Applied"],
        )
        .refuses(BODY)
        .refuses(RECORDED)
        .refuses(&[
            (400, &["idempotency_key_missing", "idempotency_key_repeated", "invalid_idempotency_key"]),
            (400, &["duplicate_field", "unknown_field"]),
            (422, &["missing_field", "not_a_string", "card_number", "idempotency_key_reused"]),
            (422, &["amount_negative", "amount_zero", "amount_too_large", "amount_not_whole", "amount_not_a_number"]),
            (422, &["invalid_currency", "invalid_customer_id", "invalid_payment_method"]),
            (422, &["description_too_long", "invalid_metadata"]),
            (503, &["halted"]),
        ])
}

fn one() -> Operation {
    Operation::new("get", "/v1/payments/{id}", "getPayment", "A payment as it is, or was, or when it changes")
        .tag("payments")
        .about(
            "With `If-None-Match` and `Prefer: wait=N` the answer is held until there is a newer version (the long-poll). With \
             `at` it is the payment as it was then. With `request_id` and `at_least`, both from an answer that was not confirmed, \
             it is what became of that request.",
        )
        .let_in(LetIn::Follower)
        .everywhere(EVERYWHERE)
        .path::<text::PaymentId>("id", "Which payment.")
        .query::<text::AtLeast>("at_least", "Answer with no less than this. Waits up to 2 s for it.")
        .query::<text::Time>("at", "As it was then, by the log's clock.")
        .query::<text::RequestId>("request_id", "What became of this request, appended at `at_least`.")
        .header::<text::Tag>("If-None-Match", "The version that the client has.")
        .header::<text::Wait>("Prefer", "With `If-None-Match`: wait for a newer version.")
        .answers::<PaymentBody<'_>>(200, "The payment.", &["ETag", "Preference-Applied", "Idempotent-Replayed"])
        .answers::<UnconfirmedBody<'_>>(202, "Of `request_id`: not folded yet.", &["Retry-After"])
        .answers_nothing(304, "There is no newer version.", &["ETag", "Preference-Applied"])
        .refuses(QUERY)
        .refuses(AT_LEAST)
        .refuses(&[
            (400, &["invalid_at", "invalid_request_id"]),
            (404, &["payment_not_found", "request_not_found"]),
            (422, &["idempotency_key_reused"]),
        ])
}

fn list() -> Operation {
    Operation::new("get", "/v1/payments", "listPayments", "Payments, the newest first")
        .tag("payments")
        .let_in(LetIn::Follower)
        .everywhere(EVERYWHERE)
        .query::<text::CustomerId>("customer_id", "Of this customer alone.")
        .query::<text::Status>("status", "With this status alone.")
        .query::<text::Cursor>("cursor", "The `next_cursor` of the page before.")
        .query::<text::Limit>("limit", "50 if nothing is said.")
        .query::<text::AtLeast>("at_least", "Answer with no less than this.")
        .answers_list::<PaymentBody<'_>>("A page.")
        .refuses(QUERY)
        .refuses(AT_LEAST)
        .refuses(&[(400, &["invalid_customer_id", "invalid_status", "invalid_cursor", "invalid_limit"])])
}

fn events() -> Operation {
    Operation::new("get", "/v1/payments/{id}/events", "listPaymentEvents", "The history of a payment")
        .tag("payments")
        .let_in(LetIn::Follower)
        .everywhere(EVERYWHERE)
        .path::<text::PaymentId>("id", "Which payment.")
        .query::<text::True>("all", "`true`: those without effect too, whose `version` is `null`.")
        .query::<text::AtLeast>("at_least", "Answer with no less than this.")
        .answers_list::<HistoryBody<'_>>("All of it, in order.")
        .refuses(QUERY)
        .refuses(AT_LEAST)
        .refuses(&[(400, &["invalid_all"]), (404, &["payment_not_found"])])
}

fn totals() -> Operation {
    Operation::new("get", "/v1/totals", "getTotals", "Sums by day, currency and status")
        .tag("payments")
        .let_in(LetIn::Merchant)
        .everywhere(EVERYWHERE)
        .query::<text::Day>("from", "The first day; 30 days up to `to` if nothing is said.")
        .query::<text::Day>("to", "The last day; today if nothing is said. 366 days at most.")
        .query::<text::AtLeast>("at_least", "Answer with no less than this.")
        .answers::<TotalsBody>(200, "By the day on which payments were accepted.", &[])
        .refuses(QUERY)
        .refuses(AT_LEAST)
        .refuses(&[(400, &["invalid_day", "invalid_days"]), (404, &["no_totals"])])
}

fn tokens() -> [Operation; 4] {
    let new = |method, path, id, summary| {
        Operation::new(method, path, id, summary).tag("stream tokens").everywhere(EVERYWHERE)
    };
    [
        new("post", "/v1/stream_tokens", "createStreamToken", "A token for a browser")
            .about("Asked for by a merchant's backend, and given to its page: it opens one payment or one customer.")
            .let_in(LetIn::Merchant)
            .body::<AskedBody>()
            .answers::<TokenBody<'_>>(201, "The token.", &[])
            .refuses(BODY)
            .refuses(&[(
                422,
                &["invalid_stream_token", "invalid_payment_id", "invalid_customer_id", "invalid_expires_in"],
            )])
            .refuses(&[(501, &["no_token_key"])]),
        new("post", "/v1/stream_tokens/ticket", "createTicket", "A ticket for one stream")
            .about(
                "For a stream that can be given neither a header nor a cookie: it stands in the URL, and is good once.",
            )
            .let_in(LetIn::Token)
            .answers::<TicketBody<'_>>(201, "The ticket.", &[])
            .refuses(&[(501, &["no_token_key"])]),
        new("post", "/v1/stream_tokens/cookie", "setStreamCookie", "The token as a cookie")
            .let_in(LetIn::Token)
            .answers_nothing(204, "The browser has it.", &["Set-Cookie"])
            .refuses(&[(501, &["no_token_key"])]),
        new("delete", "/v1/stream_tokens/cookie", "forgetStreamCookie", "Forget the cookie").answers_nothing(
            204,
            "The browser has forgotten it.",
            &["Set-Cookie"],
        ),
    ]
}

/// Of an instance of whatever role.
#[must_use]
pub fn health() -> [Operation; 2] {
    let new = |path, id, summary| Operation::new("get", path, id, summary).tag("service");
    [
        new("/livez", "isLive", "The process turns").answers::<HealthBody>(200, "It does.", &[]),
        new("/readyz", "isReady", "The instance may be asked")
            .about("Never ready and empty: not before the log was folded to its end.")
            .answers::<HealthBody>(200, "It may.", &[])
            .refuses(&[(503, &["shutting_down", "not_caught_up", "version_differs"])]),
    ]
}

fn page() -> [Operation; 3] {
    let new = |path, id, summary| Operation::new("get", path, id, summary).tag("service");
    const SENT: &[&str] = &["ETag", "Content-Security-Policy"];
    [
        new("/", "getPage", "The page to pay with and to watch")
            .header::<text::Tag>("If-None-Match", "What the browser has.")
            .answers_as(200, "It.", SENT, "text/html")
            .answers_nothing(304, "It has not changed.", SENT),
        new("/docs", "getDocs", "This description, to be read")
            .header::<text::Tag>("If-None-Match", "What the browser has.")
            .answers_as(200, "A page that shows `/openapi.json` and `/asyncapi.json`.", SENT, "text/html")
            .answers_nothing(304, "It has not changed.", SENT),
        new("/page/{file}", "getPageFile", "A file of the page")
            .path::<text::File>("file", "Its path.")
            .header::<text::Tag>("If-None-Match", "What the browser has.")
            .answers_as(200, "The file.", SENT, "*/*")
            .answers_nothing(304, "It has not changed.", SENT)
            .refuses(&[(404, &["not_found"])]),
    ]
}
