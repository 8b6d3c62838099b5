//! The intake of our own requests: its transactions carry offsets of the topic that it reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;

use super::committer::{Committer, instance};
use super::error::{code_error, journal_error};
use super::fetcher::{ASK_TIMEOUT, DROP_DEADLINE, Fetcher};
use super::foreign::letter_record;
use super::guards::Letters;
use super::look_up::writable;
use super::pulse::Pulse;
use super::{KafkaConfig, base_record, guards, settings, topics};
use crate::journal::{
    Crossing, Fate, Incoming, JournalError, Partition, Passage, Position, Requests, Target, Transaction,
    TransactionError,
};

pub(super) struct KafkaRequests {
    crossing: Crossing,
    events: String,
    dead_letters: String,
    partitions: u32,
    /// How many replicas must have a record before it is acknowledged, of the log and of the dead letters.
    in_sync_min: Arc<AtomicU64>,
    letters_in_sync_min: u64,
    fetcher: Fetcher,
    committer: Committer,
    /// The producer is new already, and it is not known yet what of its predecessor's was moved on.
    recycled: bool,
    pulse: Arc<Pulse>,
    deadline: Duration,
}

impl KafkaRequests {
    /// Connects, looks at the topics on both sides, and joins. Blocks.
    pub(super) fn join(
        config: &KafkaConfig,
        pulse: &Arc<Pulse>,
        in_sync_min: &Arc<AtomicU64>,
    ) -> Result<Self, JournalError> {
        let [events, requests, _, dead_letters, _] = topics::topics_of(config);
        let Letters { bytes_max, in_sync_min: letters_in_sync_min } = guards::check_crossing(config)?;
        let crossing = Crossing {
            requests: requests.name,
            dead_letter_partitions: dead_letters.partitions,
            dead_letter_bytes_max: bytes_max,
        };
        let group = format!("{}-intake", config.group);
        // The committer first: with it ends what this instance's predecessor left open.
        let producer = settings::intake_committer(config, bytes_max);
        let committer = Committer::of(instance(&group, config), producer, &crossing.requests, &events.name, None)?;
        pulse.beat();
        let fetcher = Fetcher::join(config, &settings::requests(config, &group), "intake", &crossing.requests)?;
        Ok(Self {
            crossing,
            events: events.name,
            dead_letters: dead_letters.name,
            partitions: events.partitions,
            in_sync_min: Arc::clone(in_sync_min),
            letters_in_sync_min,
            fetcher,
            committer,
            recycled: false,
            pulse: Arc::clone(pulse),
            deadline: DROP_DEADLINE,
        })
    }

    /// One question for all partitions of a topic.
    fn unwritable_of(
        &self,
        topic: &str,
        partitions: u32,
        in_sync_min: u64,
    ) -> Result<Vec<(Partition, String)>, JournalError> {
        let metadata = self
            .fetcher
            .member()?
            .fetch_metadata(Some(topic), ASK_TIMEOUT)
            .map_err(|error| journal_error(&format!("ask about the topic {topic}"), &error))?;
        // Of one that we may not write to, that is: nothing would ever go there.
        if let Some(error) = metadata.topics().iter().find_map(|found| found.error()) {
            let code = error.into();
            return Err(code_error(code, format!("could not ask about the topic {topic}: {code}")));
        }
        let judged = (0..partitions).map(Partition).map(|p| (p, writable(&metadata, topic, p, in_sync_min)));
        Ok(judged.filter_map(|(partition, verdict)| verdict.err().map(|why| (partition, why))).collect())
    }

    fn move_on(&mut self, passage: &Passage) -> Result<(), TransactionError> {
        let Self { fetcher, committer, events, dead_letters, .. } = self;
        let member = fetcher.member().map_err(|error| TransactionError {
            fate: Fate::Stop,
            culprit: None,
            reason: error.to_string(),
        })?;
        let mut transaction = Box::new(committer.begin(member, &fetcher.held)?);
        let mut appended = Ok(());
        for event in &passage.events {
            appended = appended.and_then(|()| transaction.append_to(|waiting| base_record(events, event, waiting)));
        }
        for letter in &passage.dead_letters {
            appended = appended.and_then(|()| transaction.append_to(|to| letter_record(dead_letters, letter, to)));
        }
        match appended {
            Ok(()) => transaction.commit(&passage.next).map(|_| ()),
            Err(error) => {
                transaction.abort()?;
                Err(error)
            }
        }
    }
}

impl Requests for KafkaRequests {
    fn crossing(&self) -> &Crossing {
        &self.crossing
    }

    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<Incoming>, JournalError> {
        self.pulse.beat();
        self.committer.serve();
        self.fetcher.poll(max, timeout)
    }

    fn assign(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        self.fetcher.assign(partitions)
    }

    fn unassign(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        self.fetcher.unassign(partitions)
    }

    fn pause(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        self.fetcher.pause(partitions)
    }

    fn resume(&mut self, partitions: &[Partition]) -> Result<(), JournalError> {
        self.fetcher.resume(partitions)
    }

    fn unwritable(&mut self) -> Result<BTreeMap<Target, String>, JournalError> {
        let mut unwritable = BTreeMap::new();
        let in_sync_min = self.in_sync_min.load(Ordering::Relaxed);
        for (partition, why) in self.unwritable_of(&self.events, self.partitions, in_sync_min)? {
            unwritable.insert(Target::Log(partition), why);
        }
        let partitions = self.crossing.dead_letter_partitions;
        for (partition, why) in self.unwritable_of(&self.dead_letters, partitions, self.letters_in_sync_min)? {
            unwritable.insert(Target::DeadLetters(partition), why);
        }
        Ok(unwritable)
    }

    fn commit(&mut self, passage: &Passage) -> Result<(), TransactionError> {
        self.move_on(passage)
    }

    fn recycle(&mut self) -> Result<Vec<Position>, JournalError> {
        if !self.recycled {
            self.committer.recycle()?;
        }
        let held: Vec<Partition> = self.fetcher.held.iter().copied().collect();
        self.recycled = true;
        let stands = self.fetcher.stands(&held)?;
        self.recycled = false;
        Ok(stands)
    }

    fn leave(mut self: Box<Self>, deadline: Duration) {
        self.deadline = deadline;
    }
}

impl Drop for KafkaRequests {
    fn drop(&mut self) {
        self.pulse.end();
        let began = Instant::now();
        self.fetcher.close(self.deadline);
        self.committer.close(self.deadline.saturating_sub(began.elapsed()));
    }
}
