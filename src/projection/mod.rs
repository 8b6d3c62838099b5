//! What the events have come to: every payment and every customer's history, folded from the log into the store, and read
//! by whoever wants to know. It has no handle to anything that charges, sends or appends (promise 7).
//!
//! * [`Folder`] reads the log on a thread of its own and writes rows and offsets in one batch.
//! * [`Rejections`] tells it which records an operator has rejected: those alone are passed over.
//! * [`compare`] holds two stores against each other, row by row; [`gaps`] looks for gaps in the versions of one.
//! * [`View`] is what everybody else holds: reads, and ways to wait for changes. Cheap to clone.

mod difference;
mod fields;
mod folder;
mod offsets;
mod parked;
mod reader;
mod rejections;
#[cfg(test)]
mod rejections_tests;
mod rows;
mod staged;
mod versions;
mod view;
mod watch;

pub use difference::{Difference, Rows, compare, is_empty, passed_over, stands_at};
pub use folder::{FoldError, Folder};
pub use offsets::{BadOffsets, Offsets};
pub use parked::ParkedKey;
pub use rejections::Rejections;
pub use rows::{DueKey, Row, home_of};
pub use versions::{Gap, gaps};
pub use view::{Entry, Halt, View};
pub use watch::Watch;
