//! The log read again, to prove something: `paylog replay verify`. It folds, compares and judges, and can make no effect: it
//! is given a log that can only be read ([`crate::journal::Reader`]) and stores of its own, and can name nothing that
//! charges, sends or appends (promise 7; `tests/layers.rs` keeps it so).
//!
//! * [`Verification`]: what is read, how far, and against which rows.
//! * [`Against`]: the rows of an instance, its payments and its totals.
//! * [`Selection`]: which payments are meant.
//! * [`Report`]: what was found.

mod against;
mod args;
mod feed;
mod folds;
mod judge;
mod report;
mod selection;
#[cfg(test)]
mod tests;
mod verify;

pub use against::Against;
pub use args::{VerifyArgs, WrongFlags};
pub use report::{Counts, Finding, Invariant, Report};
pub use selection::Selection;
pub use verify::{Reading, Verification, ends_of, shown};
