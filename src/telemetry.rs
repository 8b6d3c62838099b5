//! The log's set-up, and every metric: its name, unit and help. Call sites read as verbs.

use std::io::IsTerminal;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use crate::payment::EventData;
use crate::projection::versions::Pace;

const EVENTS_FOLDED: &str = "paylog_events_folded_total";
const PARTITIONS_HALTED: &str = "paylog_partitions_halted_total";
const ENDED_AGAIN: &str = "paylog_payments_ended_again_total";
const ACCEPTED: &str = "paylog_payments_accepted_total";
const ENDED: &str = "paylog_payments_ended_total";
const RESULT_SECONDS: &str = "paylog_payment_result_seconds";
const OPEN: &str = "paylog_payments_open";
const LAG: &str = "paylog_fold_lag_offsets";
const PARKED: &str = "paylog_payments_parked";
const CHECKPOINTS: &str = "paylog_checkpoints_total";
const CHECKPOINT_SECONDS: &str = "paylog_checkpoint_seconds";
const CHECKPOINT_AGE: &str = "paylog_checkpoint_age_seconds";
const CHECKPOINT_BYTES: &str = "paylog_checkpoint_bytes";
const REBUILD_FOLDED: &str = "paylog_rebuild_folded_offsets";
const REBUILD_END: &str = "paylog_rebuild_end_offsets";
const REBUILD_RATE: &str = "paylog_rebuild_offsets_per_second";
const REBUILD_LEFT: &str = "paylog_rebuild_seconds_left";
const WEBHOOK_ATTEMPTS: &str = "paylog_webhook_attempts_total";
const WEBHOOK_SECONDS: &str = "paylog_webhook_attempt_seconds";
const PUSH_ATTEMPTS: &str = "paylog_push_attempts_total";
const PUSH_SECONDS: &str = "paylog_push_attempt_seconds";
const OUTCOMES: &str = "paylog_outcomes_recorded_total";
const TRANSACTIONS: &str = "paylog_transactions_total";
const TRANSACTION_SECONDS: &str = "paylog_transaction_seconds";
const REQUESTS_TAKEN: &str = "paylog_requests_taken_total";
const CLOUD_EVENTS: &str = "paylog_cloud_events_taken_total";
const REQUESTS_HELD: &str = "paylog_requests_held_partitions";
const REQUESTS_GONE: &str = "paylog_requests_gone_total";
const DEAD_LETTERS: &str = "paylog_dead_letters_total";
const DEAD_LETTERS_SLOWED: &str = "paylog_dead_letters_slowed_total";
const SERVICE_BUS_CONNECTED: &str = "paylog_service_bus_connected";
const SERVICE_BUS_GIVEN_BACK: &str = "paylog_service_bus_given_back_total";
const SERVICE_BUS_HELD: &str = "paylog_service_bus_held";
const AMQP_CONNECTIONS_CUT: &str = "paylog_amqp_connections_cut_total";
const BREAKER_OPENED: &str = "paylog_gateway_breaker_opened_total";
const STREAMS_OPEN: &str = "paylog_streams_open";
const CONNECTIONS_REFUSED: &str = "paylog_connections_refused_total";
const REGISTRY_ASKED: &str = "paylog_schema_registry_questions_total";
const CLOCK_BEHIND: &str = "paylog_clock_behind_seconds";

/// How often what goes on and on is said in the log.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// For what goes on and on: says it in the log now and then.
#[derive(Default)]
pub struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Is it to be said now? Once a minute at most.
    pub fn now(&self) -> bool {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = said.is_none_or(|at| at.elapsed() >= SAY_EVERY);
        if due {
            *said = Some(Instant::now());
        }
        due
    }
}

/// Writes the log to stderr. `RUST_LOG` filters; the default is `info`.
pub fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,paylog=info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // A second call, from a test, changes nothing.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// What `/metrics` shows, in Prometheus's text format. The first call starts the counting, for the whole process.
pub fn metrics() -> String {
    recorder().map(PrometheusHandle::render).unwrap_or_default()
}

fn recorder() -> Option<&'static PrometheusHandle> {
    static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let handle = PrometheusBuilder::new().install_recorder().ok()?;
        describe_counter!(EVENTS_FOLDED, "Records folded since the start, by projection");
        describe_counter!(
            PARTITIONS_HALTED,
            "Partitions that stopped at a record that cannot be folded, by projection"
        );
        describe_counter!(
            CONNECTIONS_REFUSED,
            "HTTP connections closed at once, by whose bound was reached: all, address"
        );
        describe_counter!(ENDED_AGAIN, "Ends of payments that had ended before, by whether they agreed");
        describe_counter!(
            WEBHOOK_ATTEMPTS,
            "Attempts to tell an endpoint of an event, by result; of several in one request each is counted"
        );
        describe_histogram!(
            WEBHOOK_SECONDS,
            metrics::Unit::Seconds,
            "How long an attempt to tell an endpoint took, for each event of it"
        );
        describe_counter!(PUSH_ATTEMPTS, "Attempts to tell a browser by Web Push, by result");
        describe_histogram!(PUSH_SECONDS, metrics::Unit::Seconds, "How long an attempt to tell a browser took");
        describe_counter!(ACCEPTED, "Payments whose beginning was folded since this instance was at the log's end");
        describe_counter!(ENDED, "Payments whose end was folded since this instance was at the log's end, by status");
        describe_histogram!(
            RESULT_SECONDS,
            metrics::Unit::Seconds,
            "From a payment's beginning to its end, of those that are counted as ended"
        );
        describe_gauge!(OPEN, "Payments that have not ended, by the state of this instance");
        describe_gauge!(
            LAG,
            "Offsets of the log that this instance has not folded yet, by partition; NaN while the log's end is not known"
        );
        describe_gauge!(PARKED, "Payments that wait for a person, by the state of this instance");
        describe_gauge!(
            REBUILD_FOLDED,
            "Offsets folded by the version that is being built, over all partitions; 0 if none is"
        );
        describe_gauge!(REBUILD_END, "Offsets of the log to be folded by the version that is being built");
        describe_gauge!(REBUILD_RATE, "Offsets folded a second by the version that is being built");
        describe_gauge!(
            REBUILD_LEFT,
            "Seconds until the version that is being built has reached the end, at that rate; NaN while it is not known"
        );
        describe_counter!(
            CHECKPOINTS,
            "Checkpoints that were begun, by how they ended: made, full (the disk), failed, stopped"
        );
        describe_histogram!(CHECKPOINT_SECONDS, metrics::Unit::Seconds, "How long a checkpoint that was made took");
        describe_gauge!(
            CHECKPOINT_AGE,
            "Seconds since the newest checkpoint on this disk was made; NaN if there is none"
        );
        describe_gauge!(CHECKPOINT_BYTES, "Size of the newest checkpoint on this disk; 0 if there is none");
        describe_counter!(OUTCOMES, "Outcomes committed by this process, by event");
        describe_counter!(TRANSACTIONS, "Transactions of this process, by result");
        describe_counter!(
            REQUESTS_TAKEN,
            "Requests of others moved on by this process, but for dead letters, by result"
        );
        describe_counter!(
            CLOUD_EVENTS,
            "Events that came to /v1/event_grid: accepted (new payments), repeated, unconfirmed (on the log, and not folded here \
             in time), or refused for ever"
        );
        describe_gauge!(
            REQUESTS_HELD,
            "Partitions of requests that wait, by topic and for what: a partition of the log that has halted (halted), the schema \
             registry (registry_away), or one id that it says nothing of (schema_withheld)"
        );
        describe_counter!(REGISTRY_ASKED, "Questions to the schema registry what an id is, by what it answered");
        describe_counter!(REQUESTS_GONE, "Offsets of requests that retention removed before they were taken in");
        describe_counter!(DEAD_LETTERS, "Requests that this process refused, by reason");
        describe_counter!(DEAD_LETTERS_SLOWED, "Times that a partition of requests was slowed for its dead letters");
        describe_gauge!(
            SERVICE_BUS_CONNECTED,
            "1 while messages are taken from the queue that starts payments, else 0"
        );
        describe_counter!(
            SERVICE_BUS_GIVEN_BACK,
            "Messages given back to that queue because the log could not be written"
        );
        describe_gauge!(SERVICE_BUS_HELD, "Messages of that queue whose partition has halted or does not take them");
        describe_counter!(AMQP_CONNECTIONS_CUT, "AMQP connections whose other side did not answer the goodbye in time");
        describe_histogram!(TRANSACTION_SECONDS, metrics::Unit::Seconds, "From begin to committed");
        describe_counter!(BREAKER_OPENED, "Times that calls to the gateway were held because it did not answer");
        describe_gauge!(STREAMS_OPEN, "Streams that are open to clients of this process, by channel");
        describe_gauge!(
            CLOCK_BEHIND,
            metrics::Unit::Seconds,
            "How far this machine's clock was behind the log's when it last held up charges"
        );
        Some(handle)
    };
    RECORDER.get_or_init(install).as_ref()
}

/// Starts the counting.
pub fn start() {
    recorder();
}

/// To be called every few seconds: what was timed since is gathered up, whether anybody asks for `/metrics` or not.
pub fn keep_up() {
    if let Some(recorder) = recorder() {
        recorder.run_upkeep();
    }
}

pub fn events_folded(projection: &'static str, count: usize) {
    counter!(EVENTS_FOLDED, "projection" => projection).increment(count as u64);
}

pub fn partition_halted(projection: &'static str) {
    counter!(PARTITIONS_HALTED, "projection" => projection).increment(1);
}

pub fn payment_ended_again(agreed: bool) {
    counter!(ENDED_AGAIN, "agreed" => if agreed { "yes" } else { "no" }).increment(1);
}

pub fn payments_accepted(count: u64) {
    counter!(ACCEPTED).increment(count);
}

pub fn payment_ended(status: &'static str, seconds: f64) {
    counter!(ENDED, "status" => status).increment(1);
    histogram!(RESULT_SECONDS).record(seconds);
}

/// As counted from the state.
pub fn open(count: u64) {
    gauge!(OPEN).set(count as f64);
}

/// `None` if the partition's end is not known.
pub fn fold_lag(partition: u32, offsets: Option<u64>) {
    gauge!(LAG, "partition" => partition.to_string()).set(offsets.map_or(f64::NAN, |offsets| offsets as f64));
}

/// Of a version of a projection that is being built: offsets folded, and how fast; `None` if none is.
pub fn rebuild(projection: &'static str, building: Option<(u64, Pace)>) {
    let (folded, pace) = building.unwrap_or_default();
    gauge!(REBUILD_FOLDED, "projection" => projection).set(folded as f64);
    gauge!(REBUILD_END, "projection" => projection).set(pace.end.unwrap_or_default() as f64);
    gauge!(REBUILD_RATE, "projection" => projection).set(pace.per_second.unwrap_or_default());
    let left = if building.is_some() { pace.seconds_left.unwrap_or(f64::NAN) } else { 0.0 };
    gauge!(REBUILD_LEFT, "projection" => projection).set(left);
}

/// One was made, or was not.
pub fn checkpoint_ended(projection: &'static str, result: &'static str, took: Duration) {
    counter!(CHECKPOINTS, "projection" => projection, "result" => result).increment(1);
    if result == "made" {
        histogram!(CHECKPOINT_SECONDS, "projection" => projection).record(took.as_secs_f64());
    }
}

/// How old the newest checkpoint is, and how large.
pub fn checkpoint(projection: &'static str, newest: Option<(Duration, u64)>) {
    let (age, bytes) = newest.map_or((f64::NAN, 0), |(age, bytes)| (age.as_secs_f64(), bytes));
    gauge!(CHECKPOINT_AGE, "projection" => projection).set(age);
    gauge!(CHECKPOINT_BYTES, "projection" => projection).set(bytes as f64);
}

/// As counted from the state. Without the reasons: a foreign hand could make as many of them as it likes.
pub fn parked(count: u64) {
    gauge!(PARKED).set(count as f64);
}

pub fn breaker_opened() {
    counter!(BREAKER_OPENED).increment(1);
}

/// Charges are held: this machine's clock cannot be believed. Said in the log once a minute.
pub fn clock_behind(behind: Duration) {
    static SELDOM: Seldom = Seldom::new();
    gauge!(CLOCK_BEHIND).set(behind.as_secs_f64());
    if SELDOM.now() {
        let behind_s = behind.as_secs();
        tracing::error!(behind_s, "this machine's clock is behind the log's: nothing is charged until it is set right");
    }
}

pub fn outcome_recorded(data: &EventData) {
    counter!(OUTCOMES, "event" => data.name()).increment(1);
}

pub fn transaction_ended(committed: bool, took: Duration) {
    counter!(TRANSACTIONS, "result" => if committed { "committed" } else { "not_committed" }).increment(1);
    histogram!(TRANSACTION_SECONDS).record(took.as_secs_f64());
}

pub fn webhook_attempted(result: &'static str, took: Duration) {
    counter!(WEBHOOK_ATTEMPTS, "result" => result).increment(1);
    histogram!(WEBHOOK_SECONDS).record(took.as_secs_f64());
}

pub fn push_attempted(result: &'static str, took: Duration) {
    counter!(PUSH_ATTEMPTS, "result" => result).increment(1);
    histogram!(PUSH_SECONDS).record(took.as_secs_f64());
}

pub fn request_taken(result: &'static str) {
    counter!(REQUESTS_TAKEN, "result" => result).increment(1);
}

pub fn cloud_events_taken(result: &'static str, count: u64) {
    counter!(CLOUD_EVENTS, "result" => result).increment(count);
}

/// `answer` is `answered`, `missing`, `away`, or `withheld`: of this id nothing is said, and of others something is.
pub fn registry_asked(answer: &'static str) {
    counter!(REGISTRY_ASKED, "answer" => answer).increment(1);
}

/// Partitions of requests that wait, by what for.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeldCount {
    pub halted: usize,
    pub registry_away: usize,
    pub schema_withheld: usize,
}

/// `topic` is where they are read from: ours, or a hub.
pub fn requests_held(topic: &str, count: HeldCount) {
    let HeldCount { halted, registry_away, schema_withheld } = count;
    for (why, partitions) in
        [("halted", halted), ("registry_away", registry_away), ("schema_withheld", schema_withheld)]
    {
        gauge!(REQUESTS_HELD, "topic" => topic.to_owned(), "for" => why).set(partitions as f64);
    }
}

pub fn requests_gone(offsets: u64) {
    counter!(REQUESTS_GONE).increment(offsets);
}

pub fn dead_letter(reason: &'static str) {
    counter!(DEAD_LETTERS, "reason" => reason).increment(1);
}

pub fn service_bus_connected(connected: bool) {
    gauge!(SERVICE_BUS_CONNECTED).set(if connected { 1.0 } else { 0.0 });
}

pub fn service_bus_given_back() {
    counter!(SERVICE_BUS_GIVEN_BACK).increment(1);
}

pub fn service_bus_held(messages: usize) {
    gauge!(SERVICE_BUS_HELD).set(messages as f64);
}

pub fn amqp_connections_cut(connections: u64) {
    counter!(AMQP_CONNECTIONS_CUT).absolute(connections);
}

pub fn dead_letters_slowed() {
    counter!(DEAD_LETTERS_SLOWED).increment(1);
}

/// Counted for as long as it lives.
pub struct OpenStream(&'static str);

pub fn connection_refused(whose: &'static str) {
    counter!(CONNECTIONS_REFUSED, "bound" => whose).increment(1);
}

#[must_use]
pub fn stream_opened(channel: &'static str) -> OpenStream {
    gauge!(STREAMS_OPEN, "channel" => channel).increment(1.0);
    OpenStream(channel)
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        gauge!(STREAMS_OPEN, "channel" => self.0).decrement(1.0);
    }
}
