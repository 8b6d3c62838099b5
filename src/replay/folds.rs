//! Several folds of one stretch of the log, which is read once for all of them.

use std::time::Duration;

use tracing::subscriber::{NoSubscriber, with_default};

use super::feed::Feed;
use crate::journal::{JournalError, Tail, TailItem};
use crate::projection::{Fold, FoldError, Projection};

/// How long one read waits for the log.
const TURN: Duration = Duration::from_millis(200);

/// A fold, whatever it folds into.
pub(super) trait Folding {
    fn take(&mut self, items: Vec<TailItem>) -> Result<(), FoldError>;
}

impl<P: Projection> Folding for Fold<P> {
    fn take(&mut self, items: Vec<TailItem>) -> Result<(), FoldError> {
        self.turn(&mut Handed(items), Duration::ZERO)
    }
}

/// What was read already.
struct Handed(Vec<TailItem>);

impl Tail for Handed {
    fn poll(&mut self, _: usize, _: Duration) -> Result<Vec<TailItem>, JournalError> {
        Ok(std::mem::take(&mut self.0))
    }
}

/// Folds all of it, in silence: what a fold says of halts and second ends is in the report.
pub(super) fn fold(folds: &mut [&mut dyn Folding], mut feed: Feed<'_, '_, '_>) -> Result<(), FoldError> {
    with_default(NoSubscriber::default(), || {
        while !feed.is_done() {
            let items = feed.read(TURN)?;
            if let Some((last, others)) = folds.split_last_mut() {
                others.iter_mut().try_for_each(|fold| fold.take(items.clone()))?;
                last.take(items)?;
            }
        }
        Ok(())
    })
}
