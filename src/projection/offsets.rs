//! How far each partition has been folded: for every partition the next offset to fold. One such vector names a state of
//! the whole projection, and is what a cursor over several payments holds.

use crate::journal::{JournalError, LogId, Offset, Partition, Position, Reader};

/// The next offset of every partition, by partition number.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Offsets(Vec<Offset>);

/// Why a text is not the offsets of this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadOffsets {
    /// Not a cursor at all.
    Malformed,
    /// A cursor of another log.
    OtherLog,
}

impl Offsets {
    #[must_use]
    pub fn start(partitions: u32) -> Self {
        Self(vec![Offset(0); partitions as usize])
    }

    /// The committed ends of the log, now. Blocks.
    pub fn ends_of(log: &dyn Reader) -> Result<Self, JournalError> {
        let mut ends = Self::start(log.partitions());
        for partition in (0..log.partitions()).map(Partition) {
            ends.set(Position::new(partition, log.ends(partition)?.committed));
        }
        Ok(ends)
    }

    /// The next offset of `partition`; 0 for one that the log does not have.
    #[must_use]
    pub fn of(&self, partition: Partition) -> Offset {
        self.0.get(partition.0 as usize).copied().unwrap_or_default()
    }

    /// Moves one partition on. Never back: an older position changes nothing.
    pub fn advance(&mut self, next: Position) {
        if let Some(offset) = self.0.get_mut(next.partition.0 as usize) {
            *offset = next.offset.max(*offset);
        }
    }

    /// Sets one partition, forwards or backwards: for cursors that run through a past.
    pub fn set(&mut self, next: Position) {
        if let Some(offset) = self.0.get_mut(next.partition.0 as usize) {
            *offset = next.offset;
        }
    }

    #[must_use]
    pub fn as_slice(&self) -> &[Offset] {
        &self.0
    }

    pub fn positions(&self) -> impl Iterator<Item = Position> + '_ {
        self.0.iter().zip(0..).map(|(offset, partition)| Position::new(Partition(partition), *offset))
    }

    /// Over all partitions.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().map(|offset| offset.0).sum()
    }

    /// Has everything before `other` been folded here too?
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|(mine, theirs)| mine >= theirs)
    }

    /// Of each partition the lesser of the two.
    #[must_use]
    pub fn least(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(mine, theirs)| *mine.min(theirs)).collect())
    }

    /// Of each partition the greater of the two.
    #[must_use]
    pub fn most(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(mine, theirs)| *mine.max(theirs)).collect())
    }

    /// An opaque text: `log8`, a dot, and the offsets as LEB128 in base64url.
    #[must_use]
    pub fn encode(&self, log: LogId) -> String {
        let mut bytes = Vec::with_capacity(self.0.len() * 2);
        for offset in &self.0 {
            let mut rest = offset.0;
            while rest >= 0x80 {
                bytes.push((rest as u8 & 0x7f) | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
        format!("{}.{}", log.log8(), data_encoding::BASE64URL_NOPAD.encode(&bytes))
    }

    /// The reverse of [`Offsets::encode`], for a log with `partitions` partitions.
    pub fn decode(text: &str, log: LogId, partitions: u32) -> Result<Self, BadOffsets> {
        let (log8, rest) = text.split_once('.').ok_or(BadOffsets::Malformed)?;
        if log8.len() != 8 || !log8.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(BadOffsets::Malformed);
        }
        let bytes = data_encoding::BASE64URL_NOPAD.decode(rest.as_bytes()).map_err(|_| BadOffsets::Malformed)?;
        let offsets = decode_numbers(&bytes).ok_or(BadOffsets::Malformed)?;
        match (log8 == log.log8(), offsets.len() == partitions as usize) {
            (true, true) => Ok(Self(offsets)),
            (true, false) => Err(BadOffsets::Malformed),
            (false, _) => Err(BadOffsets::OtherLog),
        }
    }
}

fn decode_numbers(bytes: &[u8]) -> Option<Vec<Offset>> {
    let mut numbers = Vec::new();
    let (mut number, mut shift) = (0_u64, 0_u32);
    for byte in bytes {
        let low = u64::from(byte & 0x7f);
        if shift > 56 {
            return None; // an offset has 63 bits at most
        }
        number |= low << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            numbers.push(Offset(number));
            (number, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::{BadOffsets, Offsets};
    use crate::journal::{LogId, Offset, Partition, Position};

    #[test]
    fn a_cursor_survives_a_round_trip_and_knows_its_log() {
        let log = LogId([7; 16]);
        let mut offsets = Offsets::start(12);
        for (partition, offset) in [(0, 1), (3, 127), (4, 128), (11, (1 << 62) + 5)] {
            offsets.advance(Position::new(Partition(partition), Offset(offset)));
        }
        let text = offsets.encode(log);
        assert_eq!(Offsets::decode(&text, log, 12), Ok(offsets));
        assert_eq!(Offsets::decode(&text, LogId([8; 16]), 12), Err(BadOffsets::OtherLog));
        assert_eq!(Offsets::decode(&text, log, 11), Err(BadOffsets::Malformed));
        for wrong in
            ["", ".", "07070707", "07070707.!", "0707070x.AA", "07070707.gICAgICAgICAAQ", &text[..text.len() - 1]]
        {
            assert_eq!(Offsets::decode(wrong, log, 12), Err(BadOffsets::Malformed), "{wrong}");
        }
    }
}
