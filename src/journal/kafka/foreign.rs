//! Records by foreign hands, and what becomes of those that are refused: copied exactly as they came.

use rdkafka::message::{BorrowedMessage, Message, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use rdkafka::util::IntoOpaque;

use super::tail::{position_of, timestamp_us_of};
use super::{kafka_partition, native};
use crate::journal::{DeadLetter, Header, JournalError, Partition, SourceRecord};

/// A copy of a record exactly as it came: librdkafka's memory is free at once.
pub(super) fn source_record_of(message: &BorrowedMessage<'_>) -> Result<SourceRecord, JournalError> {
    Ok(SourceRecord {
        position: position_of(message)?,
        timestamp_us: timestamp_us_of(message),
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
    copy(topic, letter.partition, (letter.key.as_deref(), letter.value.as_deref()), &letter.headers, to)
}

/// As it came, with its time; Kafka keeps the milliseconds of it.
pub(super) fn restored_record<'r, D: IntoOpaque>(
    topic: &'r str,
    original: &'r SourceRecord,
    to: D,
) -> BaseRecord<'r, [u8], [u8], D> {
    let (key, value) = (original.key.as_deref(), original.value.as_deref());
    let mut record = copy(topic, original.position.partition, (key, value), original.headers(), to);
    record.timestamp = Some(original.timestamp_us.div_euclid(1000));
    record
}

fn copy<'r, D: IntoOpaque>(
    topic: &'r str,
    partition: Partition,
    (key, value): (Option<&'r [u8]>, Option<&'r [u8]>),
    header_list: &[Header],
    to: D,
) -> BaseRecord<'r, [u8], [u8], D> {
    let mut record = BaseRecord::with_opaque_to(topic, to);
    record.partition = Some(kafka_partition(partition));
    (record.key, record.payload) = (key, value);
    record.headers = Some(headers(header_list));
    record
}

fn headers(headers: &[Header]) -> OwnedHeaders {
    let mut owned = OwnedHeaders::new_with_capacity(headers.len());
    for (key, value) in headers {
        owned = owned.insert(rdkafka::message::Header { key, value: value.as_deref() });
    }
    owned
}
