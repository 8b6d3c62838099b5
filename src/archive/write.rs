//! Writes an archive, record by record, in the memory of one record or one block.

use std::io::Write;
use std::path::PathBuf;

use flate2::write::GzEncoder;

use super::avro::EntryWriter;
use super::file::Out;
use super::jsonl::LineWriter;
use super::{ArchiveError, Chain, Header, RECORD_BYTES_MAX, Trailer};
use crate::journal::SourceRecord;
use crate::schema::Codec;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// JSON lines.
    Jsonl,
    /// An Avro object container file.
    Avro,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    None,
    /// As `gunzip` reads it, around JSON lines.
    Gzip,
    /// Avro's own.
    Deflate,
}

/// Where an archive is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    File(PathBuf),
    Stdout,
}

pub struct Writer {
    chain: Chain,
    records: u64,
    body: Body,
}

enum Body {
    Lines(Box<LineWriter<Packed>>),
    Entries(Box<EntryWriter<Out>>),
}

enum Packed {
    Plain(Out),
    Gzip(GzEncoder<Out>),
}

impl Writer {
    pub fn begin(target: &Target, format: Format, compression: Compression, header: &Header) -> anyhow::Result<Self> {
        let out = match target {
            Target::File(path) => Out::file(path)?,
            Target::Stdout => Out::stdout(),
        };
        let text = header.text()?;
        let body = match (format, compression) {
            (Format::Avro, Compression::Gzip) => {
                anyhow::bail!("an Avro file is compressed with deflate, not with gzip")
            }
            (Format::Jsonl, Compression::Deflate) => {
                anyhow::bail!("JSON lines are compressed with gzip, not with deflate")
            }
            (Format::Avro, how) => {
                Body::Entries(Box::new(EntryWriter::begin(out, &text, how == Compression::Deflate)?))
            }
            (Format::Jsonl, Compression::None) => Body::Lines(Box::new(LineWriter::begin(Packed::Plain(out), &text)?)),
            (Format::Jsonl, Compression::Gzip) => {
                let packed = Packed::Gzip(GzEncoder::new(out, flate2::Compression::default()));
                Body::Lines(Box::new(LineWriter::begin(packed, &text)?))
            }
        };
        Ok(Self { chain: Chain::begin(text.as_bytes()), records: 0, body })
    }

    /// The next record, by partition and in there by offset. `codec` shows people what it says.
    pub fn add(&mut self, record: &SourceRecord, codec: &Codec) -> anyhow::Result<()> {
        let weight = record.weight();
        if weight > RECORD_BYTES_MAX {
            let at = record.position;
            anyhow::bail!(
                "the record at {at} takes {weight} bytes, and an archive takes none above {RECORD_BYTES_MAX}"
            );
        }
        let digest = self.chain.add(record);
        self.records += 1;
        match &mut self.body {
            Body::Lines(lines) => lines.add(record, digest, codec)?,
            Body::Entries(entries) => entries.add(record, digest)?,
        }
        Ok(())
    }

    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The archive is whole: only now it bears its name.
    pub fn finish(self) -> Result<Trailer, ArchiveError> {
        let trailer = Trailer { records: self.records, digest: self.chain.last() };
        let out = match self.body {
            Body::Lines(lines) => lines.finish(&trailer)?.finish()?,
            Body::Entries(entries) => entries.finish(&trailer)?,
        };
        out.keep()?;
        Ok(trailer)
    }
}

impl Packed {
    fn finish(self) -> std::io::Result<Out> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(gzip) => gzip.finish(),
        }
    }
}

impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Gzip(gzip) => gzip.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Gzip(gzip) => gzip.flush(),
        }
    }
}
