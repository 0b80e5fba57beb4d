//! From records to columns.

use std::{borrow::Cow, fmt};

use crate::{Header, Record};

/// Why a record or a row was refused: a stable code for metrics and lists, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Stable, kebab-case, from a small set: a metric label.
    pub code: &'static str,
    /// What happened, to what, and what to do.
    pub detail: Cow<'static, str>,
}

impl Reason {
    /// A reason from its code and sentence.
    pub fn new(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into() }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

/// A refused row of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowReject {
    /// The row's index in the record as its sender wrote it, from 0, refused rows counted too.
    pub row: u32,
    /// Why.
    pub reason: Reason,
}

/// Rows as columns. Reused from batch to batch: clearing keeps the memory.
pub trait Columns: Send + Sync + 'static {
    /// Number of rows.
    fn rows(&self) -> usize;
    /// True without rows.
    fn is_empty(&self) -> bool {
        self.rows() == 0
    }
    /// Keeps the first `rows` rows.
    fn truncate(&mut self, rows: usize);
    /// Bytes that the rows take, for the road's bound.
    fn bytes(&self) -> usize;
}

/// Turns a record's payload into rows of columns, in place. Pure: the same record and configuration give the same
/// rows and rejects at any time, on any machine, so that a replay and an audit decide as the worker did.
pub trait Decoder: Send + 'static {
    /// What it writes into.
    type Columns: Columns;

    /// Empty columns for a new batch of records of `topic`. Batches never mix topics.
    fn columns(&self, topic: &str) -> Self::Columns;

    /// Appends the good rows of `record` to `into` and its refused rows to `rejects`, in order of row.
    ///
    /// # Errors
    /// The record as a whole could not be read. The road then drops what was appended and dead-letters the record.
    fn decode(&mut self, record: &Record<'_>, into: &mut Self::Columns, rejects: &mut Vec<RowReject>) -> Result<(), Reason>;

    /// As [`decode`](Self::decode), for decoders that need the record's headers: these are copied when they are asked for.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    fn decode_with_headers(
        &mut self,
        record: &Record<'_>,
        _headers: impl FnOnce() -> Vec<Header>,
        into: &mut Self::Columns,
        rejects: &mut Vec<RowReject>,
    ) -> Result<(), Reason> {
        self.decode(record, into, rejects)
    }
}
