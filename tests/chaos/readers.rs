//! Browsers: each follows one payment or one customer, over whatever breaks, and comes back with the last id that it was
//! given, to another instance than before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use paylog::checker::{Connection, Frame};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Mutex;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, MERCHANT};
use crate::recorder::Recorder;
use crate::sse::Parser;

const PAUSE: Duration = Duration::from_millis(300);
/// A connection has been told of everything that was there when it was opened after this long.
const OPENED_MAX: Duration = Duration::from_secs(5);
/// Frames and seconds after which a reader without patience goes away.
const FRAMES_MAX: usize = 8;
const PATIENCE_MAX_S: f64 = 15.0;
const OK: u16 = 200;
const NO_CONTENT: u16 = 204;

pub struct Readers {
    pub api: Arc<Api>,
    pub recorder: Arc<Recorder>,
    /// Nothing goes wrong any more, and nobody goes away.
    pub calm: CancellationToken,
    /// All is at rest, and what had to come has come.
    pub rest: CancellationToken,
}

enum Followed {
    Payment(String),
    Customer(String),
}

/// How a connection ended.
enum Ended {
    Broken,
    ByServer,
    AtRest,
}

impl Readers {
    /// Follows one payment after the other, each to its end.
    pub async fn payments(self: Arc<Self>, number: u64, seed: u64, ids: Arc<Mutex<Receiver<String>>>) {
        let mut dice = StdRng::seed_from_u64(seed ^ (number << 32));
        loop {
            let id = tokio::select! {
                id = async { ids.lock().await.recv().await } => id,
                () = self.rest.cancelled() => None,
            };
            let Some(id) = id else { return };
            let stream = format!("{id}-{number}");
            self.follow(&stream, &Followed::Payment(id), &mut dice).await;
        }
    }

    pub async fn customer(self: Arc<Self>, number: u32, seed: u64) {
        let mut dice = StdRng::seed_from_u64(seed ^ (u64::from(number) << 48));
        let customer = format!("cus_{number}");
        self.follow(&customer.clone(), &Followed::Customer(customer), &mut dice).await;
    }

    async fn follow(&self, stream: &str, followed: &Followed, dice: &mut StdRng) {
        let mut cursor = None;
        for number in 0.. {
            if self.rest.is_cancelled() {
                return;
            }
            let mut connection = Connection {
                stream: stream.to_owned(),
                number,
                merchant: MERCHANT.to_owned(),
                payment_id: None,
                customer_id: None,
                last_event_id: cursor.clone(),
                status: 0,
                frames: Vec::new(),
                to_the_end: false,
            };
            match followed {
                Followed::Payment(id) => connection.payment_id = Some(id.clone()),
                Followed::Customer(id) => connection.customer_id = Some(id.clone()),
            }
            let ended = self.connect(&mut connection, dice).await;
            let over = connection.frames.iter().any(is_end) && connection.payment_id.is_some();
            connection.to_the_end = match ended {
                Ended::AtRest => true,
                Ended::ByServer => over || connection.status == NO_CONTENT,
                Ended::Broken => false,
            };
            cursor = connection.frames.iter().rev().find_map(|frame| frame.id.clone()).or(cursor);
            let done = connection.to_the_end;
            self.recorder.streams.push(connection);
            if done {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn connect(&self, connection: &mut Connection, dice: &mut StdRng) -> Ended {
        let query = match (&connection.payment_id, &connection.customer_id) {
            (Some(id), _) => format!("payment_id={id}"),
            (None, customer) => format!("customer_id={}", customer.as_deref().unwrap_or_default()),
        };
        let instance = dice.random_range(0..self.api.urls.len());
        let Ok(mut response) = self.api.stream(instance, &query, connection.last_event_id.as_deref()).await else {
            return Ended::Broken;
        };
        connection.status = response.status().as_u16();
        if connection.status != OK {
            return if connection.status == NO_CONTENT { Ended::ByServer } else { Ended::Broken };
        }
        // A reader that is impatient goes away in the middle, and comes back.
        let frames_max = dice.random_bool(0.7).then(|| dice.random_range(1..FRAMES_MAX));
        let patience = Duration::from_secs_f64(dice.random_range(0.5..PATIENCE_MAX_S));
        let (mut parser, opened) = (Parser::default(), Instant::now());
        loop {
            let chunk = tokio::select! {
                chunk = response.chunk() => chunk,
                () = self.away(opened + patience) => return Ended::Broken,
                () = self.rest.cancelled() => {
                    return if opened.elapsed() < OPENED_MAX { Ended::Broken } else { Ended::AtRest };
                }
            };
            match chunk {
                Ok(Some(bytes)) => connection.frames.extend(parser.feed(&bytes)),
                Ok(None) => return Ended::ByServer,
                Err(_) => return Ended::Broken,
            }
            if frames_max.is_some_and(|max| connection.frames.len() >= max) && !self.calm.is_cancelled() {
                return Ended::Broken;
            }
        }
    }

    /// Returns at that moment, if the calm has not come before it.
    async fn away(&self, at: Instant) {
        tokio::select! {
            () = tokio::time::sleep_until(at.into()) => {}
            () = self.calm.cancelled() => std::future::pending().await,
        }
    }
}

fn is_end(frame: &Frame) -> bool {
    matches!(frame.payment_status.as_str(), "successful" | "failed")
}
