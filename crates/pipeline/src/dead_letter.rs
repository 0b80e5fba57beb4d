//! What could not be written, kept whole.

use std::future::Future;

use crate::{Fault, Header, Reason, RowReject, TopicPartition};

/// A record that could not be decoded, or of which rows were refused: whole, with the reasons.
/// (consumer group, topic, partition, offset) is its identity; sending it twice is harmless. Where the decoder refused rows of
/// a record and the store others, a second letter follows that names both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where the record was read.
    pub partition: TopicPartition,
    /// Its position there.
    pub offset: i64,
    /// Its timestamp in ms since the epoch.
    pub timestamp_ms: Option<i64>,
    /// Its key, unchanged.
    pub key: Option<Vec<u8>>,
    /// Its value, unchanged.
    pub payload: Option<Vec<u8>>,
    /// Its headers, unchanged.
    pub headers: Vec<Header>,
    /// Why the whole record was refused; `None` when only some of its rows were.
    pub reason: Option<Reason>,
    /// The refused rows, in order; empty when the record as a whole was refused.
    pub rows: Vec<RowReject>,
}

/// Keeps dead letters.
pub trait DeadLetters: Send + Sync + 'static {
    /// Returns when every letter is durable. If it cannot be, the partitions of the letters wait: nothing is dropped.
    ///
    /// A letter that is too large for where it should go is [`Fault::Retry`] with the setting to raise: its lane waits and
    /// says so, other lanes go on, and it goes on once the setting is raised. The record itself must never be cut; reasons may
    /// be shortened.
    fn send(&self, letters: &[DeadLetter]) -> impl Future<Output = Result<(), Fault>> + Send;
}
