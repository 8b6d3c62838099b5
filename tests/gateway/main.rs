//! The client of a provider against the simulator of one, over HTTP: every fault, what the client makes of it, and how often
//! the ledger says that money was taken (the tests 34 to 46 of `research/reliability.md` that are about a provider).
//!
//! * `provider`: a simulator in this process, and a client for it
//! * `faults`: each fault token
//! * `idempotency`: the simulator's rules are Stripe's
//! * `reconcile`: the ledger against the log
//! * `wire`: what a socket can do to a request
//! * `processes`: the simulator as a process that is killed
//! * `stripe_mock`: a provider that nobody here wrote

mod faults;
mod idempotency;
mod processes;
mod provider;
mod reconcile;
mod stripe_mock;
mod wire;
