//! Reads spans of the embedded log, with headers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Tables, broken, decode_whole, offset_of};
use crate::journal::{History, HistoryItem, JournalError, Offset, Position, Span};

pub(super) struct EmbeddedHistory {
    tables: Arc<Tables>,
    /// What is left to read; the first is read next, and goes behind the others after it.
    left: VecDeque<Span>,
}

impl EmbeddedHistory {
    /// `ends` are the synced ends: what a span asks for beyond them is not there.
    pub(super) fn new(tables: Arc<Tables>, ends: &[Offset], spans: &[Span]) -> Result<Self, JournalError> {
        for span in spans {
            let end = ends.get(span.partition.0 as usize).copied();
            if end.is_none_or(|end| end < span.to) {
                let text = format!("partition {} of the log does not reach to offset {}", span.partition, span.to);
                return Err(JournalError::Broken(text));
            }
        }
        Ok(Self { tables, left: spans.iter().copied().collect() })
    }
}

impl History for EmbeddedHistory {
    fn poll(&mut self, max: usize, _timeout: Duration) -> Result<Vec<HistoryItem>, JournalError> {
        let mut items = Vec::new();
        while let Some(mut span) = self.left.pop_front() {
            let (from, to) = (span.from.0.to_be_bytes(), span.to.0.to_be_bytes());
            let room = max.saturating_sub(items.len()).max(1);
            let mut read = 0;
            for row in self.tables.partitions[span.partition.0 as usize].range(&from, &to).take(room) {
                let (key, value) = row.map_err(broken)?;
                let position = Position::new(span.partition, offset_of(&key).map_err(broken)?);
                items.push(HistoryItem::Record(decode_whole(position, &value)?));
                span.from = position.offset.next();
                read += 1;
            }
            match read < room || span.from >= span.to {
                true => items.push(HistoryItem::Done(span.partition)),
                false => self.left.push_back(span),
            }
            if items.len() >= max {
                break;
            }
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::journal::embedded::EmbeddedJournal;
    use crate::journal::{HistoryItem, Journal, JournalError, NewRecord, Offset, Partition, Reader, Span};

    fn span(partition: u32, from: u64, to: u64) -> Span {
        Span { partition: Partition(partition), from: Offset(from), to: Offset(to) }
    }

    /// Reads to the end, and shows what came: values, headers, and which spans were done.
    fn read(log: &dyn Reader, spans: &[Span], max: usize) -> (Vec<String>, Vec<u32>) {
        let (mut history, mut records, mut done) = (log.history(spans).unwrap(), Vec::new(), Vec::new());
        while done.len() < spans.len() {
            for item in history.poll(max, Duration::ZERO).unwrap() {
                match item {
                    HistoryItem::Record(written) => {
                        let headers = written.headers.unwrap();
                        let header = String::from_utf8(headers[0].1.clone().unwrap()).unwrap();
                        let value = String::from_utf8(written.value.unwrap()).unwrap();
                        records.push(format!("{} {value} {}={header}", written.position, headers[0].0));
                    }
                    HistoryItem::Done(partition) => done.push(partition.0),
                }
            }
        }
        assert!(history.poll(max, Duration::ZERO).unwrap().is_empty(), "it has ended");
        (records, done)
    }

    #[tokio::test]
    async fn spans_are_read_to_their_ends_with_their_headers_and_no_further() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        assert!(matches!(EmbeddedJournal::reader(&path), Err(JournalError::Refused(_))), "nothing is created");
        assert!(!path.exists());
        let journal = EmbeddedJournal::open(&path, 3).unwrap();
        for (partition, value) in [(0, "a"), (1, "b"), (0, "c"), (0, "d")] {
            let headers = vec![("ce_id".to_owned(), value.to_uppercase().into_bytes())];
            let (key, value) = (Vec::new(), value.as_bytes().to_vec());
            journal.append(NewRecord { partition: Partition(partition), key, headers, value }).await.unwrap();
        }
        assert!(journal.history(&[span(1, 0, 2)]).is_err(), "beyond the end");
        assert!(journal.history(&[span(3, 0, 0)]).is_err(), "no such partition");
        drop(journal);
        let log = EmbeddedJournal::reader(&path).unwrap();
        for max in [1, 2, 100] {
            let (mut records, mut done) = read(log.as_ref(), &[span(0, 1, 3), span(1, 0, 1), span(2, 0, 0)], max);
            records.sort();
            done.sort_unstable();
            assert_eq!(records, ["0:1 c ce_id=C", "0:2 d ce_id=D", "1:0 b ce_id=B"], "{max} at once");
            assert_eq!(done, [0, 1, 2]);
        }
        assert_eq!(read(log.as_ref(), &[span(0, 0, 1)], 9).0, ["0:0 a ce_id=A"]);
    }
}
