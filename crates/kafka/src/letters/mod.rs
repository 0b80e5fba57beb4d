//! Finds dead letters by identity, reads them where they lie, and sends them to their topics again. What is held of a letter
//! is small and bounded in number; the letters themselves pass by one batch at a time.

mod log;
mod replay;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    str::FromStr,
};

use mantis_pipeline::{RecordBatch, TopicPartition};

pub use self::{
    log::DeadLetterLog,
    replay::{Sent, replay},
};
use crate::{
    ClientConfig, Error,
    dead_letter::{self, Origin},
};

/// Letters that one search looks at; some 200 bytes are held of each.
pub const LETTERS_MAX: usize = 100_000;

/// Which letters are meant; without any bound all that were not replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those of records of this source topic.
    pub topic: Option<String>,
    /// Only those with this code among their reasons.
    pub reason: Option<String>,
    /// Only those of the record at this position, `topic/partition/offset`.
    pub position: Option<String>,
    /// Also those that were replayed before.
    pub all: bool,
    /// Only letters that lie here or behind it in the dead-letter topics.
    pub from: Option<Place>,
}

impl Filter {
    /// Whether letters of this record are meant at all.
    fn asks_for(&self, origin: &Origin) -> bool {
        self.topic.as_ref().is_none_or(|topic| **topic == *origin.partition.topic)
            && self.position.as_ref().is_none_or(|asked| *asked == position(origin))
    }
}

/// Where a letter lies in a dead-letter topic, as `topic/partition/offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The partition of the dead-letter topic.
    pub partition: TopicPartition,
    /// The letter's offset in it.
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}

/// A text that is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use topic/partition/offset of a dead-letter topic, as the call before said")]
pub struct NoPlace;

impl FromStr for Place {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let mut parts = text.rsplitn(3, '/');
        let offset = parts.next().and_then(|offset| offset.parse().ok());
        let partition = parts.next().and_then(|partition| partition.parse().ok());
        match (parts.next(), partition, offset) {
            (Some(topic), Some(partition), Some(offset)) => Ok(Self { partition: TopicPartition::new(topic, partition), offset }),
            _ => Err(NoPlace),
        }
    }
}

/// The letters that a filter wants, by the place of the last one of each identity.
#[derive(Clone, Debug, Default)]
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

    /// How many are wanted.
    pub fn len(&self) -> usize {
        self.letters.values().map(BTreeMap::len).sum()
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// Keeps the last `letters` of each partition.
    pub fn keep_last(&mut self, letters: usize) {
        for of_partition in self.letters.values_mut() {
            if let Some(first) = of_partition.keys().rev().nth(letters.saturating_sub(1)).copied() {
                *of_partition = of_partition.split_off(&first);
            }
        }
    }
}

/// The letters that `filter` wants.
///
/// # Errors
/// The dead-letter topics cannot be read.
pub async fn find(client: &ClientConfig, filter: &Filter) -> Result<Found, Error> {
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

/// The codes of all reasons of a letter, each once.
pub fn codes(origin: &Origin) -> Vec<&str> {
    let mut codes: Vec<&str> = origin.reason.iter().map(|why| why.code.as_str()).collect();
    codes.extend(origin.rows.iter().map(|refused| refused.why.code.as_str()));
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The record's position, as commands and pages show and take it.
pub fn position(origin: &Origin) -> String {
    format!("{}/{}", origin.partition, origin.offset)
}

/// The group that refused the record, and the record's position.
type Identity = (TopicPartition, i64, String);

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
    fn add(&mut self, origin: &Origin, partition: &TopicPartition, offset: i64, filter: &Filter) {
        if !filter.asks_for(origin) {
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

    fn found(self, filter: &Filter) -> Found {
        let mut found = Found { more_from: self.more_from, ..Found::default() };
        let wanted = |known: &Known| known.has_reason && (filter.all || known.replayed_ms.is_none());
        for known in self.letters.into_values().filter(wanted) {
            found.letters.entry(known.partition).or_default().insert(known.offset, known.replayed_ms);
        }
        found
    }
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
    fn found(letters_max: usize, filter: &Filter) -> Found {
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
        let few = found(100, &Filter::default());
        assert_eq!((places(&few), few.more_from), (vec![2, 3, 5], None));
        let all = found(100, &Filter { all: true, ..Filter::default() });
        assert_eq!(all.letters.values().next().map(|letters| letters[&1]), Some(Some(7)));
    }

    #[test]
    fn beyond_the_bound_the_first_letter_left_out_is_named_and_marks_still_count() {
        let bounded = found(2, &Filter::default());
        assert_eq!(places(&bounded), [2]);
        assert_eq!(bounded.more_from.map(|more| more.offset), Some(3));
    }

    #[test]
    fn a_letter_that_is_asked_for_by_position_is_found_beyond_the_bound() {
        let filter = Filter { position: Some("mantis.readings/0/3".into()), ..Filter::default() };
        assert_eq!(places(&found(1, &filter)), [5]);
    }

    #[test]
    fn the_last_letters_of_each_partition_can_be_kept_alone() {
        let mut few = found(100, &Filter::default());
        few.keep_last(2);
        assert_eq!((places(&few), few.len()), (vec![3, 5], 2));
        few.keep_last(9);
        assert_eq!(few.len(), 2);
    }

    #[test]
    fn a_place_reads_as_it_is_written() {
        let place = Place { partition: TopicPartition::new("mantis.readings.dlq", 3), offset: 42 };
        assert_eq!(place.to_string().parse(), Ok(place));
        for text in ["", "mantis.readings.dlq", "mantis.readings.dlq/3", "mantis.readings.dlq/x/1"] {
            assert_eq!(text.parse::<Place>(), Err(NoPlace), "{text}");
        }
    }
}
