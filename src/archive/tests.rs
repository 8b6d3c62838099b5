//! What an archive must withstand: whatever is cut off, changed, left out or moved is seen, in every format.

use std::io::Write;
use std::path::Path;

use flate2::write::GzEncoder;

use super::{Archive, ArchiveError, Chain, Compression, Format, Header, Scope, Selection, Target, Writer};
use crate::journal::{LogId, Offset, Partition, Position, SourceRecord};
use crate::payment::EventData;
use crate::payment::samples::{at, event, in_progress, payment_id};
use crate::schema::Codec;

const FORMATS: [(Format, Compression); 4] = [
    (Format::Jsonl, Compression::None),
    (Format::Jsonl, Compression::Gzip),
    (Format::Avro, Compression::None),
    (Format::Avro, Compression::Deflate),
];

fn header() -> Header {
    let bounds = (vec![0, 0], vec![2, 9]);
    let header = Header::new(LogId([7; 16]), Some("payments".to_owned()), bounds, Selection::default(), at(100));
    Header { paylog: "0.1.0".to_owned(), ..header } // for the golden files
}

fn records() -> Vec<SourceRecord> {
    let value = |seconds, data: EventData| Codec::new().unwrap().encode(&event(seconds, data)).unwrap();
    let record = |partition, offset, value: Option<Vec<u8>>| SourceRecord {
        position: Position::new(Partition(partition), Offset(offset)),
        timestamp_us: at(50).as_micros() + 7,
        key: Some(payment_id("a").to_string().into_bytes()),
        headers: Some(vec![("ce_id".to_owned(), Some(b"\x00\xFF".to_vec())), ("none".to_owned(), None)]),
        value,
    };
    vec![
        record(0, 0, Some(value(1, in_progress(1999)))),
        SourceRecord { key: None, headers: Some(Vec::new()), ..record(0, 1, None) },
        SourceRecord { key: Some(Vec::new()), headers: None, ..record(1, 3, Some(b"{garbage}\n".to_vec())) },
        record(1, 8, Some(value(2, crate::payment::samples::successful("ch_1")))),
    ]
}

fn written(path: &Path, (format, compression): (Format, Compression), records: &[SourceRecord]) -> Vec<u8> {
    drop(std::fs::remove_file(path));
    let codec = Codec::new().unwrap();
    let mut writer = Writer::begin(&Target::File(path.to_owned()), format, compression, &header()).unwrap();
    for record in records {
        writer.add(record, &codec).unwrap();
    }
    writer.finish().unwrap();
    std::fs::read(path).unwrap()
}

fn read(bytes: &[u8]) -> Result<(Header, Vec<SourceRecord>), ArchiveError> {
    let mut archive = Archive::read(std::io::Cursor::new(bytes.to_vec()))?;
    let mut records = Vec::new();
    while let Some(record) = archive.next_record()? {
        records.push(record);
    }
    assert!(archive.trailer().is_some());
    Ok((archive.header().clone(), records))
}

#[test]
fn what_is_read_is_what_was_written_in_every_format() {
    let directory = tempfile::tempdir().unwrap();
    for how in FORMATS {
        let bytes = written(&directory.path().join("a"), how, &records());
        assert_eq!(read(&bytes).unwrap(), (header(), records()), "{how:?}");
        let none = written(&directory.path().join("a"), how, &[]);
        assert_eq!(read(&none).unwrap(), (header(), Vec::new()), "{how:?}");
    }
}

#[test]
fn every_truncation_is_seen() {
    let directory = tempfile::tempdir().unwrap();
    for how in FORMATS {
        let bytes = written(&directory.path().join("a"), how, &records());
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{how:?} cut to {length} of {}", bytes.len());
        }
    }
}

/// A compressed form has bytes that mean nothing (a time, an operating system, the last bits of a block): with another one
/// there what is read is the same. Without compression there is no such byte in JSON lines.
#[test]
fn every_changed_byte_is_seen_or_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for how in FORMATS {
        let bytes = written(&directory.path().join("a"), how, &records());
        for index in 0..bytes.len() {
            for flip in [0x01, 0x20, 0x80, 0xFF] {
                let mut changed = bytes.clone();
                changed[index] ^= flip;
                match read(&changed) {
                    Err(_) => {}
                    Ok(_) if how == FORMATS[0] => panic!("byte {index} of the lines was changed, and nobody saw it"),
                    Ok(same) => assert_eq!(same, (header(), records()), "{how:?}: byte {index} with {flip:#x}"),
                }
            }
        }
    }
}

#[test]
fn what_was_left_out_doubled_moved_or_added_is_seen_where_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = written(&directory.path().join("a"), FORMATS[0], &records());
    let text = String::from_utf8(bytes).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6);
    let damaged = |order: &[usize]| {
        let text: String = order.iter().map(|line| format!("{}\n", lines[*line])).collect();
        match read(text.as_bytes()) {
            Err(ArchiveError::Damaged { record, .. }) => record,
            other => panic!("{order:?}: {other:?}"),
        }
    };
    assert_eq!(damaged(&[0, 1, 2, 4, 5]), 3, "left out");
    assert_eq!(damaged(&[0, 2, 3, 4, 5]), 1, "the first left out");
    assert_eq!(damaged(&[0, 1, 2, 3, 5]), 4, "the last left out");
    assert_eq!(damaged(&[0, 1, 2, 2, 3, 4, 5]), 3, "doubled");
    assert_eq!(damaged(&[0, 1, 2, 4, 3, 5]), 3, "moved");
    assert_eq!(damaged(&[0, 1, 2, 3, 4, 5, 4]), 5, "behind the trailer");
    assert_eq!(damaged(&[0, 1, 2, 3, 4]), 5, "without a trailer");
    let shown = read(text.replace("\"offset\":3", "\"offset\":4").as_bytes()).unwrap_err().to_string();
    assert!(shown.contains("record 3") && shown.contains("1:4"), "{shown}");
    let forged = text.replacen("\"scope\":\"log\"", "\"scope\":\"piece\"", 1);
    assert!(
        matches!(read(forged.as_bytes()), Err(ArchiveError::Damaged { record: 1, .. })),
        "the header is in the chain"
    );
    let event = text.replace("1999", "2999");
    let shown = read(event.as_bytes()).unwrap_err().to_string();
    assert!(shown.contains("though each record is"), "what people read is covered too: {shown}");
}

#[test]
fn what_is_no_archive_or_one_of_a_later_version_is_refused_by_name() {
    let refused = |bytes: &[u8]| match read(bytes) {
        Err(ArchiveError::NotAnArchive(text)) => text,
        other => panic!("{other:?}"),
    };
    for other in [&b""[..], b"{}\n", b"hello", b"Obj\x01", b"\n\n\n", &[0x1F, 0x8B, 1, 2]] {
        assert!(refused(other).contains("no archive of paylog"), "{other:?}");
    }
    let later = header().text().unwrap().replace("\"paylog_archive\":1", "\"paylog_archive\":2") + "\n";
    assert!(refused(later.as_bytes()).contains("a later one"));
    let long = vec![b'x'; 1_000_000];
    assert!(refused(&long).contains("no archive"));
}

/// A line, or what a compressed archive becomes, is never taken into memory without a bound.
#[test]
fn a_line_without_an_end_is_refused() {
    let mut packed = GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(header().text().unwrap().as_bytes()).unwrap();
    packed.write_all(b"\n").unwrap();
    for _ in 0..64 {
        packed.write_all(&[b'['; 1 << 20]).unwrap();
    }
    let shown = read(&packed.finish().unwrap()).unwrap_err().to_string();
    assert!(shown.contains("longer than"), "{shown}");
}

#[test]
fn an_archive_that_was_not_finished_does_not_bear_its_name() {
    let directory = tempfile::tempdir().unwrap();
    let (path, codec) = (directory.path().join("a"), Codec::new().unwrap());
    let begin = || Writer::begin(&Target::File(path.clone()), Format::Jsonl, Compression::None, &header());
    let mut writer = begin().unwrap();
    writer.add(&records()[0], &codec).unwrap();
    assert!(!path.exists());
    let busy = begin().err().unwrap().to_string();
    assert!(busy.contains("another paylog"), "{busy}");
    drop(writer);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left of it");
    std::fs::write(directory.path().join("a.part"), vec![b'x'; 9_999]).unwrap(); // of one that was killed
    begin().unwrap().finish().unwrap();
    assert!(read(&std::fs::read(&path).unwrap()).is_ok());
    let there = begin().err().unwrap().to_string();
    assert!(there.contains("exists already"), "{there}");
    let huge = SourceRecord { value: Some(vec![0; super::RECORD_BYTES_MAX]), ..records().remove(0) };
    let path = directory.path().join("b");
    let mut writer = Writer::begin(&Target::File(path), Format::Jsonl, Compression::None, &header()).unwrap();
    assert!(writer.add(&huge, &codec).is_err());
}

#[test]
fn the_largest_record_goes_through_every_format() {
    let directory = tempfile::tempdir().unwrap();
    // Bytes that do not compress.
    let noise: Vec<u8> = (0..60_000_u32).flat_map(|n| Chain::begin(&n.to_be_bytes()).last().0).collect();
    let large = SourceRecord { value: Some(noise), ..records().remove(0) };
    for how in FORMATS {
        let bytes = written(&directory.path().join("a"), how, std::slice::from_ref(&large));
        assert_eq!(read(&bytes).unwrap().1, std::slice::from_ref(&large), "{how:?}");
    }
}

/// Archives that stand on somebody's disk, perhaps as the only copy: they are read for ever.
#[test]
fn every_golden_archive_is_still_read() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/golden-archives");
    for (how, name) in FORMATS.iter().zip(["1.jsonl", "1.jsonl.gz", "1-null.avro", "1.avro"]) {
        let path = golden.join(name);
        if std::env::var_os("PAYLOG_WRITE_GOLDEN").is_some() && !path.exists() {
            written(&path, *how, &records());
        }
        let read = read(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, (header(), records()), "{name}");
        assert_eq!(read.0.scope, Scope::Log);
    }
}
