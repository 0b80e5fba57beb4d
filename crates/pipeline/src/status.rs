//! What a road is doing, for those who look from outside.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::SystemTime,
};

use crate::{Span, TopicPartition, batch::Tally};

/// A road's shared account of itself. Updated once per batch, never per row.
#[derive(Debug)]
pub struct Status(Mutex<Snapshot>);

/// A road at one moment. Counters only grow, from the start of the process; gauges say so.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What it is doing.
    pub state: State,
    /// Since when it is in this state.
    pub since: SystemTime,
    /// What is in trouble now, by place: `source`, `commit`, `start`, a lane such as `mantis.readings#0`, or a partition
    /// that cannot be read such as `mantis.readings/0`.
    pub troubles: BTreeMap<String, Trouble>,
    /// The last error and when it happened, also after it has passed.
    pub last_error: Option<(String, SystemTime)>,
    /// When the group last took a commit.
    pub last_commit: Option<SystemTime>,
    /// Bytes of source batches and columns held now (a gauge).
    pub held_bytes: usize,
    /// Per topic.
    pub topics: BTreeMap<Arc<str>, TopicStatus>,
}

/// What a road is doing, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Everything that comes is written.
    Running,
    /// Something fails and is tried again.
    Retrying,
    /// Credentials or rights are refused; tried again slowly.
    Paused,
    /// It has ended.
    Stopped,
}

impl State {
    /// A word for people and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// Something that fails and is tried again.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// [`State::Retrying`] or [`State::Paused`].
    pub state: State,
    /// The last error.
    pub error: String,
    /// Since when.
    pub since: SystemTime,
    /// Attempts that failed since then.
    pub attempts: u64,
}

/// Rows of a topic. `rows_in = written + duplicates + conflicts + rejected + in flight + discarded`, the latter summed over its
/// partitions.
#[derive(Clone, Debug, Default)]
pub struct TopicStatus {
    /// Rows that were new to the store.
    pub written: u64,
    /// Rows that the store already had with the same value.
    pub duplicates: u64,
    /// Rows that replaced another value of the same identity.
    pub conflicts: u64,
    /// Per partition that was ever assigned.
    pub partitions: BTreeMap<i32, PartitionStatus>,
}

/// A partition's account: `records_in = records_ended + records_discarded + records_in_flight`, and
/// `rows_in = rows_stored + rows_rejected + rows_discarded + rows_in_flight`.
#[derive(Clone, Debug, Default)]
pub struct PartitionStatus {
    /// What becomes of it.
    pub reading: Reading,
    /// Records that were decoded; those that are read again count again.
    pub records_in: u64,
    /// Records of which every row has ended.
    pub records_ended: u64,
    /// Records that were put back before they ended, to be read again by this worker or by the next owner.
    pub records_discarded: u64,
    /// Records that are decoded and not ended (a gauge).
    pub records_in_flight: u64,
    /// Of the ended ones, those refused as a whole.
    pub records_rejected: u64,
    /// Rows that were decoded, refused ones too.
    pub rows_in: u64,
    /// Rows that the store has: written, duplicate or conflict.
    pub rows_stored: u64,
    /// Rows that were refused one by one, by the decoder or by the store.
    pub rows_rejected: u64,
    /// Rows that were put back with their records.
    pub rows_discarded: u64,
    /// Rows that have not ended (a gauge).
    pub rows_in_flight: u64,
    /// Records that have a dead letter: refused as a whole or with refused rows.
    pub dead_letters: u64,
    /// Offsets that were removed from the log before they could be read.
    pub gap_offsets: u64,
    /// The last such gap: first offset, and the one where reading went on.
    pub last_gap: Option<(i64, i64)>,
    /// The offset up to which everything ended (a gauge).
    pub done: Option<i64>,
    /// The offset that the group knows (a gauge).
    pub committed: Option<i64>,
}

/// What becomes of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Reading {
    /// Another worker owns it, or nobody.
    #[default]
    NotOwned,
    /// Owned; its start position is being found.
    Starting,
    /// Owned and read.
    Reading,
    /// Owned and not read, with the reason and what to do.
    Stopped(String),
}

impl Default for Status {
    fn default() -> Self {
        Self(Mutex::new(Snapshot {
            state: State::Running,
            since: SystemTime::now(),
            troubles: BTreeMap::new(),
            last_error: None,
            last_commit: None,
            held_bytes: 0,
            topics: BTreeMap::new(),
        }))
    }
}

impl Status {
    /// A copy of the present account.
    pub fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    /// Notes that an attempt at `place` failed and will be made again; workers note so what they do beside the road.
    pub fn failed(&self, place: &str, state: State, error: &str) {
        tracing::warn!(place, state = state.name(), error, "an attempt failed and will be made again");
        let now = SystemTime::now();
        let mut snapshot = self.lock();
        let trouble = snapshot.troubles.entry(place.to_owned()).or_insert_with(|| Trouble {
            state,
            error: String::new(),
            since: now,
            attempts: 0,
        });
        trouble.state = state;
        trouble.error = error.to_owned();
        trouble.attempts += 1;
        snapshot.last_error = Some((error.to_owned(), now));
        snapshot.settle(now);
    }

    /// Notes that `place` is well again.
    pub fn recovered(&self, place: &str) {
        let mut snapshot = self.lock();
        if snapshot.troubles.remove(place).is_some() {
            tracing::info!(place, "works again");
            snapshot.settle(SystemTime::now());
        }
    }

    /// Notes the end, with the error if there was one.
    pub(crate) fn stopped(&self, error: Option<String>) {
        let now = SystemTime::now();
        let mut snapshot = self.lock();
        snapshot.state = State::Stopped;
        snapshot.since = now;
        if let Some(error) = error {
            snapshot.last_error = Some((error, now));
        }
    }

    /// Notes bytes held.
    pub(crate) fn held(&self, bytes: usize) {
        self.lock().held_bytes = bytes;
    }

    /// Notes a commit that the group took.
    pub(crate) fn committed(&self, offsets: &[(TopicPartition, i64)]) {
        let mut snapshot = self.lock();
        snapshot.last_commit = Some(SystemTime::now());
        for (partition, offset) in offsets {
            snapshot.partition(partition).committed = Some(*offset);
        }
    }

    /// Notes offsets that can no longer be read.
    pub(crate) fn gap(&self, span: &Span) {
        tracing::error!(partition = %span.partition, from = span.from, next = span.next, "records were removed from the log before they could be read");
        let mut snapshot = self.lock();
        let partition = snapshot.partition(&span.partition);
        partition.gap_offsets += span.next.saturating_sub(span.from).max(0).unsigned_abs();
        partition.last_gap = Some((span.from, span.next));
    }

    /// Changes a partition's account.
    pub(crate) fn partition(&self, partition: &TopicPartition, change: impl FnOnce(&mut PartitionStatus)) {
        change(self.lock().partition(partition));
    }

    /// Changes a topic's account.
    pub(crate) fn topic(&self, topic: &Arc<str>, change: impl FnOnce(&mut TopicStatus)) {
        change(self.lock().topics.entry(topic.clone()).or_default());
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl PartitionStatus {
    /// Records were decoded.
    pub(crate) fn came_in(&mut self, tally: &Tally) {
        self.records_in += tally.records;
        self.records_in_flight += tally.records;
        self.rows_in += tally.rows_in();
        self.rows_in_flight += tally.rows_in();
    }

    /// Their batch ended; `done` is the watermark if the partition is still owned.
    pub(crate) fn ended(&mut self, tally: &Tally, done: Option<i64>) {
        self.land(tally);
        self.records_ended += tally.records;
        self.records_rejected += tally.records_rejected;
        self.rows_stored += tally.rows;
        self.rows_rejected += tally.rows_rejected;
        self.dead_letters += tally.dead_letters;
        self.done = done.or(self.done);
    }

    /// Their batch did not end.
    pub(crate) fn put_back(&mut self, tally: &Tally) {
        self.land(tally);
        self.records_discarded += tally.records;
        self.rows_discarded += tally.rows_in();
    }

    fn land(&mut self, tally: &Tally) {
        self.records_in_flight = self.records_in_flight.saturating_sub(tally.records);
        self.rows_in_flight = self.rows_in_flight.saturating_sub(tally.rows_in());
    }
}

impl Snapshot {
    fn partition(&mut self, partition: &TopicPartition) -> &mut PartitionStatus {
        self.topics.entry(partition.topic.clone()).or_default().partitions.entry(partition.partition).or_default()
    }

    fn settle(&mut self, now: SystemTime) {
        let state = self.troubles.values().map(|trouble| trouble.state).max().unwrap_or(State::Running);
        if state != self.state && self.state != State::Stopped {
            self.state = state;
            self.since = now;
        }
    }
}
