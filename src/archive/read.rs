//! Reads an archive and believes nothing: each record must fit to the one before, and the last to the trailer.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use anyhow::Context;
use flate2::bufread::MultiGzDecoder;

use super::avro::{EntryReader, MAGIC};
use super::jsonl::LineReader;
use super::{ArchiveError, Chain, Entry, Header, Trailer};
use crate::journal::{Position, SourceRecord};
use crate::progress::Progress;

const GZIP_MAGIC: &[u8] = &[0x1F, 0x8B];
const READ_BYTES: usize = 256 * 1024;

/// An archive that is being read, in the order in which it was written.
pub struct Archive {
    header: Header,
    chain: Chain,
    records: u64,
    last: Option<Position>,
    body: Body,
    /// Once everything was read, and fits.
    trailer: Option<Trailer>,
}

enum Body {
    Lines(Box<LineReader<Box<dyn BufRead>>>),
    Entries(Box<EntryReader<Box<dyn BufRead>>>),
}

impl Archive {
    /// Tells by the first bytes what it is.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let archive = Self::read(BufReader::with_capacity(READ_BYTES, file));
        archive.with_context(|| format!("cannot use {}", path.display()))
    }

    pub fn read(mut from: impl BufRead + 'static) -> Result<Self, ArchiveError> {
        let first = from.fill_buf()?;
        let (is_avro, is_gzip) = (first.starts_with(MAGIC), first.starts_with(GZIP_MAGIC));
        let (body, text) = if is_avro {
            let (entries, text) = EntryReader::begin(Box::new(from) as Box<dyn BufRead>)?;
            (Body::Entries(Box::new(entries)), text)
        } else {
            let from: Box<dyn BufRead> = if is_gzip {
                Box::new(BufReader::with_capacity(READ_BYTES, MultiGzDecoder::new(from)))
            } else {
                Box::new(from)
            };
            let (lines, text) = LineReader::begin(from)?;
            (Body::Lines(Box::new(lines)), text)
        };
        let header = Header::parse(&text)?;
        Ok(Self { header, chain: Chain::begin(&text), records: 0, last: None, body, trailer: None })
    }

    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// There once [`Archive::next_record`] has answered `None`.
    #[must_use]
    pub fn trailer(&self) -> Option<Trailer> {
        self.trailer
    }

    /// The next record; `None` only behind the last, when everything fits.
    pub fn next_record(&mut self) -> Result<Option<SourceRecord>, ArchiveError> {
        if self.trailer.is_some() {
            return Ok(None);
        }
        let entry = match &mut self.body {
            Body::Lines(lines) => lines.next(),
            Body::Entries(entries) => entries.next(),
        };
        match entry.map_err(|reason| self.damaged(None, reason))? {
            None => Err(self.damaged(None, "the archive ends here, and its trailer is missing: it was cut off")),
            Some(Entry::Record(record, digest)) => {
                let at = Some(record.position);
                if let Some(reason) = self.misplaced(record.position) {
                    return Err(self.damaged(at, reason));
                }
                if self.chain.add(&record) != digest {
                    return Err(self.damaged(at, "it is not what was written, or what came before it is not"));
                }
                self.records += 1;
                self.last = at;
                Ok(Some(record))
            }
            Some(Entry::Trailer(trailer)) => self.end(trailer).map(|()| None),
        }
    }

    /// Reads to the end, saying how far it is, and answers with what it is then.
    pub fn verify(mut self, mut each: impl FnMut(&SourceRecord)) -> Result<(Header, Trailer), ArchiveError> {
        // At most so many: markers of transactions have offsets too, and not all may have been chosen.
        let span = self.header.from.iter().zip(&self.header.to).map(|(from, to)| to.saturating_sub(*from));
        let mut progress = Progress::new("checking", "records", span.sum());
        while let Some(record) = self.next_record()? {
            each(&record);
            progress.reached(self.records);
        }
        progress.end();
        let whole = Trailer { records: self.records, digest: self.chain.last() };
        Ok((self.header, whole))
    }

    fn end(&mut self, trailer: Trailer) -> Result<(), ArchiveError> {
        let whole = Trailer { records: self.records, digest: self.chain.last() };
        if trailer != whole {
            let reason = format!("the trailer tells of {} records, and here are {}", trailer.records, whole.records);
            return Err(self.damaged(None, reason));
        }
        let more = match &mut self.body {
            Body::Lines(lines) => lines.has_more().map_err(|e| self.damaged(None, e.to_string()))?,
            Body::Entries(entries) => entries.has_more(),
        };
        if more {
            return Err(self.damaged(None, "something stands behind the trailer"));
        }
        self.trailer = Some(trailer);
        Ok(())
    }

    /// Why there can be no record of this position here.
    fn misplaced(&self, at: Position) -> Option<String> {
        let Position { partition, offset } = at;
        let bounds = self.header.from.get(partition.0 as usize).zip(self.header.to.get(partition.0 as usize));
        let Some((from, to)) = bounds else {
            return Some(format!("the log had {} partitions", self.header.partitions));
        };
        if !(*from..*to).contains(&offset.0) {
            return Some(format!("the header tells of offsets from {from} to before {to} in this partition"));
        }
        let behind = |last: Position| (last.partition, last.offset) < (partition, offset);
        (!self.last.is_none_or(behind)).then(|| "it comes before the one that stands before it".to_owned())
    }

    /// At the record after those that were good.
    fn damaged(&self, at: Option<Position>, reason: impl Into<String>) -> ArchiveError {
        ArchiveError::Damaged { record: self.records + 1, at, reason: reason.into() }
    }
}
