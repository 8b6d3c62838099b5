//! The same for the notifier: its lanes, the folds of the three logs, the scan and the decisions as they ship, in several
//! processes, over the model of the log and a model of everybody's servers, which take, fail, stall, ask for patience or are gone.
//!
//! What is not in it: browsers that subscribe, and what somebody asks for (a test, an event again, what was missed). And that an
//! endpoint is left alone for as long as it asks, and a retry not made before its time, is dealt with here and judged nowhere:
//! that is asked in `tests/it` (`webhook_faults`) and in the notifier's own tests.

mod judge;
mod network;
mod people;
mod run;
mod stories;
mod teller;

pub use people::Office;
pub use run::run;

use crate::log::Log;
use teller::Teller;

/// The log of deliveries is the one with owners.
const DELIVERIES: Log = Log::Own;
const PAYMENTS: Log = Log::Beside(0);
const CONTROL: Log = Log::Beside(1);

type World = crate::world::World<Teller>;
