//! A process's way to the provider. What the real one makes of an answer, the model's provider has decided already.

use std::sync::Arc;

use paylog::gateway::{Answer, Charge, Gateway, Inquiry, Outcome, Terms};
use tokio::sync::oneshot;

use crate::log::Life;
use crate::planted::Mistake;
use crate::provider::{Asks, Request};
use crate::world::World;

pub struct ModelGateway {
    world: Arc<World>,
    life: Life,
}

impl ModelGateway {
    pub fn new(world: &Arc<World>, life: Life) -> Self {
        Self { world: Arc::clone(world), life }
    }
}

/// Nobody answers a process that is dead.
async fn silence<T>() -> T {
    std::future::pending().await
}

fn send(world: &World, life: Life, charge: Charge, asks: Asks) {
    let mut core = world.core();
    let money = charge.money;
    let (mut key, mut amount) = (charge.key.to_string(), money.amount());
    if core.is_planted(Mistake::NewKeyEveryTry) {
        key = format!("{key}/{}", charge.attempt);
    }
    if core.is_planted(Mistake::OtherBodyEveryTry) {
        amount += i64::from(charge.attempt > 1);
    }
    let body = format!("{amount} {} {}", money.currency().code(), charge.payment_method.as_str());
    let (sent_tick, sent_us) = (core.tick(), core.now_us);
    let machine = &core.machines[life.process];
    let (machine_us, newest_append_us) = (sent_us as i64 + machine.skew_us, machine.newest_append_us);
    let (arrived, lost) = (false, false);
    core.send(Request {
        sender: life,
        charge,
        key,
        body,
        sent_tick,
        sent_us,
        machine_us,
        newest_append_us,
        arrived,
        lost,
        asks,
    });
}

impl Gateway for ModelGateway {
    fn name(&self) -> &'static str {
        "simulator"
    }

    fn terms(&self) -> Terms {
        let core = self.world.core();
        let mut terms = core.plan.provider.terms();
        if core.is_planted(Mistake::PostAfterTheWindow) {
            terms.key_window *= 20;
        }
        if core.is_planted(Mistake::NotFoundBelievedAtOnce) {
            terms.not_found_final_after = Some(std::time::Duration::ZERO);
        }
        terms
    }

    fn charge(&self, charge: Charge) -> Answer<Outcome> {
        let (world, life) = (Arc::clone(&self.world), self.life);
        Box::pin(async move {
            if !world.core().may_call(life, "charge") {
                return silence().await;
            }
            let not_sent = world.core().plan.rates.not_sent;
            if world.core().happens(not_sent) {
                let mut core = world.core();
                core.trace.fault("a request is not sent");
                core.provider.troubled.insert(charge.key);
                return Outcome::NotSent { reason: "connection refused".to_owned() };
            }
            let (answer, outcome) = oneshot::channel();
            send(&world, life, charge.clone(), Asks::Charge { answer: Some(answer), outcome: None });
            let outcome = match outcome.await {
                Ok(outcome) => outcome,
                Err(_) => silence().await,
            };
            if !world.core().may_call(life, "the answer to a charge") {
                return silence().await;
            }
            world.core().misread(outcome, &charge)
        })
    }

    fn inquire(&self, charge: Charge) -> Answer<Inquiry> {
        let (world, life) = (Arc::clone(&self.world), self.life);
        Box::pin(async move {
            if !world.core().may_call(life, "inquire") {
                return silence().await;
            }
            let (answer, outcome) = oneshot::channel();
            send(&world, life, charge, Asks::Inquiry { answer: Some(answer), outcome: None, found_nothing: false });
            match outcome.await {
                Ok(inquiry) => inquiry,
                Err(_) => silence().await,
            }
        })
    }
}
