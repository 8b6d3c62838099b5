//! Merchants' backends: they pay, repeat what they do not know the end of, repeat what they do know, ask for something else
//! with a key that is taken, ask both instances at once, and read what they were told of.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use paylog::checker::{Body, Operation, Outcome};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::mpsc::Sender;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::recorder::Recorder;

/// How many keys are remembered for repetition.
const RECENT_MAX: usize = 200;
/// Tries of a payment of which the client knows nothing.
const TRIES_MAX: u32 = 4;
pub const CUSTOMERS: u32 = 50;

/// Which payment methods are used, and how often, in thousandths; the rest is good.
pub type Methods = &'static [(&'static str, u32)];

pub struct Payers {
    pub api: Arc<Api>,
    pub recorder: Arc<Recorder>,
    pub methods: Methods,
    /// Told of some of the payments, to be followed.
    pub followed: Sender<String>,
    recent: Mutex<VecDeque<(String, Body)>>,
}

impl Payers {
    pub fn new(api: Arc<Api>, recorder: Arc<Recorder>, methods: Methods, followed: Sender<String>) -> Arc<Self> {
        Arc::new(Self { api, recorder, methods, followed, recent: Mutex::default() })
    }

    /// One client, that begins something `rate` times a second while nothing holds it up, until `stop`.
    pub async fn run(self: Arc<Self>, number: u64, seed: u64, rate: f64, stop: CancellationToken) {
        let client = format!("client-{number}");
        let mut dice = StdRng::seed_from_u64(seed.wrapping_mul(1_000).wrapping_add(number));
        let mut next = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
        next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut n = 0;
        while !stop.is_cancelled() {
            next.tick().await;
            n += 1;
            let key = format!("order-{seed}-{number}-{n}");
            match (dice.random_range(0..100), self.recall(&mut dice)) {
                (0..10, Some((key, body))) => drop(self.pay(&client, &key, &body, &mut dice).await),
                (10..15, Some((key, body))) => {
                    let other = Body { amount: body.amount + dice.random_range(1..100), ..body };
                    drop(self.pay(&client, &key, &other, &mut dice).await);
                }
                (15..20, _) => self.at_once(&client, &key, &mut dice).await,
                _ => self.one(&client, &key, &mut dice).await,
            }
        }
    }

    /// A new payment, and what a careful client does about it.
    async fn one(&self, client: &str, key: &str, dice: &mut StdRng) {
        let body = self.body(dice);
        for _ in 0..TRIES_MAX {
            let operation = self.pay(client, key, &body, dice).await;
            match &operation.outcome {
                Outcome::Ok(answer) => {
                    self.remember(key, &body);
                    let position = answer.appended_at.and_then(|place| self.api.position(place));
                    self.look(client, &answer.payment_id, position.as_deref(), dice).await;
                    return;
                }
                Outcome::Fail { status, .. } if *status < 500 => return,
                _ => self.remember(key, &body), // others may go on with it
            }
            if dice.random_bool(0.3) {
                return; // and never asks again
            }
        }
    }

    /// The same key at every instance at the same moment, now and then for different things.
    async fn at_once(&self, client: &str, key: &str, dice: &mut StdRng) {
        let body = self.body(dice);
        let other = Body { amount: body.amount + i64::from(dice.random_bool(0.5)), ..body.clone() };
        let (one, two) = tokio::join!(self.api.pay(client, 0, key, &body), self.api.pay(client, 1, key, &other));
        for operation in [one, two] {
            self.recorder.operations.push(operation);
        }
    }

    async fn pay(&self, client: &str, key: &str, body: &Body, dice: &mut StdRng) -> Operation {
        let instance = dice.random_range(0..self.api.urls.len());
        let operation = self.api.pay(client, instance, key, body).await;
        self.recorder.operations.push(operation.clone());
        operation
    }

    /// Now and then the payment is read, its history is, or somebody follows it.
    async fn look(&self, client: &str, id: &str, position: Option<&str>, dice: &mut StdRng) {
        let instance = dice.random_range(0..self.api.urls.len());
        match dice.random_range(0..100) {
            0..25 => {
                self.recorder.operations.push(self.api.get(client, instance, id, position).await);
            }
            25..35 => self.recorder.operations.push(self.api.history(client, instance, id).await),
            // A full queue means that there are enough readers.
            35..75 => drop(self.followed.try_send(id.to_owned())),
            _ => {}
        }
    }

    pub fn body(&self, dice: &mut StdRng) -> Body {
        let mut drawn = dice.random_range(0..1_000);
        let mut method = "pm_card_visa";
        for (name, share) in self.methods {
            if drawn < *share {
                method = name;
                break;
            }
            drawn -= share;
        }
        Body {
            amount: dice.random_range(1..100_000),
            currency: ["EUR", "USD", "JPY"][dice.random_range(0..3)].to_owned(),
            customer_id: format!("cus_{}", dice.random_range(0..CUSTOMERS)),
            payment_method: method.to_owned(),
            description: dice.random_bool(0.5).then(|| "two books".to_owned()),
            metadata: None,
        }
    }

    fn remember(&self, key: &str, body: &Body) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back((key.to_owned(), body.clone()));
        if recent.len() > RECENT_MAX {
            recent.pop_front();
        }
    }

    pub fn recall(&self, dice: &mut StdRng) -> Option<(String, Body)> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let which = dice.random_range(0..recent.len().max(1));
        recent.get(which).cloned()
    }
}
