//! What an audit found, for people and machines.

use serde::Serialize;

use super::{
    book::{Matched, Wrong},
    dead_letters::Position,
};

/// The account of one consumer group and its store.
#[derive(Debug, Default, Serialize)]
pub struct Account {
    /// The worker that writes the store: `raw` or `timescale`.
    pub store: &'static str,
    /// The cluster that was read.
    pub cluster_id: String,
    /// The consumer group of the worker.
    pub group: String,
    /// Per partition, what the log holds.
    pub partitions: Vec<PartitionAccount>,
    /// All records of the log below the audited positions.
    pub records: u64,
    /// Records that were decoded, in whole or but for some rows.
    pub records_decoded: u64,
    /// Records that could not be decoded and are in the dead letters, or may have been before retention cut those.
    pub records_dead_lettered: u64,
    /// Rows of all decoded records.
    pub rows: u64,
    /// Rows that were refused and are in the dead letters, or may have been before retention cut those.
    pub rows_rejected: u64,
    /// Rows that the worker does not write: of sensors that are not registered, or too fast for its store.
    pub rows_left_out: u64,
    /// The other rows, matched with the store.
    #[serde(flatten)]
    pub matched: Matched,
    /// Records of the log that the worker has not processed yet; the account does not cover them.
    pub behind: u64,
    /// Refused records and rows without a dead letter.
    pub missing_dead_letters: u64,
    /// Refused records and rows without a dead letter now, of topics whose dead letters no longer begin at their start:
    /// unproved, not wrong.
    pub cut_dead_letters: u64,
    /// Ranges that can no longer be read, or whose fate cannot be known.
    pub unproved: Vec<Unproved>,
    /// The first findings that do not agree, and conflicts by name.
    pub findings: Vec<Finding>,
    /// True when every record and row is where it must be.
    pub adds_up: bool,
    /// True when, besides, nothing is unproved.
    pub proved: bool,
}

/// What the log holds of one partition.
#[derive(Debug, Serialize)]
pub struct PartitionAccount {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// First offset that the log still has.
    pub log_start: i64,
    /// Offset up to which the audit holds the store to account.
    pub audited_to: i64,
    /// Offset after the log's last record.
    pub log_end: i64,
    /// Offset from which on the log could not be read.
    pub unread_from: Option<i64>,
    /// Records read below `audited_to`.
    pub records: u64,
    /// Rows decoded or refused one by one.
    pub rows: u64,
}

/// A range of positions about which nothing can be proved.
#[derive(Debug, Serialize)]
pub struct Unproved {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// First offset of the range.
    pub from: i64,
    /// Offset after the range.
    pub to: i64,
    /// Why, and what to do.
    pub why: String,
}

/// Something that does not agree, by name.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub what: FindingKind,
    /// The row's asset and sensor, where it is a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub series: Option<(String, String)>,
    /// Source time of the row, ns since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_ns: Option<i64>,
    /// Where the log has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum FindingKind {
    /// With a row.
    Row(Wrong),
    /// A refused record or row has no dead letter.
    DeadLetter(MissingDeadLetter),
}

/// The one thing that can be wrong with a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingDeadLetter {
    /// It is not there.
    MissingDeadLetter,
}

impl Account {
    /// Draws the line under the account.
    pub(super) fn conclude(&mut self) {
        let m = &self.matched;
        // Where the log was cut or cannot be read, the records that brought these rows may be gone: unproved, not wrong.
        let cut = self.partitions.iter().any(|partition| partition.log_start > 0 || partition.unread_from.is_some());
        let unexplained = if cut { 0 } else { m.unexplained };
        // What cannot be read may hold the newer value of a row.
        let unread = self.partitions.iter().any(|partition| partition.unread_from.is_some());
        let different = if unread { 0 } else { m.different };
        let wrong = m.missing + different + unexplained + m.stored_twice + self.missing_dead_letters;
        let records_add_up = self.records == self.records_decoded + self.records_dead_lettered;
        let distinct = m.stored + m.trimmed + m.missing + m.different;
        let rows_add_up = self.rows == distinct + m.duplicates + m.conflicts + self.rows_rejected + self.rows_left_out;
        self.adds_up = wrong == 0 && records_add_up && rows_add_up;
        self.behind = self.partitions.iter().map(|p| (p.log_end - p.audited_to).max(0).unsigned_abs()).sum();
        self.proved = self.adds_up && self.unproved.is_empty() && self.matched.trimmed == 0 && self.cut_dead_letters == 0;
    }
}
