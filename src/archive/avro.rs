//! An archive as an Avro object container file (`schemas/ArchiveEntry.avsc`), for every tool that reads those. The header is
//! JSON in the file's metadata, under [`HEADER_KEY`].

use std::io::{Read, Write};
use std::sync::OnceLock;

use apache_avro::types::Value;
use apache_avro::{Codec, DeflateSettings, Reader, Schema};

use super::chain::Digest;
use super::{ArchiveError, Entry, Trailer};
use crate::journal::{Header, Offset, Partition, Position, SourceRecord};
use crate::schema::ALLOCATION_MAX;

const SCHEMA: &str = include_str!("../../schemas/ArchiveEntry.avsc");
const HEADER_KEY: &str = "paylog.archive";
/// The first bytes of every Avro object container file.
pub(super) const MAGIC: &[u8] = b"Obj\x01";
/// Bytes of records that are compressed together; with the largest record in it a block stays within [`ALLOCATION_MAX`].
const BLOCK_BYTES: usize = 256 * 1024;

const RECORD: u32 = 0;
const TRAILER: u32 = 1;

pub(super) struct EntryWriter<W: Write>(apache_avro::Writer<'static, W>);

pub(super) struct EntryReader<R: Read>(Reader<'static, R>);

impl<W: Write> EntryWriter<W> {
    pub(super) fn begin(to: W, header: &str, compressed: bool) -> Result<Self, ArchiveError> {
        let codec = if compressed { Codec::Deflate(DeflateSettings::default()) } else { Codec::Null };
        let builder = apache_avro::Writer::builder().schema(schema()?).writer(to).codec(codec).block_size(BLOCK_BYTES);
        let mut writer = builder.build().map_err(failed)?;
        writer.add_user_metadata(HEADER_KEY.to_owned(), header).map_err(failed)?;
        Ok(Self(writer))
    }

    pub(super) fn add(&mut self, record: &SourceRecord, digest: Digest) -> Result<(), ArchiveError> {
        let header = |(name, bytes): &Header| {
            fields([("name", Value::String(name.clone())), ("value", optional(bytes.clone().map(Value::Bytes)))])
        };
        let headers = record.headers.as_ref().map(|headers| Value::Array(headers.iter().map(header).collect()));
        // Kafka's own number of a partition is an `i32`, and that of a record an `i64`.
        let Position { partition, offset } = record.position;
        let of_record = fields([
            ("partition", Value::Int(i32::try_from(partition.0).unwrap_or(i32::MAX))),
            ("offset", Value::Long(i64::try_from(offset.0).unwrap_or(i64::MAX))),
            ("timestamp", Value::TimestampMicros(record.timestamp_us)),
            ("key", optional(record.key.clone().map(Value::Bytes))),
            ("headers", optional(headers)),
            ("value", optional(record.value.clone().map(Value::Bytes))),
            ("digest", Value::Fixed(32, digest.0.to_vec())),
        ]);
        self.append(RECORD, of_record)
    }

    pub(super) fn finish(mut self, trailer: &Trailer) -> Result<W, ArchiveError> {
        let records = i64::try_from(trailer.records).unwrap_or(i64::MAX);
        let digest = Value::Fixed(32, trailer.digest.0.to_vec());
        self.append(TRAILER, fields([("records", Value::Long(records)), ("digest", digest)]))?;
        self.0.into_inner().map_err(failed)
    }

    fn append(&mut self, branch: u32, value: Value) -> Result<(), ArchiveError> {
        let entry = fields([("entry", Value::Union(branch, Box::new(value)))]);
        self.0.append_value(entry).map(drop).map_err(failed)
    }
}

impl<R: Read> EntryReader<R> {
    /// Answers with the header's text too.
    pub(super) fn begin(from: R) -> Result<(Self, Vec<u8>), ArchiveError> {
        apache_avro::util::max_allocation_bytes(ALLOCATION_MAX);
        let refuse = |why: String| ArchiveError::NotAnArchive(format!("this is no archive of paylog's: {why}"));
        let reader = Reader::new(from).map_err(|e| refuse(e.to_string()))?;
        let header = reader.user_metadata().get(HEADER_KEY);
        let header = header.cloned().ok_or_else(|| refuse(format!("its metadata has no {HEADER_KEY}")))?;
        Ok((Self(reader), header))
    }

    /// `Err` is what is wrong with the next entry; `None` if there is none.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, String> {
        match self.0.next() {
            None => Ok(None),
            Some(Err(error)) => Err(error.to_string()),
            Some(Ok(entry)) => entry_of(entry).map(Some).ok_or_else(|| "it is no entry of an archive".to_owned()),
        }
    }

    pub(super) fn has_more(&mut self) -> bool {
        self.0.next().is_some()
    }
}

fn schema() -> Result<&'static Schema, ArchiveError> {
    static PARSED: OnceLock<Schema> = OnceLock::new();
    if let Some(schema) = PARSED.get() {
        return Ok(schema);
    }
    let schema = Schema::parse_str(SCHEMA).map_err(failed)?;
    Ok(PARSED.get_or_init(|| schema))
}

fn failed(error: apache_avro::Error) -> ArchiveError {
    ArchiveError::Io(std::io::Error::other(error))
}

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn optional(value: Option<Value>) -> Value {
    match value {
        None => Value::Union(0, Box::new(Value::Null)),
        Some(value) => Value::Union(1, Box::new(value)),
    }
}

// === from what the library reads ===

fn entry_of(value: Value) -> Option<Entry> {
    let [entry] = read(value)?;
    let Value::Union(branch, value) = entry else { return None };
    match branch {
        RECORD => {
            let [partition, offset, timestamp, key, headers, value, digest] = read(*value)?;
            let (Value::Int(partition), Value::Long(offset)) = (partition, offset) else { return None };
            let Value::TimestampMicros(timestamp_us) = timestamp else { return None };
            let at = (u32::try_from(partition).ok()?, u64::try_from(offset).ok()?);
            let record = SourceRecord {
                position: Position::new(Partition(at.0), Offset(at.1)),
                timestamp_us,
                key: bytes_of(key)?,
                headers: headers_of(headers)?,
                value: bytes_of(value)?,
            };
            Some(Entry::Record(record, digest_of(digest)?))
        }
        TRAILER => {
            let [records, digest] = read(*value)?;
            let Value::Long(records) = records else { return None };
            let (records, digest) = (u64::try_from(records).ok()?, digest_of(digest)?);
            Some(Entry::Trailer(Trailer { records, digest }))
        }
        _ => None,
    }
}

fn read<const N: usize>(value: Value) -> Option<[Value; N]> {
    let Value::Record(fields) = value else { return None };
    let values: Vec<Value> = fields.into_iter().map(|(_, value)| value).collect();
    values.try_into().ok()
}

fn present(value: Value) -> Option<Option<Value>> {
    match value {
        Value::Union(0, _) => Some(None),
        Value::Union(1, value) => Some(Some(*value)),
        _ => None,
    }
}

fn bytes_of(value: Value) -> Option<Option<Vec<u8>>> {
    match present(value)? {
        None => Some(None),
        Some(Value::Bytes(bytes)) => Some(Some(bytes)),
        Some(_) => None,
    }
}

fn headers_of(value: Value) -> Option<Option<Vec<Header>>> {
    let headers = match present(value)? {
        None => return Some(None),
        Some(Value::Array(headers)) => headers,
        Some(_) => return None,
    };
    let header = |value| {
        let [name, value] = read(value)?;
        let Value::String(name) = name else { return None };
        Some((name, bytes_of(value)?))
    };
    headers.into_iter().map(header).collect::<Option<Vec<_>>>().map(Some)
}

fn digest_of(value: Value) -> Option<Digest> {
    let Value::Fixed(32, bytes) = value else { return None };
    bytes.try_into().ok().map(Digest)
}
