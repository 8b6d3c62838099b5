//! paylog takes payments as events on a Kafka topic, charges each one exactly once, and tells the customer in real time.
//!
//! The walk of one payment, a module a step: [`api`] takes it in, [`schema`] writes it down, [`journal`] keeps it,
//! [`projection`] folds it (by the rules of [`payment`], into [`store`]), [`lane`] finds it due, [`processor`] charges it at
//! a [`gateway`], and [`stream`] tells whoever follows it. Who asks
//! is known by [`access`]. What operators decide about the installation is kept by [`control`]. `service` wires a process of them.

#![deny(unsafe_code)]

pub mod access;
pub mod amqp;
pub mod api;
pub mod archive;
pub mod bench;
pub mod checker;
pub mod checkpoint;
pub mod client;
pub mod clock;
pub mod config;
pub mod contract;
pub mod control;
pub mod deliveries;
pub mod executor;
pub mod gateway;
pub mod gateway_simulator;
pub mod holding;
pub mod http;
pub mod import;
pub mod intake;
pub mod journal;
pub mod lane;
mod lock;
pub mod notifier;
mod open_files;
pub mod openapi;
pub mod payment;
mod priority;
pub mod processor;
pub mod progress;
pub mod projection;
mod quota;
pub mod reconcile;
pub mod recording;
pub mod replay;
pub mod schema;
pub mod service;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod topics;
pub mod webpush;
