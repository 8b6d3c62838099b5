//! The routes of this module, described; and their frames, for AsyncAPI.

use super::message::{Asked, Told};
use super::poll::PageBody;
use crate::contract::{FrameBody, ResetBody, SnapshotBody, text};
use crate::http::ProblemBody;
use crate::openapi::{Channel, LetIn, Operation, QUERY, Tag};
use crate::payment::EventData;

pub const TAG: Tag = (
    "streams",
    "What happens, as it happens: one feed and one cursor over server-sent events, WebSocket and pages. Their frames are \
     described by AsyncAPI, at `/asyncapi.json`.",
);

#[must_use]
pub fn described() -> [Operation; 3] {
    [stream(), socket(), page()]
}

fn stream() -> Operation {
    Operation::new("get", "/v1/stream", "followPayments", "Follow a payment, a customer, or all payments")
        .tag(TAG.0)
        .about(
            "Server-Sent Events. It opens with a snapshot, or goes on behind the id that the client had; it never skips and never \
             repeats. The stream of one payment is ended by the server after its last event, and whoever comes back then is \
             answered with 204. Who has too many streams is told so by an event `problem` (`too_many_streams`), and when to \
             come back.",
        )
        .let_in(LetIn::Stream)
        .query::<text::PaymentId>("payment_id", "Follow this payment.")
        .query::<text::CustomerId>("customer_id", "Follow this customer. With neither, all of the merchant's.")
        .query::<text::Types>("types", "Tell these events alone.")
        .query::<text::LastEventId>("last_event_id", "As the header, for who cannot set one.")
        .query::<text::AtLeast>("at_least", "Say nothing before this has been folded.")
        .query::<text::TicketText>("ticket", "A ticket, instead of `Authorization`.")
        .header::<text::LastEventId>("Last-Event-ID", "Go on behind this.")
        .answers_as(200, "The stream.", &[], "text/event-stream")
        .answers_nothing(204, "The payment has ended, and the client has seen it.", &[])
        .refuses(QUERY)
        .refuses(&[
            (400, &["invalid_payment_id", "invalid_customer_id", "invalid_types", "invalid_stream"]),
            (400, &["invalid_position", "invalid_last_event_id"]),
            (404, &["payment_not_found"]),
        ])
}

fn socket() -> Operation {
    Operation::new("get", "/v1/ws", "openSocket", "Follow several at once over a WebSocket")
        .tag(TAG.0)
        .about("The messages are described by AsyncAPI, at `/asyncapi.json`.")
        .let_in(LetIn::Stream)
        .query::<text::TicketText>("ticket", "A ticket, instead of `Authorization`.")
        .header::<text::Word>("Upgrade", "`websocket`.")
        .header::<text::Word>("Connection", "`upgrade`.")
        .header::<text::Word>("Sec-WebSocket-Version", "`13`.")
        .header::<text::Word>("Sec-WebSocket-Key", "Sixteen bytes in base64.")
        .answers_nothing(101, "It is a WebSocket from here on.", &["Upgrade", "Sec-WebSocket-Accept"])
        .refuses(QUERY)
        .refuses(&[
            (400, &["invalid_websocket_key"]),
            (403, &["cross_origin"]),
            (426, &["upgrade_required"]),
            (429, &["too_many_streams"]),
        ])
}

fn page() -> Operation {
    Operation::new("get", "/v1/events", "listEvents", "What has happened since a cursor")
        .tag(TAG.0)
        .about("The feed of the streams, a page at a time, for a backend that polls; a cursor of one is good for the other.")
        .let_in(LetIn::Follower)
        .everywhere(&["Paylog-Position"])
        .query::<text::CustomerId>("customer_id", "Of this customer alone.")
        .query::<text::Types>("types", "These events alone.")
        .query::<text::Cursor>("after", "The `next_cursor` of the page before; without it, from the beginning.")
        .query::<text::Limit>("limit", "100 if nothing is said.")
        .header::<text::Wait>("Prefer", "To be answered when something has happened, or after that time.")
        .answers::<PageBody<'_>>(200, "A page, perhaps an empty one.", &["Preference-Applied"])
        .refuses(QUERY)
        .refuses(&[
            (400, &["invalid_customer_id", "invalid_types", "invalid_cursor", "invalid_limit"]),
            (409, &["other_log"]),
        ])
}

/// The frames and the messages.
#[must_use]
pub fn channels() -> [Channel; 2] {
    let sse = Channel::http(
        "stream",
        "/v1/stream",
        "Server-Sent Events",
        "`id` is the cursor, `event` the name of the message, `data` the message in one line. A block with an id alone moves the \
         cursor. A comment every 15 s says that the stream lives.",
    )
    .sends("tellStream");
    let sse = EventData::NAMES
        .into_iter()
        .fold(sse, |sse, name| sse.json::<FrameBody<'_>>(name, "What happened, and the payment as it was after it."));
    let sse = sse
        .json::<SnapshotBody<'_>>("snapshot", "A payment as it is; a stream opens with it.")
        .json::<ResetBody>("reset", "Forget what you know: it was of another log.")
        .json::<ProblemBody<'_>>("problem", "Why there is no stream, and when to come back.");
    let socket = Channel::socket(
        "socket",
        "/v1/ws",
        "WebSocket",
        "Several subscriptions over one connection, each with a cursor; what is told is what a stream tells.",
    )
    .sends("tellSocket")
    .json::<Told<'_>>("told", "What the server says.")
    .receives("askSocket")
    .json::<Asked>("asked", "What the client asks for.");
    [sse, socket]
}
