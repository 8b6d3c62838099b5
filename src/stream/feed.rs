//! What a client follows, and what there is of it to tell: blocks, whatever the channel that carries them.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};

use super::payment::{PaymentFeed, not_found};
use super::step::Step;
use super::wide::WideFeed;
use crate::contract::{FrameBody, ResetBody, SnapshotBody};
use crate::http::Problem;
use crate::journal::LogId;
use crate::payment::Payment;
use crate::projection::Entry;
use crate::store::StoreError;

/// One block of what is told. What has no id does not move the client's cursor.
#[derive(Clone)]
pub(super) struct Block {
    pub(super) id: Option<String>,
    pub(super) data: Data,
}

#[derive(Clone)]
pub(super) enum Data {
    Reset,
    Snapshot {
        payment: Box<Payment>,
        at_least: String,
        /// The last of several, and where older payments begin, if there are any.
        last: Option<Option<String>>,
    },
    Change(Arc<Frame>),
    /// An id alone: a place to come back to. There may have been a long look before it: let others go first.
    Nothing,
}

/// What happened, as it is written: once, for all who are told of it.
pub(super) struct Frame {
    pub(super) name: &'static str,
    data: Box<RawValue>,
}

/// The data of a block as it is written: the same object over every channel.
#[derive(serde::Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[schema(as = FrameData)]
pub(super) enum Body<'a> {
    Reset(ResetBody),
    Snapshot(Box<SnapshotBody<'a>>),
    #[schema(value_type = FrameBody<'a>)]
    Change(&'a RawValue),
}

/// What a feed has for now.
pub(super) enum Read {
    /// If there are none, there may be some behind what was looked at: read again, but let others go first.
    Blocks(Vec<Block>),
    /// What others are told too, never nothing; and whether there may be more, or nothing until it is woken.
    Step(Arc<Step>, bool),
    /// Nothing, until it is woken.
    Wait,
    /// Nothing, ever: all was told.
    End,
    /// Nothing, ever: it is not there, or it is another's.
    NotFound,
}

/// What a client follows.
pub(super) enum Feed {
    Payment(Box<PaymentFeed>),
    Wide(Box<WideFeed>),
}

impl Frame {
    pub(super) fn new(entry: &Entry, log: LogId) -> Self {
        // Structs of texts and numbers always serialise.
        let data = to_raw_value(&FrameBody::new(entry, log)).unwrap_or_default();
        Self { name: entry.event.data.name(), data }
    }

    pub(super) fn text(&self) -> &str {
        self.data.get()
    }
}

impl Block {
    pub(super) fn reset() -> Self {
        Self { id: None, data: Data::Reset }
    }

    pub(super) fn cursor(id: String) -> Self {
        Self { id: Some(id), data: Data::Nothing }
    }

    /// What happened, and what there is to say of it; `None` for an id alone.
    pub(super) fn body(&self, log: LogId) -> Option<(&'static str, Body<'_>)> {
        let snapshot = |body| Some(("snapshot", Body::Snapshot(Box::new(body))));
        match &self.data {
            Data::Reset => Some(("reset", Body::Reset(ResetBody::new(log)))),
            Data::Snapshot { payment, at_least, last: None } => snapshot(SnapshotBody::new(payment, at_least)),
            Data::Snapshot { payment, at_least, last: Some(next_cursor) } => {
                snapshot(SnapshotBody::last(payment, at_least, next_cursor.as_deref()))
            }
            Data::Change(frame) => Some((frame.name, Body::Change(&frame.data))),
            Data::Nothing => None,
        }
    }
}

impl Feed {
    fn read(&mut self) -> Result<Read, StoreError> {
        match self {
            Self::Payment(feed) => feed.read(),
            Self::Wide(feed) => feed.read(),
        }
    }

    async fn woken(&mut self) {
        match self {
            Self::Payment(feed) => feed.woken().await,
            Self::Wide(feed) => feed.woken().await,
        }
    }
}

/// Reads a feed block by block, as fast as its reader takes them and no faster.
pub(super) struct Reading {
    feed: Feed,
    /// Read, and not yet taken: one read's worth at most.
    pending: VecDeque<Block>,
    /// What is behind them: not to be read before it is woken, for most of what it is woken by is one block.
    idle: bool,
    ended: bool,
}

pub(super) enum Next {
    Block(Block),
    /// Several, for [`Reading::unfold`] or to be sent as they are.
    Step(Arc<Step>),
    /// Nothing yet, and there may be more at once: let others go first.
    Later,
    /// Nothing, until it is woken.
    Wait,
    /// Nothing, ever: all was told.
    End,
    /// Nothing, ever, although not all was told.
    Failed(Box<Problem>),
}

impl Reading {
    pub(super) fn new(feed: Feed) -> Self {
        Self { feed, pending: VecDeque::new(), idle: false, ended: false }
    }

    /// Without waiting.
    pub(super) fn next(&mut self) -> Next {
        if let Some(block) = self.pending.pop_front() {
            return Next::Block(block);
        }
        if self.ended {
            return Next::End;
        }
        if self.idle {
            // Most wait most of the time: nothing is kept for what they will read.
            self.pending = VecDeque::new();
            return Next::Wait;
        }
        match self.feed.read() {
            Ok(Read::Blocks(blocks)) => {
                self.pending = blocks.into();
                self.pending.pop_front().map_or(Next::Later, Next::Block)
            }
            Ok(Read::Step(step, more)) => {
                self.idle = !more;
                Next::Step(step)
            }
            Ok(Read::Wait) => {
                self.idle = true;
                self.next()
            }
            Ok(Read::End) => {
                self.ended = true;
                Next::End
            }
            Ok(Read::NotFound) => self.failed(not_found()),
            Err(e) => {
                tracing::error!(error = %e, "a stream ends: the store cannot be read");
                self.failed(Problem::internal())
            }
        }
    }

    /// Has the blocks of a step come one after the other.
    pub(super) fn unfold(&mut self, step: &Step) {
        self.pending.extend(step.blocks.iter().cloned());
    }

    fn failed(&mut self, problem: Problem) -> Next {
        self.ended = true;
        Next::Failed(Box::new(problem))
    }

    /// Returns when it is worth reading again.
    pub(super) async fn woken(&mut self) {
        self.feed.woken().await;
        self.idle = false;
    }

    /// For a silence: the cursor, if it has moved past what did not concern this client. Coming back with it spares both
    /// sides a second look.
    pub(super) fn moved(&mut self) -> Option<Block> {
        match &mut self.feed {
            Feed::Payment(_) => None,
            Feed::Wide(feed) => feed.moved(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, Data};
    use crate::journal::LogId;
    use crate::payment::{Payment, samples};

    #[test]
    fn only_the_last_snapshot_says_whether_there_are_more() {
        let mut payment = None;
        Payment::fold(&mut payment, &samples::event(0, samples::in_progress(1999)), samples::at(0)).unwrap();
        let payment = Box::new(payment.unwrap());
        let data = |last| {
            let data = Data::Snapshot { payment: payment.clone(), at_least: "07070707.0.0".to_owned(), last };
            let block = Block { id: None, data };
            serde_json::to_value(block.body(LogId([7; 16])).unwrap().1).unwrap()
        };
        assert!(data(None).get("more").is_none());
        assert_eq!(data(Some(None))["more"], false);
        let more = data(Some(Some("07070707.AA".to_owned())));
        assert_eq!((&more["more"], &more["next_cursor"]), (&true.into(), &"07070707.AA".into()));
    }
}
