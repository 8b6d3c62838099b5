//! Looks at all that a broker says before the library does, which follows values within values by recursion, keeps a message of
//! any size, and panics at a frame that is too short for its head. Frames pass as they are. Of a message that is too large, too
//! deep or none at all the library is given an empty one in its place, and who takes it is told why: it can be refused like any
//! other, and the connection goes on. What is wrong beside messages ends the connection.
//!
//! The frames of a message are held back until its last one is here, and all that follows with them: at most
//! [`MESSAGE_MAX`] bytes and a frame.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::FRAME_MAX;
use super::nesting::{Bad, DEPTH_MAX, value_bytes, walk_all};
use crate::lock::lock;

/// The largest message that is taken. The broker is not told: one that may not give a message to us might keep it at the head of its
/// queue for ever, where one that is refused goes to the dead letters.
pub const MESSAGE_MAX: usize = 256 * 1024;
/// Frames of one message: the broker may send no more than the library has a window for until we have taken some.
const FRAMES_MAX: usize = 1_024;
/// Messages that were emptied and that nobody has asked for yet.
const EMPTIED_MAX: usize = 1_024;
const READ_BYTES: usize = 16 * 1024;
const HEAD_BYTES: usize = 8;
/// The same in words of four bytes, as a frame says it.
const HEAD_WORDS: u8 = 2;
const PROTOCOL: &[u8] = b"AMQP";
const SASL: u8 = 1;
/// The code of a transfer, as a number of one or eight bytes or as a name: whoever reads it has to know each.
const TRANSFER: [&[u8]; 4] = [
    b"\x53\x14",
    b"\x80\x00\x00\x00\x00\x00\x00\x00\x14",
    b"\xa3\x12amqp:transfer:list",
    b"\xb3\x00\x00\x00\x12amqp:transfer:list",
];

/// Why a message cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("its bytes are no AMQP message")]
    NoMessage,
    #[error("a message is {MESSAGE_MAX} bytes at most")]
    TooLarge,
    #[error("its values are nested more than {DEPTH_MAX} deep")]
    TooDeep,
}

/// Messages that the library was given empty, by the number that the broker has given to the delivery.
pub(super) type Emptied = Arc<Mutex<BTreeMap<u32, Unusable>>>;

#[derive(Debug)]
pub(super) struct Guard<S> {
    stream: S,
    /// Who says it.
    broker: String,
    raw: BytesMut,
    judge: Judge,
    ended: bool,
}

/// What passes, and what does not yet.
#[derive(Debug, Default)]
struct Judge {
    out: BytesMut,
    message: Option<Message>,
    emptied: Emptied,
}

/// A message of which the last frame is not here yet.
#[derive(Debug)]
struct Message {
    delivery: u32,
    handle: u32,
    /// Whole frames, and how much of each is more than its message's bytes.
    frames: Vec<(BytesMut, usize)>,
    payload: Vec<u8>,
    unusable: Option<Unusable>,
}

/// What a transfer says of itself, and where its message's bytes begin.
#[derive(Default)]
struct Transfer {
    handle: u32,
    delivery: Option<u32>,
    more: bool,
    aborted: bool,
    payload_at: usize,
}

impl<S> Guard<S> {
    pub fn new(stream: S, broker: String) -> (Self, Emptied) {
        let judge = Judge::default();
        let emptied = Arc::clone(&judge.emptied);
        (Self { stream, broker, raw: BytesMut::new(), judge, ended: false }, emptied)
    }

    /// Everything that is here whole.
    fn judge(&mut self) -> Result<(), &'static str> {
        while let Some(size) = frame_size(&self.raw)? {
            if self.raw.len() < size {
                break;
            }
            let frame = self.raw.split_to(size);
            match (frame.starts_with(PROTOCOL), &self.judge.message) {
                (false, _) => self.judge.take(frame)?,
                (true, None) => self.judge.pass(frame),
                (true, Some(_)) => return Err("it greets within a message"),
            }
        }
        Ok(())
    }
}

/// `None` as long as that cannot be told.
fn frame_size(raw: &[u8]) -> Result<Option<usize>, &'static str> {
    let Some(first) = raw.first_chunk::<4>() else { return Ok(None) };
    if first == PROTOCOL {
        return Ok(Some(HEAD_BYTES)); // a greeting, and as long as a frame's head
    }
    match u32::from_be_bytes(*first) {
        0..8 => Err("a frame is too short for its head"),
        size if size > FRAME_MAX => Err("a frame is larger than we take"),
        size => Ok(Some(size as usize)),
    }
}

impl Judge {
    fn take(&mut self, frame: BytesMut) -> Result<(), &'static str> {
        let body = &frame[HEAD_BYTES..];
        if body.is_empty() {
            self.pass(frame);
            return Ok(());
        }
        if frame[4] != HEAD_WORDS {
            return Err("a frame has a longer head than we know");
        }
        let end = value_bytes(body).map_err(|bad| match bad {
            Bad::Deep => "what it says is nested too deep",
            Bad::Malformed => "what it says is cut off or none of AMQP's",
        })?;
        let is_transfer = frame[5] != SASL && body[0] == 0 && TRANSFER.iter().any(|code| body[1..].starts_with(code));
        if is_transfer {
            let transfer = transfer(body, end).ok_or("a transfer does not say what it must")?;
            return self.transfer(frame, transfer);
        }
        if end != body.len() {
            return Err("bytes are left over behind what it says");
        }
        self.pass(frame);
        Ok(())
    }

    /// In its place: behind what is held back.
    fn pass(&mut self, frame: BytesMut) {
        let whole = frame.len();
        match &mut self.message {
            Some(message) => message.frames.push((frame, whole)),
            None => self.out.extend_from_slice(&frame),
        }
    }

    fn transfer(&mut self, frame: BytesMut, transfer: Transfer) -> Result<(), &'static str> {
        let Transfer { handle, delivery, more, aborted, payload_at } = transfer;
        let mut message = match self.message.take() {
            Some(message) if message.handle == handle => message,
            Some(_) => return Err("two messages come at once"),
            None => {
                let delivery = delivery.ok_or("a message has no number")?;
                Message { delivery, handle, frames: Vec::new(), payload: Vec::new(), unusable: None }
            }
        };
        message.payload.extend_from_slice(&frame[payload_at..]);
        message.frames.push((frame, payload_at));
        if message.payload.len() > MESSAGE_MAX || message.frames.len() > FRAMES_MAX {
            message.unusable = Some(Unusable::TooLarge);
        }
        if !more && !aborted && message.unusable.is_none() {
            message.unusable = walk_all(&message.payload).err().map(|bad| match bad {
                Bad::Deep => Unusable::TooDeep,
                Bad::Malformed => Unusable::NoMessage,
            });
        }
        if let Some(why) = message.unusable {
            message.payload.clear();
            if !more && !aborted {
                self.note(message.delivery, why)?;
            }
        }
        let is_whole = !more || aborted;
        if is_whole || message.unusable.is_some() {
            self.let_go(&mut message);
        }
        self.message = Some(message).filter(|_| !is_whole);
        Ok(())
    }

    fn note(&self, delivery: u32, why: Unusable) -> Result<(), &'static str> {
        let mut emptied = lock(&self.emptied);
        emptied.insert(delivery, why);
        if emptied.len() > EMPTIED_MAX { Err("nobody takes its messages") } else { Ok(()) }
    }

    /// What was held back, without the message if it is of no use.
    fn let_go(&mut self, message: &mut Message) {
        for (frame, without_payload) in message.frames.drain(..) {
            let kept = if message.unusable.is_some() { without_payload } else { frame.len() };
            self.out.extend_from_slice(&(kept as u32).to_be_bytes()); // at most FRAME_MAX
            self.out.extend_from_slice(&frame[4..kept]);
        }
    }
}

/// What a transfer says, of which the first `end` bytes of `body` are.
fn transfer(body: &[u8], end: usize) -> Option<Transfer> {
    let described = &body[1..end];
    let mut fields = &described[value_bytes(described).ok()?..];
    let count = match *fields {
        [0x45, ..] => 0,
        [0xC0, _, count, ..] => {
            fields = &fields[3..];
            count.into()
        }
        [0xD0, _, _, _, _, a, b, c, d, ..] => {
            fields = &fields[9..];
            u32::from_be_bytes([a, b, c, d])
        }
        _ => return None,
    };
    let mut transfer = Transfer { payload_at: HEAD_BYTES + end, ..Transfer::default() };
    for place in 0..count {
        let (field, rest) = fields.split_at_checked(value_bytes(fields).ok()?)?;
        match place {
            0 => transfer.handle = number(field)?,
            1 => transfer.delivery = number(field),
            5 => transfer.more = is_true(field),
            9 => transfer.aborted = is_true(field),
            _ => {}
        }
        fields = rest;
    }
    Some(transfer)
}

fn number(field: &[u8]) -> Option<u32> {
    match *field {
        [0x43] => Some(0),
        [0x52, small] => Some(small.into()),
        [0x70, a, b, c, d] => Some(u32::from_be_bytes([a, b, c, d])),
        _ => None,
    }
}

fn is_true(field: &[u8]) -> bool {
    matches!(*field, [0x41] | [0x56, 1])
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.judge.out.is_empty() && !this.ended {
            let mut bytes = [0; READ_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            match Pin::new(&mut this.stream).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            if read.filled().is_empty() {
                return Poll::Ready(Ok(())); // its end: what is held back is cut off anyway
            }
            this.raw.extend_from_slice(read.filled());
            if let Err(why) = this.judge() {
                tracing::warn!(
                    broker = this.broker,
                    why,
                    "a connection is ended: its broker says what we do not let in"
                );
                this.ended = true;
            }
        }
        if this.judge.out.is_empty() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "it says what we do not let in")));
        }
        let length = this.judge.out.len().min(to.remaining());
        to.put_slice(&this.judge.out[..length]);
        this.judge.out.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
