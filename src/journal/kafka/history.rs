//! Reads spans of the topic, committed records only, with headers, and stops at their ends, however fast the topic grows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::KafkaConfig;
use super::foreign::source_record_of;
use super::heights::Heights;
use super::look_up::LookUp;
use super::tail::{KafkaTail, Read};
use crate::journal::{History, HistoryItem, JournalError, Offset, Partition, Span};

pub(super) struct KafkaHistory {
    config: KafkaConfig,
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
        let tail = KafkaTail::of(config, heights, &from, ends.keys().copied())?;
        Ok(Self { config: config.clone(), tail, ends, empty })
    }

    /// The reader has come to the committed end, and does not know that it has come to `end`: what stands last there may be
    /// no record. Unless the log has lost what it had, it has.
    fn reached(&self, partition: Partition, end: Offset) -> Result<Offset, JournalError> {
        let committed = LookUp::new(&self.config)?.ends(partition)?.committed;
        if committed >= end {
            return Ok(end);
        }
        Err(JournalError::Broken(format!(
            "partition {partition} of {} ends at {committed} and reached to {end} before: the log has lost records",
            self.config.topic_prefix
        )))
    }
}

impl History for KafkaHistory {
    fn poll(&mut self, max: usize, timeout: Duration) -> Result<Vec<HistoryItem>, JournalError> {
        let mut items: Vec<HistoryItem> = self.empty.drain(..).map(HistoryItem::Done).collect();
        if !items.is_empty() || self.ends.is_empty() {
            return Ok(items);
        }
        let read = self.tail.read(max, timeout, &|read| {
            Ok(match read {
                Read::Record(message) => {
                    let record = source_record_of(message)?;
                    (record.position.partition, record.position.offset.next(), Some(record))
                }
                Read::CaughtUp(next) => (next.partition, next.offset, None),
            })
        })?;
        for (partition, next, record) in read {
            let Some(end) = self.ends.get(&partition).copied() else { continue }; // read ahead of the pause
            let next = match &record {
                None if next < end => self.reached(partition, end)?,
                _ => next,
            };
            items.extend(record.filter(|_| next <= end).map(HistoryItem::Record));
            if next >= end {
                self.ends.remove(&partition);
                self.tail.pause(partition)?;
                items.push(HistoryItem::Done(partition));
            }
        }
        Ok(items)
    }
}
