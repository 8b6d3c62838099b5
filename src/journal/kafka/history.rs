//! Reads spans of the topic, committed records only, with headers, and stops at their ends, however fast the topic grows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::heights::Heights;
use super::tail::{KafkaTail, Read};
use super::{KafkaConfig, native};
use crate::journal::{History, HistoryItem, JournalError, Offset, Partition, Span, Written};

pub(super) struct KafkaHistory {
    tail: KafkaTail,
    /// Where the spans end that have not been read to their end.
    ends: BTreeMap<Partition, Offset>,
    /// Spans in which there is nothing to read.
    empty: Vec<Partition>,
}

impl KafkaHistory {
    pub(super) fn open(config: &KafkaConfig, heights: &Arc<Heights>, spans: &[Span]) -> Result<Self, JournalError> {
        let mut from = vec![Offset(0); config.partitions as usize];
        let (mut ends, mut empty) = (BTreeMap::new(), Vec::new());
        for span in spans {
            let known = from.get_mut(span.partition.0 as usize);
            *known.ok_or_else(|| JournalError::Broken(format!("there is no partition {}", span.partition)))? =
                span.from;
            match span.from < span.to {
                true => drop(ends.insert(span.partition, span.to)),
                false => empty.push(span.partition),
            }
        }
        Ok(Self { tail: KafkaTail::of(config, heights, &from, ends.keys().copied())?, ends, empty })
    }

    /// Notes that everything before `next` has been read. Is the span at its end with that?
    fn is_done(&mut self, partition: Partition, next: Offset) -> Result<bool, JournalError> {
        let done = self.ends.get(&partition).is_some_and(|end| next >= *end);
        if done {
            self.ends.remove(&partition);
            self.tail.pause(partition)?;
        }
        Ok(done)
    }
}

impl History for KafkaHistory {
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<HistoryItem>, JournalError> {
        let mut items: Vec<HistoryItem> = self.empty.drain(..).map(HistoryItem::Done).collect();
        if !items.is_empty() || self.ends.is_empty() {
            return Ok(items);
        }
        let read = self.tail.read(max, timeout, &|record, message| {
            let headers = native::headers_of(message);
            Written { record, headers }
        })?;
        for read in read {
            let (partition, next) = match &read {
                Read::Record(written, _) => (written.record.position.partition, written.record.position.offset.next()),
                Read::CaughtUp(next) => (next.partition, next.offset),
            };
            let Some(end) = self.ends.get(&partition).copied() else { continue }; // read ahead of the pause
            if let Read::Record(written, _) = read
                && next <= end
            {
                items.push(HistoryItem::Record(written));
            }
            if self.is_done(partition, next)? {
                items.push(HistoryItem::Done(partition));
            }
        }
        Ok(items)
    }
}
