//! What stands on the log, and where. Newtypes, so that an offset is never taken for a partition or a count.

use std::fmt;

/// One ordered part of the log, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u32);

/// A place in one partition, counted from 0. Offsets grow, but not always by one: transaction markers take offsets too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

/// A place on the log. Positions of different partitions have no order between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    pub partition: Partition,
    pub offset: Offset,
}

/// Names one log for ever: the topic id (Kafka, KIP-516) or a random id given at creation (embedded).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub [u8; 16]);

/// A record to be appended to the partition named, which is always ours to choose and never the client library's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecord {
    pub partition: Partition,
    pub key: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub value: Vec<u8>,
}

/// A record as it stands on the log, without its headers: they are for others, and nothing here reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub position: Position,
    /// When the log took it, by the log's clock: microseconds since 1970, UTC (Kafka keeps milliseconds).
    pub appended_at_us: i64,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

impl Offset {
    /// The offset after this one: Kafka's convention for "where to read next".
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Position {
    #[must_use]
    pub fn new(partition: Partition, offset: Offset) -> Self {
        Self { partition, offset }
    }

    /// The one behind it, if there is one by now.
    #[must_use]
    pub fn next(self) -> Self {
        Self { offset: self.offset.next(), ..self }
    }
}

impl LogId {
    /// The first eight hexadecimal digits: enough to tell one log from another in a cursor (DESIGN.md 9).
    #[must_use]
    pub fn log8(&self) -> String {
        data_encoding::HEXLOWER.encode(&self.0[..4])
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogId({self})")
    }
}
