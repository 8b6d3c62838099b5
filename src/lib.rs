//! paylog takes payments as events on a Kafka topic, charges each one exactly once, and tells the customer in real time.

pub mod journal;
pub mod payment;
pub mod projection;
pub mod schema;
pub mod store;
