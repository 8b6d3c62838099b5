//! The history checker: reads what was seen of a run and says which of the promises were broken. Pure: no clock, no
//! network, and only `files` touches a disk. It knows the events and how they are written ([`crate::payment`],
//! [`crate::schema`]) and nothing else of ours, so that it cannot share a mistake of a lane, a projection or the API; ends,
//! charges and partitions are counted by rules that are stated here once more.
//!
//! The simulation and the chaos run hand over the same [`History`]; `paylog check-history DIR` reads one from files.
//!
//! The invariants are those of `research/reliability.md` (c), as DESIGN.md changes them; [`Invariant`] lists those that
//! are judged. Not judged:
//!
//! * I8 (an attempt on the log before each request): void. The initiation is the write-ahead intent, and there is no
//!   attempt event. That every request has an initiation is part of I1.
//! * I13 (a replay gives identical bytes): judged as a part of I12, where a rebuilt projection reports its digest.
//! * I16, second half, and I18 (work below the committed offset; offsets move only with outcomes): work comes from state
//!   and never from offsets, and an idle lane commits its position plainly. Nothing depends on them.
//! * I22 (a store's offsets and its rows agree): nothing outside the process sees the two apart; at equal offsets I12 sees
//!   rows that are wrong.
//! * I23 (bounds of memory, files, threads) and the lag of I25: figures of a process, not facts of a history. That no
//!   transaction stays open is judged.
//! * Log lines, of I21: not a part of the history.

mod book;
mod charges;
pub mod files;
#[cfg(test)]
mod good;
mod history;
mod life;
mod liveness;
mod log;
mod operations;
mod projections;
mod report;
mod streams;
#[cfg(test)]
mod tests;
mod topics;

use crate::schema::Codec;

pub use book::java_partition;
pub use history::{
    Answer, Body, Connection, DeadLetter, Frame, GroupOffset, History, Kind, LedgerEntry, Liveness, LogRecord,
    Operation, Options, Outcome, Parking, PartitionEnds, Place, Producer, ProjectionDigest,
};
pub use life::End;
pub use projections::{PAYMENTS, digest};
pub use report::{Counts, Invariant, Report, Violation};

use book::Book;

/// Judges histories; made once for many.
pub struct Checker {
    codec: Codec,
}

impl Checker {
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { codec: Codec::new()? })
    }

    /// Judges one history. The same history always gives the same report.
    #[must_use]
    pub fn check(&self, history: &History) -> Report {
        let mut report = Report::default();
        let book = Book::read(&self.codec, history, &mut report);
        log::judge(history, &mut report);
        charges::judge(&book, history, &mut report);
        operations::judge(&book, history, &mut report);
        streams::judge(&book, history, &mut report);
        projections::judge(&book, history, &mut report);
        topics::judge(history, &mut report);
        liveness::judge(&book, history, &mut report);
        report
    }
}
