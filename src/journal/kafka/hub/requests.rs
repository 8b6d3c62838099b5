//! Requests from a hub: read as from our own topic, and moved on without a transaction, for none reaches over two clusters.
//!
//! Promises that the group there stands past a request only when its event is on the log, or its dead letter written. A
//! process that ends between the two reads it again: its id makes the same payment of it, and the fold knows that one. Nothing
//! that goes wrong over there ends this process: it is said, and tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer};

use super::outbox::Outbox;
use super::{Hub, RECOMMENDED_TO_READERS};
use crate::journal::kafka::fetcher::{DROP_DEADLINE, Fetcher};
use crate::journal::kafka::foreign::letter_record;
use crate::journal::kafka::pulse::Pulse;
use crate::journal::kafka::topics::{self, DEAD_LETTER_BYTES_MAX};
use crate::journal::kafka::{KafkaConfig, guards, kafka_offset, list_of, settings, wait};
use crate::journal::{
    Assignment, Crossing, DeadLetter, Fate, Incoming, Journal, JournalError, Offset, Partition, Passage, Position,
    Requests, Target, TransactionError,
};
use crate::telemetry::Seldom;

/// How often positions are committed: Event Hubs takes a few commits a second and no more.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// And once more, for nobody hears what became of the last.
const COMMIT_AGAIN: Duration = Duration::from_secs(60);
/// Before the group is joined again after it, or what we asked of it, has failed.
const JOIN_PAUSE: Duration = Duration::from_secs(5);

const DENIED: &str = "a hub does not let us in, and no requests are taken from it: is its connection string right, of this \
                      namespace, and with the right to listen? It is tried again";

pub(super) struct HubRequests {
    config: KafkaConfig,
    group: String,
    topic: String,
    crossing: Crossing,
    log: Arc<dyn Journal>,
    letters: Letters,
    /// `None` until the group is joined again.
    fetcher: Option<Fetcher>,
    /// What the driver still holds of a membership that has ended.
    lost: BTreeSet<Partition>,
    join_not_before: Instant,
    positions: Positions,
    told: Seldom,
    pulse: Arc<Pulse>,
    deadline: Duration,
}

/// Where the group is to stand.
struct Positions {
    next: BTreeMap<Partition, Offset>,
    commit_at: Option<Instant>,
}

/// Where what is refused goes.
enum Letters {
    Topic(Outbox, String),
    /// Without a Kafka of ours: why, and where it stands, is said in the log; the record stays on the hub for as long as it does.
    Said,
}

impl HubRequests {
    pub(super) fn join(
        hub: &Hub,
        group: &str,
        log: Arc<dyn Journal>,
        ours: Option<&KafkaConfig>,
    ) -> Result<Self, JournalError> {
        let config = hub.config(group, RECOMMENDED_TO_READERS);
        settings::validate(&config)?;
        hub.pulse.beat();
        let (letters, dead_letter_partitions, dead_letter_bytes_max) = match ours {
            None => (Letters::Said, 1, usize::try_from(DEAD_LETTER_BYTES_MAX).unwrap_or(usize::MAX)),
            Some(ours) => {
                let bytes_max = guards::check_crossing(ours)?.bytes_max;
                let [_, _, _, dead_letters, _] = topics::topics_of(ours);
                let mut producer = settings::appender(ours);
                producer.set("message.max.bytes", bytes_max.to_string());
                let outbox = Outbox::open("dead-letters", producer)?;
                (Letters::Topic(outbox, dead_letters.name), dead_letters.partitions, bytes_max)
            }
        };
        let crossing = Crossing { requests: hub.name(), dead_letter_partitions, dead_letter_bytes_max };
        tracing::info!(%hub, group, "requests are taken from a hub");
        Ok(Self {
            config,
            group: group.to_owned(),
            topic: hub.topic.clone(),
            crossing,
            log,
            letters,
            fetcher: None,
            lost: BTreeSet::new(),
            join_not_before: Instant::now(),
            positions: Positions { next: BTreeMap::new(), commit_at: None },
            told: Seldom::new(),
            pulse: Arc::clone(&hub.pulse),
            deadline: DROP_DEADLINE,
        })
    }

    /// Joins, if it is time. `None`: not yet.
    fn fetcher(&mut self) -> Option<&mut Fetcher> {
        if self.fetcher.is_none() && Instant::now() >= self.join_not_before {
            let settings = settings::requests(&self.config, &self.group);
            match Fetcher::join(&self.config, &settings, "hub", &self.topic) {
                Ok(fetcher) => self.fetcher = Some(fetcher),
                Err(error) => self.failed(&error),
            }
        }
        self.fetcher.as_mut()
    }

    /// The membership is of no use any more. What the driver has of it is taken away at the next poll.
    fn failed(&mut self, error: &JournalError) {
        if self.told.now() {
            tracing::error!(hub = self.crossing.requests, %error, "requests cannot be taken from a hub: trying again");
        }
        self.join_not_before = Instant::now() + JOIN_PAUSE;
        self.positions.forget();
        if let Some(mut fetcher) = self.fetcher.take() {
            self.lost.extend(std::mem::take(&mut fetcher.held));
            std::thread::spawn(move || fetcher.close(DROP_DEADLINE));
        }
    }

    /// What the hub's group is asked; if that fails, it is joined again.
    fn ask(&mut self, question: impl FnOnce(&mut Fetcher) -> Result<(), JournalError>) {
        if let Some(Err(error)) = self.fetcher.as_mut().map(question) {
            self.failed(&error);
        }
    }

    fn commit_positions(&mut self) {
        if self.positions.next.is_empty() {
            self.positions.commit_at = None;
            return;
        }
        let Some(member) = self.fetcher.as_ref().and_then(|fetcher| fetcher.member().ok()) else { return };
        let next = self.positions.next.iter().map(|(partition, next)| (*partition, kafka_offset(*next)));
        // What comes to nothing comes again: whoever reads it again finds it known.
        if let Err(error) = member.commit(&list_of(&self.topic, next), CommitMode::Async) {
            tracing::debug!(hub = self.crossing.requests, %error, "positions on a hub are not committed yet");
        }
        self.positions.commit_at = Some(Instant::now() + COMMIT_AGAIN);
    }

    /// Everything at once, and then each is waited for: on `Err` some may have been appended, which their ids make harmless.
    fn move_on(&mut self, passage: &Passage) -> Result<(), TransactionError> {
        let appending: Vec<_> =
            passage.events.iter().map(|event| (event.partition, self.log.append(event.clone()))).collect();
        let written = self.letters.write(&passage.dead_letters);
        let mut moved = written;
        for (partition, appending) in appending {
            if let Err(error) = wait(appending) {
                moved = moved.and(Err(not_moved(Some(partition), error.to_string())));
            }
        }
        moved
    }
}

impl Requests for HubRequests {
    fn crossing(&self) -> &Crossing {
        &self.crossing
    }

    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<Incoming>, JournalError> {
        self.pulse.beat();
        if !self.lost.is_empty() {
            let partitions = std::mem::take(&mut self.lost).into_iter().collect();
            return Ok(vec![Incoming::Group(Assignment::Revoked { partitions, lost: true })]);
        }
        if self.positions.commit_at.is_some_and(|at| at <= Instant::now()) {
            self.commit_positions();
        }
        let Some(fetcher) = self.fetcher() else {
            std::thread::sleep(timeout);
            return Ok(Vec::new());
        };
        let (polled, denied) = (fetcher.poll(max, timeout), fetcher.was_denied());
        if denied && self.told.now() {
            tracing::error!(hub = self.crossing.requests, "{DENIED}");
        }
        match polled {
            Ok(incoming) => Ok(incoming),
            Err(error) => {
                self.failed(&error);
                Ok(Vec::new())
            }
        }
    }

    fn assign(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        let Some(fetcher) = self.fetcher.as_mut() else {
            // What was offered is lost with the membership: the next one offers it anew.
            self.lost.extend(partitions);
            return Err(JournalError::Unavailable("the hub's group has to be joined again".into()));
        };
        match fetcher.assign(partitions) {
            Ok(()) => Ok(()),
            Err(error @ JournalError::Unavailable(_)) => Err(error),
            Err(error) => {
                self.failed(&error);
                self.lost.extend(partitions);
                Err(JournalError::Unavailable(error.to_string()))
            }
        }
    }

    fn unassign(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        self.commit_positions();
        self.positions.next.retain(|partition, _| !partitions.contains(partition));
        self.ask(|fetcher| fetcher.unassign(partitions));
        Ok(())
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        self.ask(|fetcher| fetcher.pause(partitions));
        Ok(())
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        self.ask(|fetcher| fetcher.resume(partitions));
        Ok(())
    }

    /// Of the log alone: a dead letter that is not taken is told when it is written.
    fn unwritable(&mut self) -> Result<BTreeMap<Target, String>, JournalError> {
        let unwritable = self.log.unwritable()?;
        Ok(unwritable.into_iter().map(|(partition, why)| (Target::Log(partition), why)).collect())
    }

    fn commit(&mut self, passage: &Passage) -> Result<(), TransactionError> {
        self.move_on(passage)?;
        let Some(fetcher) = &self.fetcher else { return Ok(()) };
        let ours = passage.next.iter().filter(|next| fetcher.held.contains(&next.partition));
        self.positions.next.extend(ours.map(|next| (next.partition, next.offset)));
        self.positions.commit_soon();
        Ok(())
    }

    /// Nothing is ever in doubt here.
    fn recycle(&mut self) -> Result<Vec<Position>, JournalError> {
        Ok(self.positions.next.iter().map(|(partition, next)| Position::new(*partition, *next)).collect())
    }

    fn leave(mut self: Box<Self>, deadline: Duration) {
        self.deadline = deadline;
    }
}

impl Drop for HubRequests {
    fn drop(&mut self) {
        self.pulse.end();
        self.commit_positions();
        if let Some(mut fetcher) = self.fetcher.take() {
            fetcher.close(self.deadline);
        }
    }
}

impl Positions {
    fn commit_soon(&mut self) {
        let soon = Instant::now() + COMMIT_EVERY;
        self.commit_at = Some(self.commit_at.map_or(soon, |at| at.min(soon)));
    }

    fn forget(&mut self) {
        self.next.clear();
        self.commit_at = None;
    }
}

impl Letters {
    fn write(&self, letters: &[DeadLetter]) -> Result<(), TransactionError> {
        let (outbox, topic) = match self {
            Self::Topic(outbox, topic) => (outbox, topic),
            Self::Said => {
                letters.iter().for_each(say);
                return Ok(());
            }
        };
        let sent: Vec<_> = letters
            .iter()
            .map(|letter| (letter.partition, outbox.send(|to| letter_record(topic, letter, to))))
            .collect();
        let mut written = Ok(());
        for (partition, sent) in sent {
            let why = match sent.map(wait) {
                Ok(Ok(Ok(_))) => continue,
                Ok(Ok(Err(undelivered))) => undelivered.into_append_error().to_string(),
                Ok(Err(_)) => "the producer was closed".to_owned(),
                Err(error) => error.to_string(),
            };
            written = Err(not_moved(Some(partition), format!("a dead letter was not written: {why}")));
        }
        written
    }
}

/// Nothing of what it asked for: only what we have said of it ourselves.
fn say(letter: &DeadLetter) {
    let said = |name: &str| {
        let header = letter.headers.iter().rev().find(|(other, _)| other == name);
        let text = header.and_then(|(_, value)| value.as_deref()).unwrap_or_default();
        String::from_utf8_lossy(text).into_owned()
    };
    let (from, reason, detail) = (said("paylog-source"), said("paylog-reason"), said("paylog-detail"));
    tracing::warn!(from, reason, detail, "a request from a hub was refused, and is kept nowhere but there");
}

fn not_moved(culprit: Option<Partition>, reason: String) -> TransactionError {
    TransactionError { fate: Fate::Retry, culprit, reason }
}
