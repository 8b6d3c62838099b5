//! Server-sent events, parsed as the WHATWG's specification says and no more: a block counts when its empty line has come.

use paylog::checker::{Frame, Place};
use serde_json::Value;

#[derive(Default)]
pub struct Parser {
    buffer: Vec<u8>,
}

impl Parser {
    /// The frames that these bytes complete. What is no frame (a comment, a retry) is passed over.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Frame> {
        self.buffer.extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            frames.extend(frame(&String::from_utf8_lossy(&block)));
        }
        frames
    }
}

fn frame(block: &str) -> Option<Frame> {
    let mut frame = Frame::default();
    let mut data = Value::Null;
    let mut any = false;
    for line in block.lines() {
        let Some((field, value)) = line.split_once(':') else { continue };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => frame.id = Some(value.to_owned()),
            "event" => frame.event = value.to_owned(),
            "data" => data = serde_json::from_str(value).unwrap_or_default(),
            _ => continue,
        }
        any = true;
    }
    let (event, payment) = (&data["event"], &data["payment"]);
    frame.payment_id = text(&payment["id"]);
    frame.payment_status = text(&payment["status"]);
    frame.version = event["version"].as_u64().or(payment["version"].as_u64()).unwrap_or_default();
    frame.event_id = event["id"].as_str().map(str::to_owned);
    frame.place = event["position"].as_str().and_then(place);
    any.then_some(frame)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The place in `<log8>.<partition>.<offset>`; `None` for any other text.
pub fn place(position: &str) -> Option<Place> {
    let mut parts = position.split('.').skip(1);
    let (partition, offset) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(Place { partition, offset })
}
