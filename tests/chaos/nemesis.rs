//! What goes wrong, in an order that the seed decides. Three hands work at once, on processes, on brokers and on links; each
//! deals its faults as cards, so that every kind comes before any comes again.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use crate::brokers::{BROKERS, Brokers};
use crate::fleet::{Fleet, GROUP, PARTITIONS, TOPIC};
use crate::process::Process;
use crate::recorder::Recorder;

pub struct Nemesis {
    pub fleet: Arc<Fleet>,
    pub brokers: Arc<Brokers>,
    pub recorder: Arc<Recorder>,
    pub stop: CancellationToken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Card {
    KillProcessor,
    KillEveryProcessor,
    FreezeProcessor,
    FreezeProcessorPastItsSession,
    StopProcessor,
    Storm,
    KillApi,
    FreezeApi,
    KillProvider,
    KillBroker,
    KillLeader,
    KillGroupCoordinator,
    KillTransactionCoordinator,
    RollingRestart,
    BelowMinIsr,
    SlowLink,
    NarrowLink,
    CutLink,
    CutEveryLink,
    DeafLink,
    MuteLink,
}

use Card::{
    BelowMinIsr, CutEveryLink, CutLink, DeafLink, FreezeApi, FreezeProcessor, FreezeProcessorPastItsSession, KillApi,
    KillBroker, KillEveryProcessor, KillGroupCoordinator, KillLeader, KillProcessor, KillProvider,
    KillTransactionCoordinator, MuteLink, NarrowLink, RollingRestart, SlowLink, StopProcessor, Storm,
};

const HANDS: [&[Card]; 3] = [
    &[
        KillProcessor,
        KillEveryProcessor,
        FreezeProcessor,
        FreezeProcessorPastItsSession,
        StopProcessor,
        Storm,
        KillApi,
        FreezeApi,
        KillProvider,
    ],
    &[KillBroker, KillLeader, KillGroupCoordinator, KillTransactionCoordinator, RollingRestart, BelowMinIsr],
    &[SlowLink, NarrowLink, CutLink, CutEveryLink, DeafLink, MuteLink],
];

impl Nemesis {
    /// All hands, until `stop`.
    pub async fn run(self: Arc<Self>, seed: u64) {
        let hands = HANDS.iter().zip(1..).map(|(cards, n)| Arc::clone(&self).hand(cards, seed.wrapping_mul(31) + n));
        let [one, two, three] =
            hands.map(tokio::spawn).collect::<Vec<_>>().try_into().unwrap_or_else(|_| unreachable!());
        drop(tokio::join!(one, two, three));
    }

    async fn hand(self: Arc<Self>, cards: &'static [Card], seed: u64) {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut deck = Vec::new();
        while !self.stop.is_cancelled() {
            if deck.is_empty() {
                deck = cards.to_vec();
                deck.shuffle(&mut dice);
            }
            if let Some(card) = deck.pop() {
                self.play(card, &mut dice).await;
            }
            self.wait(dice.random_range(1.0..4.0)).await;
        }
    }

    async fn play(&self, card: Card, dice: &mut StdRng) {
        match card {
            KillProcessor | FreezeProcessor | FreezeProcessorPastItsSession | StopProcessor => {
                let processor = Arc::clone(&self.fleet.processors[dice.random_range(0..self.fleet.processors.len())]);
                self.disturb(card, &processor, dice).await;
            }
            KillApi | FreezeApi => {
                let api = Arc::clone(&self.fleet.apis[dice.random_range(0..self.fleet.apis.len())]);
                self.disturb(card, &api, dice).await;
            }
            KillProvider => self.disturb(card, &Arc::clone(&self.fleet.provider), dice).await,
            KillEveryProcessor => self.kill_every_processor(dice).await,
            Storm => self.storm(dice).await,
            KillBroker | KillLeader | KillGroupCoordinator | KillTransactionCoordinator => {
                self.kill_broker(card, dice).await;
            }
            RollingRestart => self.rolling_restart(dice).await,
            BelowMinIsr => self.below_min_isr(dice).await,
            SlowLink | NarrowLink | CutLink | CutEveryLink | DeafLink | MuteLink => self.link(card, dice).await,
        }
    }

    fn say(&self, card: Card, what: &str) {
        let kind = match card {
            KillProcessor => "processor killed",
            KillEveryProcessor => "every processor killed",
            FreezeProcessor => "processor frozen",
            FreezeProcessorPastItsSession => "processor frozen past its session",
            StopProcessor => "processor stopped",
            Storm => "rebalance storm",
            KillApi => "API killed",
            FreezeApi => "API frozen",
            KillProvider => "provider killed",
            KillBroker => "broker killed",
            KillLeader => "partition leader killed",
            KillGroupCoordinator => "group coordinator killed",
            KillTransactionCoordinator => "transaction coordinator killed",
            RollingRestart => "brokers restarted in turn",
            BelowMinIsr => "below min ISR",
            SlowLink => "link slow",
            NarrowLink => "link narrow",
            CutLink => "link cut",
            CutEveryLink => "every link cut",
            DeafLink => "link without answers",
            MuteLink => "link without requests",
        };
        self.recorder.fault(kind, what);
    }

    /// Returns early at the stop.
    async fn wait(&self, seconds: f64) {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs_f64(seconds)) => {}
            () = self.stop.cancelled() => {}
        }
    }

    // === processes ===

    async fn disturb(&self, card: Card, process: &Process, dice: &mut StdRng) {
        let seconds = match card {
            FreezeProcessorPastItsSession => dice.random_range(11.0..16.0),
            FreezeProcessor | FreezeApi => dice.random_range(1.0..7.0),
            _ => dice.random_range(0.2..4.0),
        };
        self.say(card, &format!("{} for {seconds:.1} s", process.name));
        match card {
            FreezeProcessor | FreezeProcessorPastItsSession | FreezeApi => {
                process.freeze();
                self.wait(seconds).await;
                process.thaw();
            }
            StopProcessor => {
                if !block_in_place(|| process.stop()) {
                    self.recorder.fault("a processor did not stop by itself", &process.name);
                }
                self.wait(seconds).await;
                drop(process.start());
            }
            _ => {
                block_in_place(|| process.kill());
                self.wait(seconds).await;
                drop(process.start());
            }
        }
    }

    async fn kill_every_processor(&self, dice: &mut StdRng) {
        let seconds = dice.random_range(1.0..8.0);
        self.say(KillEveryProcessor, &format!("for {seconds:.1} s"));
        for processor in &self.fleet.processors {
            block_in_place(|| processor.kill());
        }
        self.wait(seconds).await;
        for processor in &self.fleet.processors {
            drop(processor.start());
        }
    }

    /// A member joins and another leaves, again and again.
    async fn storm(&self, dice: &mut StdRng) {
        let turns = dice.random_range(3..6);
        self.say(Storm, &format!("{turns} times a member more and less"));
        for _ in 0..turns {
            drop(self.fleet.spare.start());
            self.wait(dice.random_range(1.0..3.0)).await;
            let leaves = &self.fleet.processors[dice.random_range(0..self.fleet.processors.len())];
            self.end_somehow(leaves, dice);
            self.wait(dice.random_range(0.2..1.5)).await;
            drop(leaves.start());
            self.end_somehow(&self.fleet.spare, dice);
        }
    }

    /// In good order, or not.
    fn end_somehow(&self, process: &Process, dice: &mut StdRng) {
        let clean = block_in_place(|| match dice.random_bool(0.5) {
            true => process.stop(),
            false => {
                process.kill();
                true
            }
        });
        if !clean {
            self.recorder.fault("a processor did not stop by itself", &process.name);
        }
    }

    // === brokers ===

    async fn kill_broker(&self, card: Card, dice: &mut StdRng) {
        let partition = dice.random_range(0..PARTITIONS);
        let transactional_id = || {
            let processor = &self.fleet.processors[partition as usize % self.fleet.processors.len()];
            self.fleet.transactional_id(processor)
        };
        let found = block_in_place(|| match card {
            KillLeader => self.brokers.leader(TOPIC, partition),
            KillGroupCoordinator => self.brokers.coordinator("__consumer_offsets", GROUP),
            KillTransactionCoordinator => self.brokers.coordinator("__transaction_state", &transactional_id()?),
            _ => None,
        });
        let broker = found.unwrap_or_else(|| BROKERS[dice.random_range(0..BROKERS.len())]);
        let seconds = dice.random_range(1.0..12.0);
        self.say(card, &format!("broker {broker} for {seconds:.1} s"));
        block_in_place(|| self.brokers.kill(broker));
        self.wait(seconds).await;
        self.whole().await;
    }

    async fn rolling_restart(&self, _: &mut StdRng) {
        self.say(RollingRestart, "1, 2, 3");
        for broker in BROKERS {
            if !self.stop.is_cancelled() {
                block_in_place(|| self.brokers.stop(broker));
                self.whole().await;
            }
        }
    }

    async fn below_min_isr(&self, dice: &mut StdRng) {
        let spared = BROKERS[dice.random_range(0..BROKERS.len())];
        let seconds = dice.random_range(3.0..12.0);
        self.say(BelowMinIsr, &format!("only broker {spared} for {seconds:.1} s"));
        for broker in BROKERS.into_iter().filter(|broker| *broker != spared) {
            block_in_place(|| self.brokers.kill(broker));
        }
        self.wait(seconds).await;
        self.whole().await;
    }

    async fn whole(&self) {
        if let Err(error) = block_in_place(|| self.brokers.wait_whole(TOPIC)) {
            self.recorder.fault("brokers do not come back", error.to_string());
        }
    }

    // === links ===

    async fn link(&self, card: Card, dice: &mut StdRng) {
        let broker = BROKERS[dice.random_range(0..BROKERS.len())];
        let seconds = dice.random_range(2.0..15.0);
        self.say(card, &format!("broker {broker} for {seconds:.1} s"));
        match card {
            SlowLink => self.brokers.slow(broker, dice.random_range(100..1_500)).await,
            NarrowLink => self.brokers.narrow(broker, dice.random_range(1..20)).await,
            DeafLink => self.brokers.deafen(broker).await,
            MuteLink => self.brokers.mute(broker).await,
            CutEveryLink => {
                for broker in BROKERS {
                    self.brokers.cut(broker).await;
                }
            }
            _ => self.brokers.cut(broker).await,
        }
        self.wait(seconds).await;
        self.brokers.mend_links().await;
    }
}
