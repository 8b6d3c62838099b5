//! What the events have come to: every payment and every customer's history, folded from the log into the store, and read
//! by whoever wants to know. It has no handle to anything that charges, sends or appends (promise 7).
//!
//! * A [`Projection`] says what each event comes to. [`Payments`] is the one that everything here lives on,
//!   [`totals::Totals`] another, and whoever embeds paylog writes their own.
//! * [`Fold`] reads the log on a thread of its own, lets a projection apply it, and writes rows and offsets in one batch;
//!   [`Folder`] is that of [`Payments`].
//! * [`Progress`] is how far it has come; [`Standing`] is that of a store that nobody folds.
//! * [`Rejections`] tells it which records an operator has rejected: those alone are passed over.
//! * [`Live`] is the store that is read, and can be exchanged for another that was built beside it.
//! * [`compare`] holds two stores against each other, row by row; [`gaps`] looks for gaps in the versions of one.
//! * [`Scope`] is whose events are read, where they are of several payments, and [`Changes`] what has happened to them.
//! * [`View`] is what everybody else holds: reads, and ways to wait for changes. Cheap to clone.

mod absent;
mod alarms;
#[cfg(test)]
mod alarms_tests;
pub mod bulk;
#[cfg(test)]
mod damage_tests;
mod difference;
mod error;
#[cfg(test)]
mod evolution_tests;
mod fields;
mod fold;
#[cfg(test)]
mod foreign_tests;
#[cfg(test)]
mod full_disk_tests;
mod gaps;
pub mod kept;
mod live;
#[cfg(test)]
mod live_tests;
mod moved;
mod offsets;
mod older;
mod parked;
mod payments;
mod progress;
mod reader;
mod rejections;
#[cfg(test)]
mod rejections_tests;
mod rows;
mod scope;
mod standing;
pub mod totals;
pub mod versions;
mod view;
#[cfg(test)]
mod waiting_tests;
mod watch;

pub use difference::{Difference, Pair, Rows, compare, compare_older, is_empty, tables_of_one};
pub use error::{ApplyError, FoldError};
pub use fields::About;
pub use fold::{Fold, FoldedTo, Projection, versioned_name};
pub use gaps::{Gap, gaps};
pub use live::{Behind, Built, Live, Served, Withheld};
pub use offsets::{BadOffsets, Offsets};
pub use older::{Fields, Older, OlderRows};
pub use parked::ParkedKey;
pub use payments::{Folder, Payments};
pub use progress::{Halt, Last, Progress, passed_over, stands_at};
pub use reader::Recorded;
pub use rejections::Rejections;
pub use rows::{DueKey, Row, home_of};
pub use scope::{Changes, Scope};
pub use standing::Standing;
pub use view::{Entry, View};
pub use watch::Watch;
