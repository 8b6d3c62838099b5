//! What the events have come to: every payment and every customer's history, folded from the log into the store, and read
//! by whoever wants to know. It has no handle to anything that charges, sends or appends (promise 7).
//!
//! * [`Folder`] reads the log on a thread of its own and writes rows and offsets in one batch.
//! * [`Rejections`] tells it which records an operator has rejected: those alone are passed over.
//! * [`View`] is what everybody else holds: reads, and ways to wait for changes. Cheap to clone.

mod fold;
mod offsets;
mod parked;
mod payments;
mod progress;
mod reader;
mod rejections;
#[cfg(test)]
mod rejections_tests;
mod rows;
mod view;
mod watch;

pub use fold::{ApplyError, Fold, FoldError, Projection};
pub use offsets::{BadOffsets, Offsets};
pub use parked::ParkedKey;
pub use payments::{Folder, Payments};
pub use progress::{Halt, Progress};
pub use reader::Recorded;
pub use rejections::Rejections;
pub use rows::{DueKey, Row, home_of};
pub use view::{Entry, View};
pub use watch::Watch;
