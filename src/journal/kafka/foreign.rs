//! Records by foreign hands, and what becomes of those that are refused: copied exactly as they came.

use rdkafka::message::{BorrowedMessage, Message, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::util::IntoOpaque;

use super::{kafka_partition, native};
use crate::journal::{DeadLetter, Header, JournalError, Offset, Partition, Position, SourceRecord};

/// A copy of a record exactly as it came: librdkafka's memory is free at once.
pub(super) fn source_record_of(message: &BorrowedMessage<'_>) -> Result<SourceRecord, JournalError> {
    let at = (u32::try_from(message.partition()), u64::try_from(message.offset()));
    let (Ok(partition), Ok(offset)) = at else {
        return Err(JournalError::Broken(format!("a record at {}:{}", message.partition(), message.offset())));
    };
    Ok(SourceRecord {
        position: Position::new(Partition(partition), Offset(offset)),
        // Kafka keeps milliseconds.
        timestamp_us: message.timestamp().to_millis().unwrap_or(0).saturating_mul(1000),
        key: message.key().map(<[u8]>::to_vec),
        headers: native::headers_of(message),
        value: message.payload().map(<[u8]>::to_vec),
    })
}

pub(super) fn letter_record<'r, D: IntoOpaque>(
    topic: &'r str,
    letter: &'r DeadLetter,
    to: D,
) -> BaseRecord<'r, [u8], [u8], D> {
    let mut record = BaseRecord::with_opaque_to(topic, to);
    record.partition = Some(kafka_partition(letter.partition));
    record.key = letter.key.as_deref();
    record.payload = letter.value.as_deref();
    record.headers = Some(headers(&letter.headers));
    record
}

/// As it came, with its time; Kafka keeps the milliseconds of it.
pub(super) fn restored_record<'r, D: IntoOpaque>(
    topic: &'r str,
    original: &'r SourceRecord,
    to: D,
) -> BaseRecord<'r, [u8], [u8], D> {
    let mut record = BaseRecord::with_opaque_to(topic, to);
    record.partition = Some(kafka_partition(original.position.partition));
    record.key = original.key.as_deref();
    record.payload = original.value.as_deref();
    record.headers = Some(headers(original.headers()));
    record.timestamp = Some(original.timestamp_us.div_euclid(1000));
    record
}

fn headers(headers: &[Header]) -> OwnedHeaders {
    let mut owned = OwnedHeaders::new_with_capacity(headers.len());
    for (key, value) in headers {
        owned = owned.insert(rdkafka::message::Header { key, value: value.as_deref() });
    }
    owned
}
