//! Which records and rows the dead letters account for.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use mantis_pipeline::TopicPartition;
use serde::Serialize;

/// A position in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Position {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

/// The dead letters of a consumer group.
#[derive(Debug, Default)]
pub(super) struct DeadLetters {
    /// By the partition they came from.
    pub(super) refused: HashMap<TopicPartition, Refused>,
    /// The source topics whose dead letters no longer begin at their start: some may be gone.
    pub(super) cut: HashSet<String>,
}

/// What the dead letters of one source partition say: by offset, the whole record or some of its rows.
#[derive(Debug, Default)]
pub(super) struct Refused {
    whole: HashSet<i64>,
    rows: HashMap<i64, HashSet<u32>>,
}

impl Refused {
    /// A letter; without rows the whole record was refused.
    pub(super) fn add(&mut self, offset: i64, rows: impl IntoIterator<Item = u32>) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            self.whole.insert(offset);
        } else {
            self.rows.entry(offset).or_default().extend(rows);
        }
    }

    /// Whether the record as a whole is in the dead letters.
    pub(super) fn has_record(&self, offset: i64) -> bool {
        self.whole.contains(&offset)
    }

    /// Whether this row is in the dead letters, by itself or with its record.
    pub(super) fn has_row(&self, offset: i64, row: u32) -> bool {
        self.whole.contains(&offset) || self.rows.get(&offset).is_some_and(|rows| rows.contains(&row))
    }
}
