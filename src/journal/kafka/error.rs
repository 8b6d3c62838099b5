//! The one place that looks at Kafka error codes: what each means for an append, a transaction, a reader, a start.

use std::cell::Cell;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::native::Persisted;
use super::settings::TRANSACTION_TIMEOUT;
use crate::journal::{AppendError, Fate, JournalError, Partition, TransactionError};

/// A producer that is fenced this soon after the one before it has a twin. One fence alone may be the broker's timeout: it says
/// the same then, and if the machine slept meanwhile, no clock of ours shows how long the transaction was open.
const TWIN_WITHIN: Duration = Duration::from_secs(60);

/// A record that was handed to a producer and not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Undelivered {
    code: Code,
    partition: Option<Partition>,
    persisted: Persisted,
}

/// What failed, apart from how rdkafka wraps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Failure {
    code: Code,
    /// librdkafka says that the transaction can still be aborted.
    abortable: bool,
    /// An outstanding request may still take effect.
    in_doubt: bool,
}

/// What the producers of one committer have met of fences.
#[derive(Debug, Default)]
pub(super) struct Fences {
    /// By the producer that is in use.
    met: Cell<bool>,
    /// When an earlier one that had met one was replaced.
    before: Option<Instant>,
}

/// What a reader does about an error that its client reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadVerdict {
    /// The reader stands at the end of this partition.
    End(Partition),
    /// librdkafka goes on by itself.
    GoOn,
    /// The log no longer holds, or cannot give, what comes next: reading on would skip something.
    Lost,
}

impl Fences {
    /// The producer is replaced.
    pub(super) fn recycled(&mut self, now: Instant) {
        if self.met.take() {
            self.before = Some(now);
        }
    }

    /// Is it a twin that has fenced this producer? Not if its transaction was open for as long as the broker lets it.
    fn tells_twin(&self, code: Code, age: Duration) -> bool {
        if !is_fenced(code) || age >= TRANSACTION_TIMEOUT {
            return false;
        }
        self.met.set(true);
        self.before.is_some_and(|before| before.elapsed() < TWIN_WITHIN)
    }
}

impl Undelivered {
    pub(super) fn new(error: &KafkaError, partition: Option<Partition>, persisted: Persisted) -> Self {
        Self { code: code_of(error), partition, persisted }
    }

    pub(super) fn without_offset(partition: Option<Partition>) -> Self {
        Self { code: Code::NoOffset, partition, persisted: Persisted::Yes }
    }

    /// It is there, and only its place is not known.
    pub(super) fn is_persisted(self) -> bool {
        self.persisted == Persisted::Yes
    }

    /// Taken out of the queue, because its transaction had failed: it is nobody's culprit.
    pub(super) fn is_purged(self) -> bool {
        matches!(self.code, Code::PurgeQueue | Code::PurgeInflight)
    }

    /// What the API may tell the client who asked for this record.
    ///
    /// librdkafka counts every refusal by a broker as "not persisted", and tells no more of those that it has tried again after.
    /// But a leader that ceases to be one says `NOT_LEADER_OR_FOLLOWER` of a record that it had written, and that its successor may
    /// have: whatever ends such a record later, its time or a closed producer, says nothing of it. What no broker takes, none took.
    pub(super) fn into_append_error(self) -> AppendError {
        let reason = self.code.to_string();
        if self.persisted == Persisted::No && is_never_taken(self.code) {
            AppendError::NotAppended(reason)
        } else {
            AppendError::Unknown(reason)
        }
    }

    pub(super) fn into_unsent(self) -> Unsent {
        match self.code {
            code if is_too_large(code) => Unsent::TooLarge,
            code if is_never_taken(code) => Unsent::Refused,
            code if is_denial(code) => Unsent::NotAllowed,
            code if is_timeout_or_transport(code) => Unsent::Unanswered,
            _ => Unsent::NotNow,
        }
    }

    /// What to do with the transaction that this record was part of.
    pub(super) fn into_transaction_error(self, age: Duration, fences: &Fences) -> TransactionError {
        let failure = Failure {
            code: self.code,
            abortable: true,
            in_doubt: self.persisted != Persisted::No || is_timeout_or_transport(self.code),
        };
        let fate = fate_of(failure, fences.tells_twin(self.code, age));
        let reason = format!("a record was not delivered: {}{}", self.code, twin(fate, self.code));
        TransactionError { fate, culprit: self.partition, reason }
    }
}

fn is_too_large(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::InvalidMessageSize)
}

/// It is the record, and it is the same however often it is sent.
fn is_never_taken(code: Code) -> bool {
    let is_wrong = matches!(
        code,
        Code::InvalidMessage | Code::InvalidRecord | Code::PolicyViolation | Code::UnsupportedForMessageFormat
    );
    is_wrong || is_too_large(code)
}

/// Why a record for a cluster that is not ours was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// Nobody has answered in time; it may have been taken all the same.
    Unanswered,
    /// We are not let in, or may not write there: somebody may set it right.
    NotAllowed,
    /// It will never be taken: it is too large.
    TooLarge,
    /// It will never be taken.
    Refused,
    /// Not now: there is no such topic, or no leader, or the queue is full.
    NotNow,
}

/// A record that never got as far as the queue.
pub(super) fn undelivered(error: &KafkaError) -> Undelivered {
    Undelivered::new(error, None, Persisted::No)
}

/// An append that never got as far as the queue.
pub(super) fn refused_append(error: &KafkaError) -> AppendError {
    AppendError::NotAppended(code_of(error).to_string())
}

/// What to do after a transactional call failed. `age` is how long the transaction was open.
pub(super) fn transaction_error(doing: &str, error: &KafkaError, age: Duration, fences: &Fences) -> TransactionError {
    let code = code_of(error);
    let abortable = matches!(error, KafkaError::Transaction(e) if e.txn_requires_abort() && !e.is_fatal())
        || matches!(error, KafkaError::MessageProduction(_));
    let in_doubt = matches!(error, KafkaError::Flush(_)) || is_timeout_or_transport(code);
    let fate = fate_of(Failure { code, abortable, in_doubt }, fences.tells_twin(code, age));
    let reason = format!("could not {doing}: {}{}", describe(error), twin(fate, code));
    TransactionError { fate, culprit: None, reason }
}

/// The table. An error that librdkafka gives no flag is treated as fatal (its own rule), which for us is a new producer.
fn fate_of(failure: Failure, twin: bool) -> Fate {
    match failure.code {
        _ if twin => Fate::Stop,
        Code::TransactionalIdAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication
        | Code::InvalidTransactionTimeout
        | Code::UnsupportedVersion
        | Code::UnsupportedFeature => Fate::Stop,
        code if is_fenced(code) => Fate::Recycle,
        // The broker has forgotten this producer, which idled for a week: so it would the next transaction.
        Code::InvalidProducerIdMapping | Code::UnknownProducerId => Fate::Recycle,
        _ if failure.abortable && !failure.in_doubt => Fate::Retry,
        _ => Fate::Recycle,
    }
}

/// What to do about a twin.
fn twin(fate: Fate, code: Code) -> &'static str {
    match fate {
        Fate::Stop if is_fenced(code) => {
            "; another process has the same instance id, from a copy of this data directory: give each its own"
        }
        _ if is_fenced(code) => {
            "; either the machine slept for longer than a transaction may be open, or another process has the same instance id"
        }
        _ => "",
    }
}

fn is_fenced(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

pub(super) fn read_verdict(error: &KafkaError) -> ReadVerdict {
    match error {
        KafkaError::PartitionEOF(partition) => match u32::try_from(*partition) {
            Ok(partition) => ReadVerdict::End(Partition(partition)),
            Err(_) => ReadVerdict::Lost,
        },
        KafkaError::MessageConsumption(code) | KafkaError::Global(code) if is_passing(*code) => ReadVerdict::GoOn,
        // Everything that is not known to pass: out of range, truncated, a broken batch (which librdkafka would skip).
        _ => ReadVerdict::Lost,
    }
}

/// Errors after which librdkafka reads on from where it was, without losing a record.
fn is_passing(code: Code) -> bool {
    is_timeout_or_transport(code)
        || matches!(
            code,
            Code::Authentication
                | Code::BrokerDestroy
                | Code::BrokerNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::DestroyBroker
                | Code::FencedLeaderEpoch
                | Code::FetchSessionIdNotFound
                | Code::GroupAuthorizationFailed
                | Code::InvalidFetchSessionEpoch
                | Code::KafkaStorageError
                | Code::LeaderNotAvailable
                | Code::ListenerNotFound
                | Code::NotCoordinator
                | Code::NotLeaderForPartition
                | Code::OffsetNotAvailable
                | Code::ReplicaNotAvailable
                | Code::SaslAuthenticationFailed
                | Code::ThrottlingQuotaExceeded
                | Code::TopicAuthorizationFailed
                | Code::Unknown
                | Code::UnknownLeaderEpoch
                | Code::UnknownPartition
                | Code::UnknownTopic
                | Code::UnknownTopicId
                | Code::UnknownTopicOrPartition
                | Code::WaitingForCoordinator
        )
}

/// The same question may have an answer in a moment.
pub(super) fn is_passing_error(error: &KafkaError) -> bool {
    is_passing(code_of(error))
}

/// A reader or a look-up asked for an offset that the log does not have.
pub(super) fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(code_of(error), Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation)
}

pub(super) fn is_end_of_partition(error: &KafkaError) -> bool {
    matches!(error, KafkaError::PartitionEOF(_)) || code_of(error) == Code::PartitionEOF
}

/// A connection failed or a request timed out: what was in flight may yet take effect.
pub(super) fn is_transport(error: &KafkaError) -> bool {
    is_timeout_or_transport(code_of(error))
}

fn is_timeout_or_transport(code: Code) -> bool {
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerTransportFailure
            | Code::MessageTimedOut
            | Code::NetworkException
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::Resolve
            | Code::SSL
            | Code::TimedOutQueue
    )
}

/// The cluster does not let us in, or not do what we asked for.
pub(super) fn is_denied(error: &KafkaError) -> bool {
    is_denial(code_of(error))
}

fn is_denial(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
    )
}

pub(super) fn is_fatal(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_)) || code_of(error) == Code::Fatal
}

pub(super) fn is_queue_full(error: &KafkaError) -> bool {
    code_of(error) == Code::QueueFull
}

/// An earlier owner's offsets are part of a transaction that is still open.
pub(super) fn is_unstable(error: &KafkaError) -> bool {
    code_of(error) == Code::UnstableOffsetCommit
}

/// The same call may be made again: what it started goes on.
pub(super) fn is_retriable(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(e) if e.is_retriable() && !e.is_fatal() && !e.txn_requires_abort())
}

/// A plain commit that the group refused because the member or its generation is not current: not an error, for the
/// next owner commits its own.
pub(super) fn is_stale_member(error: &KafkaError) -> bool {
    matches!(
        code_of(error),
        Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::RebalanceInProgress
            | Code::FencedInstanceId
            | Code::AssignmentLost
            | Code::NoOffset
    )
}

pub(super) fn is_missing_topic(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownTopicId)
}

pub(super) fn topic_exists_already(code: Code) -> bool {
    code == Code::TopicAlreadyExists
}

/// An error of a blocking call, for a caller that cannot mend it.
pub(super) fn journal_error(doing: &str, error: &KafkaError) -> JournalError {
    let text = format!("could not {doing}: {}", describe(error));
    match error {
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) => JournalError::Refused(text),
        _ => code_error(code_of(error), text),
    }
}

/// As [`journal_error`], for a bare code.
pub(super) fn code_error(code: Code, text: String) -> JournalError {
    match fate_of(Failure { code, abortable: false, in_doubt: false }, false) {
        Fate::Stop => JournalError::Refused(text),
        Fate::Retry | Fate::Recycle => JournalError::Unavailable(text),
    }
}

fn code_of(error: &KafkaError) -> Code {
    match error {
        KafkaError::AdminOp(code) => *code,
        _ => error.rdkafka_error_code().unwrap_or(Code::Unknown),
    }
}

/// rdkafka's text, but of a setting only the name: its value may be a password.
fn describe(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, _, key, _) => format!("librdkafka refuses the value of the setting {key}"),
        KafkaError::Transaction(e) => format!("{} ({})", e.string(), e.name()),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
