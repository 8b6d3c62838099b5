//! Looks at all that a broker says before the library does, which follows values within values by recursion, keeps a message of
//! any size, and panics at a frame that is too short for its head. Frames pass as they are. Of a message that is too large, too
//! deep or none at all the library is given an empty one in its place, and who takes it is told why: it can be refused like any
//! other, and the connection goes on. What is wrong beside messages ends the connection.
//!
//! The frames of a message are held back until its last one is here, and what follows with them, [`HELD_MAX`] bytes and a frame
//! at most: past that the message is too large. What says only that the broker is there passes at once.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::FRAME_MAX;
use super::nesting::{Bad, DEPTH_MAX, VALUES_MAX, value_bytes, walk_all};
use super::performative::{Performative, TRANSFER, Transfer};
use crate::lock::lock;

/// The largest message that is taken. The broker is not told: one that may not give a message to us might keep it at the head of its
/// queue for ever, where one that is refused goes to the dead letters.
pub const MESSAGE_MAX: usize = 256 * 1024;
/// Bytes of frames that are held back: a message as large as it may be, its frames' heads, and what comes between them.
const HELD_MAX: usize = 2 * MESSAGE_MAX;
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
/// Why a message cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("its bytes are no AMQP message")]
    NoMessage,
    #[error("a message is {MESSAGE_MAX} bytes at most")]
    TooLarge,
    #[error("its values are nested more than {DEPTH_MAX} deep")]
    TooDeep,
    #[error("it has more than {VALUES_MAX} values")]
    TooMany,
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
    held_bytes: usize,
    payload: Vec<u8>,
    unusable: Option<Unusable>,
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
            self.out.extend_from_slice(&frame); // it has no place among the others
            return Ok(());
        }
        if frame[4] != HEAD_WORDS {
            return Err("a frame has a longer head than we know");
        }
        let end = value_bytes(body).map_err(|bad| match bad {
            Bad::Deep => "what it says is nested too deep",
            Bad::Many => "what it says has too many values",
            Bad::Malformed => "what it says is cut off or none of AMQP's",
        })?;
        let said = Performative::of(&body[..end], frame[5] == SASL).ok_or("it says what AMQP does not know")?;
        if said.code == TRANSFER {
            let transfer = said.transfer().ok_or("a transfer does not say what it must, or says more")?;
            return self.transfer(frame, transfer, HEAD_BYTES + end);
        }
        if end != body.len() {
            return Err("bytes are left over behind what it says");
        }
        match &mut self.message {
            Some(message) if said.cuts_off(message.handle) => {
                message.unusable = Some(Unusable::NoMessage);
                self.let_go();
                self.message = None;
                self.out.extend_from_slice(&frame);
            }
            _ => self.pass(frame),
        }
        Ok(())
    }

    /// In its place: behind what is held back.
    fn pass(&mut self, frame: BytesMut) {
        let whole = frame.len();
        match &mut self.message {
            Some(message) => {
                message.hold(frame, whole);
                if message.unusable.is_some() {
                    self.let_go();
                }
            }
            None => self.out.extend_from_slice(&frame),
        }
    }

    fn transfer(&mut self, frame: BytesMut, transfer: Transfer, payload_at: usize) -> Result<(), &'static str> {
        let Transfer { handle, delivery, more, aborted } = transfer;
        let message = match &mut self.message {
            Some(message) if message.handle == handle => message,
            Some(_) => return Err("two messages come at once"),
            none => none.insert(Message::new(delivery.ok_or("a message has no number")?, handle)),
        };
        message.payload.extend_from_slice(&frame[payload_at..]);
        message.hold(frame, payload_at);
        let is_whole = !more || aborted;
        if is_whole && !aborted && message.unusable.is_none() {
            message.unusable = walk_all(&message.payload).err().map(|bad| match bad {
                Bad::Deep => Unusable::TooDeep,
                Bad::Many => Unusable::TooMany,
                Bad::Malformed => Unusable::NoMessage,
            });
        }
        if let Some(why) = message.unusable {
            message.payload.clear();
            if is_whole && !aborted {
                let delivery = message.delivery;
                self.note(delivery, why)?;
            }
        }
        if is_whole || self.message.as_ref().is_some_and(|message| message.unusable.is_some()) {
            self.let_go();
        }
        if is_whole {
            self.message = None;
        }
        Ok(())
    }

    fn note(&self, delivery: u32, why: Unusable) -> Result<(), &'static str> {
        let mut emptied = lock(&self.emptied);
        emptied.insert(delivery, why);
        if emptied.len() > EMPTIED_MAX { Err("nobody takes its messages") } else { Ok(()) }
    }

    /// What was held back, without the message if it is of no use.
    fn let_go(&mut self) {
        let Some(message) = &mut self.message else { return };
        message.held_bytes = 0;
        for (frame, without_payload) in message.frames.drain(..) {
            let kept = if message.unusable.is_some() { without_payload } else { frame.len() };
            self.out.extend_from_slice(&(kept as u32).to_be_bytes()); // at most FRAME_MAX
            self.out.extend_from_slice(&frame[4..kept]);
        }
    }
}

impl Message {
    fn new(delivery: u32, handle: u32) -> Self {
        Self { delivery, handle, frames: Vec::new(), held_bytes: 0, payload: Vec::new(), unusable: None }
    }

    /// Until its last one is here, or it is too large.
    fn hold(&mut self, frame: BytesMut, without_payload: usize) {
        self.held_bytes += frame.len();
        self.frames.push((frame, without_payload));
        if self.payload.len() > MESSAGE_MAX || self.held_bytes > HELD_MAX || self.frames.len() > FRAMES_MAX {
            self.unusable = Some(Unusable::TooLarge);
        }
    }
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
