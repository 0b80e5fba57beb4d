//! Finds dead letters by identity, and reads them where they lie. What is held of a letter is small and bounded in number;
//! the letters themselves pass by one batch at a time.

use std::collections::{BTreeMap, HashMap, VecDeque};

use anyhow::Result;
use mantis_kafka::{
    Admin, ClientConfig, MessageBatch, Reader,
    dead_letter::{self, Origin},
};
use mantis_pipeline::{RecordBatch, TopicPartition};
use mantis_schemas::topics::{SOURCES, dead_letter as dead_letter_topic};

use crate::cli::{DlqFilter, Place};

/// Letters that one call of a command looks at; some 200 bytes are held of each.
pub const LETTERS_MAX: usize = 100_000;

/// The group that refused the record, and the record's position.
type Identity = (TopicPartition, i64, String);

/// The letters that a filter wants, by the place of the last one of each identity.
#[derive(Debug, Default)]
pub struct Found {
    /// When each was replayed, if it was, by partition and offset of its dead-letter topic.
    pub letters: BTreeMap<TopicPartition, BTreeMap<i64, Option<i64>>>,
    /// The first letter that was not looked at, because there are more than [`LETTERS_MAX`].
    pub more_from: Option<Place>,
}

impl Found {
    /// When the letter at this place was replayed, if it is wanted.
    pub fn get(&self, partition: &TopicPartition, offset: i64) -> Option<Option<i64>> {
        self.letters.get(partition)?.get(&offset).copied()
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }
}

/// The letters that `filter` wants.
pub async fn find(client: &ClientConfig, filter: &DlqFilter) -> Result<Found> {
    let mut index = Index::new(LETTERS_MAX);
    let mut log = DeadLetterLog::open(client, filter.from.as_ref()).await?;
    while let Some(batch) = log.next().await? {
        let partition = batch.partition();
        if index.more_from.as_ref().is_some_and(|more| more.partition != *partition) {
            break;
        }
        for number in 0..batch.len() {
            if let Some(origin) = dead_letter::origin(&batch.headers(number)) {
                index.add(&origin, partition, batch.record(number).offset, filter);
            }
        }
    }
    Ok(index.found(filter))
}

/// Reads dead-letter topics, one partition after the other.
pub struct DeadLetterLog {
    client: ClientConfig,
    left: VecDeque<(TopicPartition, i64, i64)>,
    reader: Option<Reader>,
}

impl DeadLetterLog {
    /// All of them, or what lies at `from` and behind it, up to their ends of now.
    async fn open(client: &ClientConfig, from: Option<&Place>) -> Result<Self> {
        let admin = Admin::new(client)?;
        let mut partitions = Vec::new();
        for topic in SOURCES.map(dead_letter_topic) {
            partitions.extend(admin.partitions(&topic).await?);
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
    pub async fn next(&mut self) -> Result<Option<MessageBatch>> {
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

/// The last letter of each identity. A mark counts for the letters before it.
#[derive(Debug)]
struct Index {
    letters: HashMap<Identity, Known>,
    letters_max: usize,
    more_from: Option<Place>,
}

#[derive(Debug)]
struct Known {
    partition: TopicPartition,
    offset: i64,
    replayed_ms: Option<i64>,
    has_reason: bool,
}

impl Index {
    fn new(letters_max: usize) -> Self {
        Self { letters: HashMap::new(), letters_max, more_from: None }
    }

    /// Takes note of the letter or mark that lies at `offset` of `partition`.
    fn add(&mut self, origin: &Origin, partition: &TopicPartition, offset: i64, filter: &DlqFilter) {
        if !is_asked_for(origin, filter) {
            return;
        }
        let identity = (origin.partition.clone(), origin.offset, origin.group.clone());
        let has_reason = filter.reason.as_ref().is_none_or(|code| codes(origin).contains(&code.as_str()));
        let has_room = self.letters.len() < self.letters_max;
        match (self.letters.get_mut(&identity), origin.replayed_ms) {
            (Some(known), Some(replayed_ms)) => known.replayed_ms = Some(replayed_ms),
            (Some(known), None) => {
                (known.partition, known.offset, known.has_reason) = (partition.clone(), offset, has_reason);
            }
            (None, Some(_)) => {}
            (None, None) if has_room => {
                let known = Known { partition: partition.clone(), offset, replayed_ms: None, has_reason };
                self.letters.insert(identity, known);
            }
            (None, None) => {
                self.more_from.get_or_insert_with(|| Place { partition: partition.clone(), offset });
            }
        }
    }

    fn found(self, filter: &DlqFilter) -> Found {
        let mut found = Found { more_from: self.more_from, ..Found::default() };
        let wanted = |known: &Known| known.has_reason && (filter.all || known.replayed_ms.is_none());
        for known in self.letters.into_values().filter(wanted) {
            found.letters.entry(known.partition).or_default().insert(known.offset, known.replayed_ms);
        }
        found
    }
}

/// The codes of all reasons of a letter, each once.
pub fn codes(origin: &Origin) -> Vec<&str> {
    let mut codes: Vec<&str> = origin.reason.iter().map(|why| why.code.as_str()).collect();
    codes.extend(origin.rows.iter().map(|refused| refused.why.code.as_str()));
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The record's position, as commands show and take it.
pub fn position(origin: &Origin) -> String {
    format!("{}/{}", origin.partition, origin.offset)
}

fn is_asked_for(origin: &Origin, filter: &DlqFilter) -> bool {
    filter.topic.as_ref().is_none_or(|topic| **topic == *origin.partition.topic)
        && filter.position.as_ref().is_none_or(|asked| *asked == position(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(offset: i64, replayed_ms: Option<i64>) -> Origin {
        Origin {
            group: "g".into(),
            partition: TopicPartition::new("mantis.readings", 0),
            offset,
            timestamp_ms: None,
            reason: None,
            rows: Vec::new(),
            replayed_ms,
        }
    }

    /// Of the letters of records 0, 1, 0 and 2, a mark for 1 and a letter of 3, at offsets from 0 on.
    fn found(letters_max: usize, filter: &DlqFilter) -> Found {
        let mut index = Index::new(letters_max);
        let partition = TopicPartition::new("mantis.readings.dlq", 0);
        let log = [(0, None), (1, None), (0, None), (2, None), (1, Some(7)), (3, None)];
        for (place, (offset, replayed_ms)) in log.into_iter().enumerate() {
            index.add(&origin(offset, replayed_ms), &partition, place as i64, filter);
        }
        index.found(filter)
    }

    fn places(found: &Found) -> Vec<i64> {
        found.letters.values().flat_map(BTreeMap::keys).copied().collect()
    }

    #[test]
    fn letters_collapse_by_identity_and_replayed_ones_are_left_out() {
        let few = found(100, &DlqFilter::default());
        assert_eq!((places(&few), few.more_from), (vec![2, 3, 5], None));
        let all = found(100, &DlqFilter { all: true, ..DlqFilter::default() });
        assert_eq!(all.letters.values().next().map(|letters| letters[&1]), Some(Some(7)));
    }

    #[test]
    fn beyond_the_bound_the_first_letter_left_out_is_named_and_marks_still_count() {
        let bounded = found(2, &DlqFilter::default());
        assert_eq!(places(&bounded), [2]);
        assert_eq!(bounded.more_from.map(|more| more.offset), Some(3));
    }

    #[test]
    fn a_letter_that_is_asked_for_by_position_is_found_beyond_the_bound() {
        let filter = DlqFilter { position: Some("mantis.readings/0/3".into()), ..DlqFilter::default() };
        assert_eq!(places(&found(1, &filter)), [5]);
    }
}
