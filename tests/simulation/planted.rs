//! Mistakes that are made on purpose, to see that the simulation would notice. Each is made at a seam, in the test: nothing
//! of it is in the product.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use paylog::clock::{Clock, Clocks};
use paylog::gateway::{Charge, Outcome};
use paylog::lane::{Start, Try, Verdict, Worker};
use paylog::payment::event::PaymentFailed;
use paylog::payment::{EventData, Payment, PaymentId, Phase, Timestamp};
use paylog::processor::{Policy, Processor};
use paylog::projection::Row;
use paylog::store::Store;

use crate::core::Core;
use crate::gateway::ModelGateway;
use crate::log::Life;
use crate::world::World;

macro_rules! mistakes {
    ($($name:ident: $text:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Mistake { $($name,)* }

        impl Mistake {
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

mistakes! {
    NoFence: "no fence: a lane is taken without waiting, and a stale member's commit is accepted",
    CatchUpToStableOnly: "catching up to the last stable offset only",
    PostAfterTheWindow: "a POST repeated after the key window",
    WindowFromTakeover: "the key window counted from the takeover",
    OwnClockOnly: "the processor's own clock believed, whatever the log's says",
    QuietLogBelieved: "a clock believed that was compared with old records only",
    NotFoundBelievedAtOnce: "an answer 'not found' believed before it is final",
    FailedByAge: "a payment failed because it is old",
    UnknownTakenForFailed: "an answer that is not known taken for a no",
    RefusalTakenForNo: "a refusal of a repeat taken for a no to the payment",
    WrongAmountBelieved: "a receipt for another amount believed",
    TerminalOverwritten: "a terminal state overwritten by a later end",
    ForgetsEnded: "ended payments forgotten by the projection",
    WorkOfAnOlderEpoch: "work of an older epoch recorded with fresh metadata",
    ForgetsWhatItCommitted: "a lane that lets go of a payment before its outcome is folded",
    NewKeyEveryTry: "a new idempotency key for every try",
    OtherBodyEveryTry: "another body for a later try",
    ReadsUncommitted: "a fold that reads what is not committed",
    SkipsARecord: "a tail that skips a record",
    AcknowledgedTooEarly: "a payment acknowledged before it is durable, and lost",
    SkipsWhatIsToTell: "a scan for what is to be told that passes over an event, which the folds have",
    FailureTakenForDelivered: "whatever a receiver answers taken for a yes",
    NewIdEveryAttempt: "a new webhook-id for every attempt",
    OrderForgotten: "an endpoint that wants order taken for one that does not",
    OutcomeLost: "an outcome acknowledged, and lost",
    DisabledOnlySaid: "an endpoint that is gone disabled in words alone",
    LetGoAtTheAnswer: "a lane that lets go of what was told before the fold has its outcome",
}

impl Mistake {
    /// Is it one of those who tell?
    pub fn is_of_telling(self) -> bool {
        use Mistake::{
            DisabledOnlySaid, FailureTakenForDelivered, LetGoAtTheAnswer, NewIdEveryAttempt, OrderForgotten,
            OutcomeLost, SkipsWhatIsToTell,
        };
        matches!(
            self,
            SkipsWhatIsToTell
                | FailureTakenForDelivered
                | NewIdEveryAttempt
                | OrderForgotten
                | OutcomeLost
                | DisabledOnlySaid
                | LetGoAtTheAnswer
        )
    }
}

/// The processor as it ships; or with something wrong before it.
pub fn worker(world: &Arc<World>, life: Life, clocks: &Clocks, machine: Arc<dyn Clock>) -> Arc<dyn Worker> {
    let gateway = Arc::new(ModelGateway::new(world, life));
    let mistake = world.core().mistake;
    if mistake == Some(Mistake::QuietLogBelieved) {
        clocks.compare();
    }
    let own = if mistake == Some(Mistake::OwnClockOnly) { Clocks::new(machine) } else { clocks.clone() };
    let processor = Processor::new(gateway, own, Policy::default());
    match mistake {
        Some(mistake @ (Mistake::FailedByAge | Mistake::WindowFromTakeover)) => {
            let clocks = clocks.clone();
            Arc::new(Wrong { mistake, clocks, processor, seen: Mutex::default() })
        }
        _ => Arc::new(processor),
    }
}

struct Wrong {
    mistake: Mistake,
    clocks: Clocks,
    processor: Processor,
    /// When this owner first had each payment.
    seen: Mutex<HashMap<PaymentId, Timestamp>>,
}

impl Worker for Wrong {
    fn start(&self, payment: &Payment, this: Try) -> Start {
        const OLD: Duration = Duration::from_secs(10 * 60);
        let now = self.clocks.now();
        if self.mistake == Mistake::FailedByAge && now.since(payment.created_at) > OLD {
            let (code, message) = ("expired".to_owned(), "too old".to_owned());
            let failed = EventData::PaymentFailed(PaymentFailed { code, message, attempt: this.attempt });
            return Start::Running(Box::pin(std::future::ready(Verdict::Record(Box::new(failed)))));
        }
        let mut payment = payment.clone();
        if self.mistake == Mistake::WindowFromTakeover {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let first = *seen.entry(payment.id).or_insert(now);
            (payment.window_from, payment.created_at) = (first, first);
        }
        self.processor.start(&payment, this)
    }
}

impl Core {
    /// What a process makes of the provider's answer.
    pub fn misread(&self, outcome: Outcome, charge: &Charge) -> Outcome {
        match outcome {
            Outcome::Unknown { reason, .. } if self.is_planted(Mistake::UnknownTakenForFailed) => {
                Outcome::Declined { code: "error".to_owned(), message: reason }
            }
            Outcome::Refused { code, message } if self.is_planted(Mistake::RefusalTakenForNo) => {
                Outcome::Declined { code, message }
            }
            Outcome::Succeeded(mut receipt) if self.is_planted(Mistake::WrongAmountBelieved) => {
                receipt.amount = charge.money.amount();
                Outcome::Succeeded(receipt)
            }
            right => right,
        }
    }
}

/// What a wrong projection does to its rows after each batch.
pub fn spoil(world: &World, store: &Store) {
    let mistake = world.core().mistake;
    match mistake {
        Some(Mistake::ForgetsEnded) => change_rows(store, |row| {
            let ended = row.payment.is_terminal();
            if ended { Change::Remove } else { Change::Keep }
        }),
        Some(Mistake::TerminalOverwritten) => overwrite_ends(world, store),
        _ => {}
    }
}

enum Change {
    Keep,
    Remove,
}

fn change_rows(store: &Store, change: impl Fn(&Row) -> Change) {
    let Ok(table) = store.table("payments") else { return };
    let mut batch = store.batch();
    for (key, value) in table.range(&[0], &[0xff; 64]).flatten() {
        if let Ok(row) = postcard::from_bytes::<Row>(&value)
            && let Change::Remove = change(&row)
        {
            batch.remove(&table, &key);
        }
    }
    // A store in memory takes every batch.
    let _ = batch.commit();
}

/// A later end, which has no effect, overwrites the first.
fn overwrite_ends(world: &World, store: &Store) {
    #[derive(serde::Deserialize)]
    struct Other<'a> {
        _version: u64,
        _appended_at: Timestamp,
        #[serde(borrow, with = "serde_bytes")]
        value: &'a [u8],
    }
    let (Ok(payments), Ok(others)) = (store.table("payments"), store.table("others")) else { return };
    let mut batch = store.batch();
    for (_, value) in others.range(&[0], &[0xff; 64]).flatten() {
        let Ok(other) = postcard::from_bytes::<Other<'_>>(&value) else { continue };
        let Ok(event) = world.codec.decode(other.value) else { continue };
        let Ok(Some(row)) = payments.get(event.payment_id.as_bytes()) else { continue };
        let Ok(mut row) = postcard::from_bytes::<Row>(&row) else { continue };
        row.payment.phase = match event.data {
            EventData::PaymentSuccessful(e) => Phase::Successful { gateway: e.gateway, reference: e.gateway_reference },
            EventData::PaymentFailed(e) => Phase::Failed { code: e.code, message: e.message },
            _ => continue,
        };
        row.payment.updated_at = event.occurred_at;
        row.payment.version = row.events.len() as u64 + 1;
        batch.insert(&payments, event.payment_id.as_bytes(), &postcard::to_stdvec(&row).unwrap_or_default());
    }
    let _ = batch.commit();
}
