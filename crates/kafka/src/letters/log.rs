//! The dead-letter topics, read one partition after the other.

use std::collections::{BTreeMap, VecDeque};

use mantis_pipeline::TopicPartition;
use mantis_schemas::topics::{FEATURES, SOURCES, dead_letter};

use super::{Found, Place};
use crate::{Admin, ClientConfig, Error, MessageBatch, Reader};

/// Reads dead-letter topics.
pub struct DeadLetterLog {
    client: ClientConfig,
    left: VecDeque<(TopicPartition, i64, i64)>,
    reader: Option<Reader>,
}

impl DeadLetterLog {
    /// All of them, or what lies at `from` and behind it, up to their ends of now.
    ///
    /// # Errors
    /// The brokers could not be asked.
    pub async fn open(client: &ClientConfig, from: Option<&Place>) -> Result<Self, Error> {
        let admin = Admin::new(client)?;
        let mut partitions = Vec::new();
        for topic in SOURCES.into_iter().chain([FEATURES]) {
            partitions.extend(admin.partitions(&dead_letter(topic)).await?);
        }
        // The order of places, so that one place says what lies behind it.
        partitions.sort();
        let mut left = VecDeque::new();
        for partition in partitions {
            let first = match from {
                Some(from) if partition < from.partition => continue,
                Some(from) if partition == from.partition => from.offset,
                _ => 0,
            };
            let (start, end) = admin.watermarks(&partition).await?;
            left.push_back((partition, start.max(first), end));
        }
        Ok(Self { client: client.clone(), left, reader: None })
    }

    /// What lies from the first found letter of each partition to the last one.
    pub fn of(client: &ClientConfig, found: &Found) -> Self {
        let range = |(partition, letters): (&TopicPartition, &BTreeMap<i64, _>)| {
            let (first, last) = (letters.keys().next()?, letters.keys().next_back()?);
            Some((partition.clone(), *first, last + 1))
        };
        Self { client: client.clone(), left: found.letters.iter().filter_map(range).collect(), reader: None }
    }

    /// The next records; `None` at the end.
    ///
    /// # Errors
    /// The brokers gave nothing, or what was to be read is gone.
    pub async fn next(&mut self) -> Result<Option<MessageBatch>, Error> {
        loop {
            if let Some(reader) = &mut self.reader
                && let Some(batch) = reader.next().await?
            {
                return Ok(Some(batch));
            }
            let Some((partition, from, to)) = self.left.pop_front() else { return Ok(None) };
            self.reader = Some(Reader::open(&self.client, partition, from, to)?);
        }
    }
}
