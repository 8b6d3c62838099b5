//! paylog takes payments as events on a Kafka topic, charges each one exactly once, and tells the customer in real time.

pub mod api;
pub mod client;
pub mod contract;
pub mod gateway;
pub mod http;
pub mod journal;
pub mod lane;
pub mod payment;
pub mod processor;
pub mod projection;
pub mod schema;
pub mod store;
pub mod stream;
