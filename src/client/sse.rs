//! The parser of an event stream, as WHATWG HTML 9.2.6 has it: bytes in whatever pieces they come, events out.

/// The longest line taken, in bytes; a frame of ours has one line for its data, far below this.
const LINE_MAX: usize = 1024 * 1024;

/// A dispatched event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Its type; `message` if the stream named none.
    pub(crate) event: String,
    pub(crate) data: String,
}

#[derive(Debug, thiserror::Error)]
#[error("a line of the event stream is longer than {LINE_MAX} bytes")]
pub(crate) struct LineTooLong;

#[derive(Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    /// The last byte was a carriage return: a line feed right after it belongs to the same line end.
    after_return: bool,
    begun: bool,
    event: String,
    data: String,
    /// As the fields so far have set it; the client's only once a block has ended.
    id: String,
    last_event_id: String,
    retry_ms: Option<u64>,
}

impl Parser {
    /// A parser for a connection that goes on after `last_event_id`.
    pub(crate) fn resuming(last_event_id: &str) -> Self {
        Self { id: last_event_id.to_owned(), last_event_id: last_event_id.to_owned(), ..Self::default() }
    }

    /// What to reconnect with. Moved by blocks without data too.
    pub(crate) fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    pub(crate) fn retry_ms(&self) -> Option<u64> {
        self.retry_ms
    }

    /// Takes the next bytes and answers with the events that they complete. What is unfinished at the end is dropped with
    /// the parser, as the standard wants.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Message>, LineTooLong> {
        let mut messages = Vec::new();
        for byte in bytes {
            let follows_return = std::mem::replace(&mut self.after_return, *byte == b'\r');
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => messages.extend(self.end_line()),
                _ if self.line.len() >= LINE_MAX => return Err(LineTooLong),
                _ => self.line.push(*byte),
            }
        }
        Ok(messages)
    }

    fn end_line(&mut self) -> Option<Message> {
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes);
        // One byte order mark at the very beginning is not part of the stream.
        let first = !std::mem::replace(&mut self.begun, true);
        let line = if first { text.strip_prefix('\u{feff}').unwrap_or(&text) } else { &text };
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        self.take(field, value.strip_prefix(' ').unwrap_or(value));
        None
    }

    fn take(&mut self, field: &str, value: &str) {
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.id),
            "retry" if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => {
                self.retry_ms = value.parse().ok().or(self.retry_ms);
            }
            // A comment has no name; anything else is not known to the standard.
            _ => {}
        }
    }

    fn dispatch(&mut self) -> Option<Message> {
        self.id.clone_into(&mut self.last_event_id);
        let (event, mut data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
        if data.is_empty() {
            return None;
        }
        data.pop();
        Some(Message { event: if event.is_empty() { "message".to_owned() } else { event }, data })
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_MAX, Message, Parser};

    fn message(event: &str, data: &str) -> Message {
        Message { event: event.to_owned(), data: data.to_owned() }
    }

    fn parse(text: &str) -> (Vec<Message>, String) {
        let mut parser = Parser::default();
        let messages = parser.feed(text.as_bytes()).unwrap();
        (messages, parser.last_event_id().to_owned())
    }

    /// The examples of WHATWG HTML 9.2.6.
    #[test]
    fn the_examples_of_the_standard() {
        let (messages, _) = parse("data: YHOO\ndata: +2\ndata: 10\n\n");
        assert_eq!(messages, [message("message", "YHOO\n+2\n10")]);
        let (messages, id) =
            parse(": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event");
        assert_eq!(messages, [message("message", "first event"), message("message", "second event")]);
        assert_eq!(id, "", "an empty id resets, and the unfinished block is dropped");
        let (messages, _) = parse("data\n\ndata\ndata\n\ndata:");
        assert_eq!(messages, [message("message", ""), message("message", "\n")]);
        let (messages, _) = parse("data:test\n\ndata: test\n\n");
        assert_eq!(messages, [message("message", "test"), message("message", "test")]);
    }

    #[test]
    fn every_line_end_in_any_pieces_gives_the_same() {
        let expected = vec![message("snapshot", "ä"), message("message", "b")];
        for end in ["\n", "\r", "\r\n"] {
            let text = "\u{feff}event: snapshot\ndata: ä\nid: 7\n\n:\n\ndata: b\n\n".replace('\n', end);
            for size in [1, 2, 3, text.len()] {
                let mut parser = Parser::default();
                let pieces = text.as_bytes().chunks(size);
                let messages: Vec<Message> = pieces.flat_map(|piece| parser.feed(piece).unwrap()).collect();
                assert_eq!((messages, parser.last_event_id()), (expected.clone(), "7"), "{end:?} in {size}");
            }
        }
    }

    #[test]
    fn a_block_of_an_id_alone_moves_the_cursor_and_nothing_else() {
        let mut parser = Parser::resuming("a");
        assert!(parser.feed(b"id: b\n").unwrap().is_empty());
        assert_eq!(parser.last_event_id(), "a", "not before its block ends");
        assert!(parser.feed(b"\n").unwrap().is_empty());
        assert_eq!(parser.last_event_id(), "b");
        parser.feed(b"id: c\0d\n\nretry: 10\nretry: x\nretry:\n\n").unwrap();
        assert_eq!((parser.last_event_id(), parser.retry_ms()), ("b", Some(10)));
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut parser = Parser::default();
        assert!(parser.feed(&vec![b'x'; LINE_MAX]).is_ok());
        assert!(parser.feed(b"x").is_err());
    }
}
