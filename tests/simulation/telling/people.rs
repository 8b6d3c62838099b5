//! Whoever is to be told, and who decides that: what they have asked for, how their servers behave, and what came there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use paylog::control::{
    Change, Endpoint, EndpointId, EndpointKind, EndpointSecret, EndpointState, PayloadKind, SecretsKey,
};
use paylog::executor::Executor;
use paylog::journal::{Offset, Position};
use paylog::notifier::{Means, WebhookArgs};
use paylog::payment::PaymentId;
use paylog::webpush::VapidKey;
use tokio::runtime::Handle;

use super::stories::{self, Story, ends};
use super::{Teller, World};
use crate::client::at;
use crate::log::Life;
use crate::plan::Plan;
use crate::planted::Mistake;
use crate::random::Random;

/// How long somebody waits for what they have decided.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is the same for all seeds: costly to make, and nothing of it is random that matters.
pub struct Office {
    pub key: SecretsKey,
    pub vapid: VapidKey,
    pub means: Means,
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    webhooks: WebhookArgs,
}

pub struct People {
    pub office: Arc<Office>,
    pub args: WebhookArgs,
    pub receivers: Vec<Receiver>,
    pub stories: Vec<Story>,
    /// Events so far.
    pub happened: u64,
    pub arrivals: Vec<Arrival>,
    /// Since which of its tasks a process knows that somebody is told nothing any more.
    pub told_off: BTreeMap<(Life, EndpointId), u64>,
}

pub struct Receiver {
    pub id: EndpointId,
    pub ordered: bool,
    events: Option<Vec<String>>,
    pub habits: Habits,
}

/// How often, in a thousand requests, while there are faults.
pub struct Habits {
    pub away: u32,
    pub stalls: u32,
    pub fails: u32,
    pub busy: u32,
    pub gone: u32,
}

/// A request that was begun.
pub struct Arrival {
    pub tick: u64,
    pub from: Life,
    pub to: EndpointId,
    pub id: String,
    /// Of which payment, and which version; `None` if it tells of something else.
    pub of: Option<(PaymentId, u64)>,
    /// Which endpoint it was, as its sender knew it: enabled there, and told from there on.
    pub enabled: Offset,
    pub starts: Vec<u64>,
    /// What was answered; `None` if nothing was.
    pub status: Option<u16>,
    /// Its sender has heard what came of it.
    pub heard: bool,
}

impl Office {
    pub fn new(runtime: &Handle) -> anyhow::Result<Self> {
        let key = SecretsKey::parse(&SecretsKey::generate())?;
        let args = Flags::try_parse_from(["notify", "--allow-private-webhooks"])?.webhooks;
        Ok(Self { vapid: VapidKey::of(&key)?, means: Means::new(&args, runtime.clone())?, key })
    }
}

impl Receiver {
    fn new(random: &mut Random, n: u8) -> Self {
        let ends = || vec!["PaymentSuccessful".to_owned(), "PaymentFailed".to_owned()];
        let mut rate = |max: u64| if random.chance(500) { 0 } else { random.between(max / 20, max) as u32 };
        let habits = Habits { away: rate(400), stalls: rate(300), fails: rate(500), busy: rate(200), gone: rate(40) };
        let events = if random.chance(300) { Some(ends()) } else { None };
        Self { id: EndpointId([n; 16]), ordered: random.chance(500), events, habits }
    }

    pub fn wants(&self, name: &str) -> bool {
        self.events.as_ref().is_none_or(|names| names.iter().any(|wanted| wanted == name))
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:1/{}", self.id)
    }
}

impl People {
    pub fn new(plan: &Plan, office: &Arc<Office>) -> Self {
        let mut random = Random::new(plan.seed ^ 0x7e11);
        let schedule = *random.pick(&["", "", "--webhook-retry-ms=5000,60000,600000", "--webhook-retry-ms=1000"]);
        let patience = *random.pick(&["--webhook-disable-after-seconds=432000", "--webhook-disable-after-seconds=600"]);
        let flags = ["notify", "--allow-private-webhooks", patience, schedule];
        let flags = flags.into_iter().filter(|flag| !flag.is_empty());
        let args = Flags::try_parse_from(flags).expect("flags that we made").webhooks;
        let receivers = (1..=random.between(1, 3) as u8).map(|n| Receiver::new(&mut random, n)).collect();
        let stories = (0..plan.payments).map(|order| Story::new(&mut random, order)).collect();
        let (arrivals, told_off) = (Vec::new(), BTreeMap::new());
        Self { office: Arc::clone(office), args, receivers, stories, happened: 0, arrivals, told_off }
    }
}

/// Something happens to a payment, or somebody asks to be told.
pub fn act(world: &Arc<World>, except: Option<usize>) {
    let (process, choice, which, who) = {
        let mut core = world.core();
        let (count, payments, receivers) = (world.count(), core.plan.payments, world.people().receivers.len());
        (core.random.below(count), core.random.below(10), core.random.below(payments), core.random.below(receivers))
    };
    if choice < 6 {
        stories::go_on(world, which);
    } else if Some(process) != except {
        create(world, process, who);
    }
}

fn create(world: &Arc<World>, process: usize, who: usize) {
    let (id, ordered, events, url, key) = {
        let people = world.people();
        let receiver = &people.receivers[who];
        let key = people.office.key.clone();
        (receiver.id, receiver.ordered, receiver.events.clone(), receiver.url(), key)
    };
    let ordered = ordered && !world.core().is_planted(Mistake::OrderForgotten);
    let is_new = world.with(process, |here| !here.control.webhooks().known().endpoints.contains_key(&id));
    let Ok((secret, _)) = EndpointSecret::mint(id, &key) else { return };
    if is_new == Some(true) {
        let now = at(world.core().now_us).to_string();
        let endpoint = Endpoint {
            id,
            merchant_id: "default".to_owned(),
            url,
            events,
            ordered,
            payload: PayloadKind::Full,
            state: EndpointState::Enabled,
            reason: None,
            from: ends(world),
            secrets: vec![secret],
            created_at: now.clone(),
            enabled_at: now,
            kind: EndpointKind::Webhook,
            credential: None,
        };
        change(world, process, Change::Created, endpoint, 1);
    }
}

/// An operator disables an endpoint, or enables it again, by what one process shows.
pub fn operate(world: &Arc<World>, process: usize) {
    let (which, id) = {
        let mut core = world.core();
        let people = world.people();
        let who = core.random.below(people.receivers.len());
        (core.random.below(3), people.receivers[who].id)
    };
    let shown = world.with(process, |here| here.control.webhooks().known().endpoints.get(&id).cloned());
    let Some(known) = shown.flatten() else { return };
    let mut endpoint = known.endpoint.clone();
    if !endpoint.is_enabled() {
        (endpoint.state, endpoint.reason, endpoint.from) = (EndpointState::Enabled, None, ends(world));
        endpoint.enabled_at = at(world.core().now_us).to_string();
        change(world, process, Change::Enabled, endpoint, known.version + 1);
    } else if which == 0 {
        (endpoint.state, endpoint.reason) = (EndpointState::Disabled, Some("operator".to_owned()));
        change(world, process, Change::Disabled, endpoint, known.version + 1);
    }
}

fn change(world: &Arc<World>, process: usize, change: Change, endpoint: Endpoint, version: u64) {
    let now = {
        let mut core = world.core();
        let now = core.now_us;
        core.trace.fault("somebody decides about an endpoint");
        core.trace.line(now, format_args!("{change:?} {} at version {version}, by {process}", endpoint.id));
        at(now)
    };
    world.with(process, |here: &mut Teller| {
        let control = Arc::clone(&here.control);
        here.tasks.spawn(Box::pin(async move {
            // Whether it was acknowledged is seen in what the endpoint becomes.
            drop(control.change_endpoint(change, endpoint, version, now, PATIENCE).await);
        }));
    });
}

impl Arrival {
    pub fn was_taken(&self) -> bool {
        self.status == Some(204)
    }

    /// Is what stands there for this endpoint, as its sender knew it?
    pub fn covers(&self, position: Position) -> bool {
        self.starts.get(position.partition.0 as usize).is_none_or(|from| position.offset >= Offset(*from))
    }
}
