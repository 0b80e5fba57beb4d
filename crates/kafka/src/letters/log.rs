//! The dead-letter topics, read one partition after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mantis_pipeline::TopicPartition;
use mantis_schemas::topics::{FEATURES, SOURCES, dead_letter};

use super::{Filter, Place};
use crate::{Admin, ClientConfig, Error, MessageBatch, Reader};

/// Offsets of a partition, half open.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) partition: TopicPartition,
    pub(super) from: i64,
    pub(super) to: i64,
}

/// Where letters that `filter` asks for may lie now, at `from` and behind it: in the order of places, so that one place says
/// what lies behind it.
///
/// # Errors
/// The brokers could not be asked.
pub(super) async fn ranges(client: &ClientConfig, filter: &Filter, from: Option<&Place>) -> Result<Vec<Range>, Error> {
    let admin = Admin::new(client)?;
    let mut partitions = Vec::new();
    for topic in SOURCES.into_iter().chain([FEATURES]).filter(|topic| filter.asks_for_topic(topic)) {
        partitions.extend(admin.partitions(&dead_letter(topic)).await?);
    }
    partitions.sort();
    let mut ranges = Vec::new();
    for partition in partitions {
        let first = match from {
            Some(from) if partition < from.partition => continue,
            Some(from) if partition == from.partition => from.offset,
            _ => 0,
        };
        let (start, to) = admin.watermarks(&partition).await?;
        ranges.push(Range { partition, from: start.max(first), to });
    }
    Ok(ranges)
}

/// Reads dead-letter topics.
pub(super) struct DeadLetterLog<'a> {
    client: &'a ClientConfig,
    left: VecDeque<Range>,
    reader: Option<Reader>,
}

impl<'a> DeadLetterLog<'a> {
    /// Reads these ranges in their order.
    pub(super) fn new(client: &'a ClientConfig, ranges: Vec<Range>) -> Self {
        Self { client, left: ranges.into(), reader: None }
    }

    /// Reads from the first of these places of each partition to the last one, with what lies between them.
    pub(super) fn of(client: &'a ClientConfig, places: &BTreeMap<TopicPartition, BTreeSet<i64>>) -> Self {
        let range = |(partition, offsets): (&TopicPartition, &BTreeSet<i64>)| {
            Some(Range { partition: partition.clone(), from: *offsets.first()?, to: offsets.last()? + 1 })
        };
        Self::new(client, places.iter().filter_map(range).collect())
    }

    /// The next records; `None` at the end.
    ///
    /// # Errors
    /// The brokers gave nothing, or what was to be read is gone.
    pub(super) async fn next(&mut self) -> Result<Option<MessageBatch>, Error> {
        loop {
            if let Some(reader) = &mut self.reader
                && let Some(batch) = reader.next().await?
            {
                return Ok(Some(batch));
            }
            let Some(Range { partition, from, to }) = self.left.pop_front() else { return Ok(None) };
            self.reader = Some(Reader::open(self.client, partition, from, to)?);
        }
    }
}
