//! The oldest rows of all series, in order of source time.
//!
//! Rows lie by series, so this is a merge of them: one seek per series to begin with, and then only the series whose rows are
//! the oldest are read, in growing steps.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use rusqlite::{Statement, Transaction, params};

/// What a reading takes in the file, about.
const READING_BYTES: i64 = 32;
/// Rows of one series that are read ahead at most.
const AHEAD_ROWS_MAX: i64 = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Reading,
    Frame,
}

/// A row that could be deleted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) kind: Kind,
    /// Source time of the reading, start of the frame.
    pub(super) time_ns: i64,
    /// What it takes in the file, about.
    pub(super) bytes: u64,
}

/// Gives the rows out, oldest first.
pub(super) struct Oldest<'t> {
    readings: Statement<'t>,
    frames: Statement<'t>,
    /// The first row of each queue that has one.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
    queues: Vec<Queue>,
}

/// The rows of one kind of one series.
struct Queue {
    kind: Kind,
    series: i64,
    ahead: VecDeque<(i64, u64)>,
    step: i64,
}

impl<'t> Oldest<'t> {
    pub(super) fn new(transaction: &'t Transaction<'_>) -> rusqlite::Result<Self> {
        let readings =
            format!("SELECT time_ns, {READING_BYTES} FROM readings WHERE series = ?1 AND time_ns > ?2 ORDER BY time_ns LIMIT ?3");
        let mut oldest = Self {
            readings: transaction.prepare(&readings)?,
            frames: transaction.prepare(
                "SELECT start_ns, length(samples) FROM frames WHERE series = ?1 AND start_ns > ?2 ORDER BY start_ns LIMIT ?3",
            )?,
            heads: BinaryHeap::new(),
            queues: Vec::new(),
        };
        let mut ids = transaction.prepare("SELECT id FROM series")?;
        let mut ids = ids.query([])?;
        while let Some(id) = ids.next()? {
            let series = id.get(0)?;
            for kind in [Kind::Reading, Kind::Frame] {
                oldest.add(Queue { kind, series, ahead: VecDeque::new(), step: 1 })?;
            }
        }
        Ok(oldest)
    }

    pub(super) fn next(&mut self) -> rusqlite::Result<Option<Row>> {
        let Some(Reverse((time_ns, number))) = self.heads.pop() else { return Ok(None) };
        let Some(queue) = self.queues.get_mut(number) else { return Ok(None) };
        let bytes = queue.ahead.pop_front().map_or(0, |(_, bytes)| bytes);
        let kind = queue.kind;
        if queue.ahead.is_empty() {
            queue.fill(&mut self.readings, &mut self.frames, time_ns)?;
        }
        if let Some((next_ns, _)) = queue.ahead.front() {
            self.heads.push(Reverse((*next_ns, number)));
        }
        Ok(Some(Row { kind, time_ns, bytes }))
    }

    /// Takes a new queue in, if it has rows.
    fn add(&mut self, mut queue: Queue) -> rusqlite::Result<()> {
        // Times that can be stored begin above it.
        queue.fill(&mut self.readings, &mut self.frames, i64::MIN)?;
        if let Some((first_ns, _)) = queue.ahead.front() {
            self.heads.push(Reverse((*first_ns, self.queues.len())));
            self.queues.push(queue);
        }
        Ok(())
    }
}

impl Queue {
    fn fill<'t>(&mut self, readings: &mut Statement<'t>, frames: &mut Statement<'t>, after_ns: i64) -> rusqlite::Result<()> {
        let statement = if self.kind == Kind::Reading { readings } else { frames };
        let mut rows = statement.query(params![self.series, after_ns, self.step])?;
        while let Some(row) = rows.next()? {
            self.ahead.push_back((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0)));
        }
        self.step = (self.step * 2).min(AHEAD_ROWS_MAX);
        Ok(())
    }
}
