//! What is said to each server: how its streams are asked for, how it is told to publish, and how its streams begin.

/// The number of a publication stands behind this in what is published, and so in what is told.
pub const MARK: &[u8] = b"\"amount\":";

/// What the others publish is as long as what paylog tells of a payment, for it is one: data of a real frame, up to its
/// number and from there on.
const FRAME: [&str; 2] = [
    r#"{"event":{"type":"PaymentInProgress","id":"01a21550-077b-7385-a619-ac80653ecfd7","occurred_at":"2026-11-26T00:44:56.059288Z","version":1,"position":"40640647.2.0","data":{"merchant_id":"default","customer_id":"c0","amount":"#,
    r#","currency":"EUR","payment_method":"pm_card_visa","gateway":"simulator","request_id":"req_e33bf5f8f8ed4a46b3f0dbc6ba1abdf6","description":null,"metadata":null}},"payment":{"id":"pay_to6zkcav3kff6tgxmljgqdotli","status":"in_progress","phase":"processing","version":1,"amount":1001,"currency":"EUR","customer_id":"c0","payment_method":"pm_card_visa","description":null,"metadata":null,"created_at":"2026-11-26T00:44:56.059288Z","updated_at":"2026-11-26T00:44:56.059288Z","failure":null,"gateway":null,"request_id":"req_e33bf5f8f8ed4a46b3f0dbc6ba1abdf6","links":{"self":"/v1/payments/pay_to6zkcav3kff6tgxmljgqdotli?at_least=40640647.2.0","events":"/v1/payments/pay_to6zkcav3kff6tgxmljgqdotli/events?at_least=40640647.2.0","stream":"/v1/stream?payment_id=pay_to6zkcav3kff6tgxmljgqdotli&at_least=40640647.2.0"}}}"#,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Dialect {
    Paylog,
    /// paylog, on a disk that is memory.
    PaylogInMemory,
    Nchan,
    Centrifuge,
}

impl Dialect {
    pub fn name(self) -> &'static str {
        match self {
            Self::Paylog => "paylog",
            Self::PaylogInMemory => "paylog-in-memory",
            Self::Nchan => "nchan",
            Self::Centrifuge => "centrifuge",
        }
    }

    /// paylog promises the order of one payment's events, and here each payment is one event.
    pub fn keeps_channels_in_order(self) -> bool {
        matches!(self, Self::Nchan | Self::Centrifuge)
    }

    /// How the first line begins from which on a stream tells what is published: with paylog the id after the snapshots, of
    /// which there are none.
    pub fn ready(self) -> &'static [u8] {
        match self {
            Self::Paylog | Self::PaylogInMemory => b"id:",
            Self::Nchan => b":",
            Self::Centrifuge => b"data:",
        }
    }

    pub fn subscription(self, channel: &str, host: &str) -> String {
        let path = match self {
            Self::Paylog | Self::PaylogInMemory => format!("/v1/stream?customer_id={channel}"),
            Self::Nchan | Self::Centrifuge => format!("/sub/{channel}"),
        };
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\n\r\n")
    }

    /// A payment of the channel's customer, or a message as long as what is told of one. `key` is used once.
    pub fn publication(self, channel: &str, number: u64, key: &str, host: &str) -> String {
        let (path, body) = match self {
            Self::Paylog | Self::PaylogInMemory => {
                let rest = r#""currency":"EUR","payment_method":"pm_card_visa""#;
                ("/v1/payments".to_owned(), format!(r#"{{"customer_id":"{channel}","amount":{number},{rest}}}"#))
            }
            Self::Nchan | Self::Centrifuge => (format!("/pub/{channel}"), FRAME.join(&number.to_string())),
        };
        let length = body.len();
        format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\nidempotency-key: {key}\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
    }
}
