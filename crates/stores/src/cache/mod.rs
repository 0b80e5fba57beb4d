//! Caches: the latest reading of each sensor and the latest feature of each of its windows, for screens that ask often.
//!
//! Idempotency key: (asset, sensor) for readings, (asset, sensor, length of the window) for features. An entry is replaced
//! by what is newer in event time, whatever the order of arrival: a reading by one of at least its time (of two with one
//! time the last by offset wins), a feature by one of a later start, or of the same start and a greater
//! [`rank`](mantis_schemas::Feature::rank). Of a batch only the newest row of each entry is applied, which ends as if all
//! had been.
//!
//! Rows that changed an entry count as written, readings of its time with another value as conflicts, and all others
//! (older, equal, or outdone by another row of their batch) as duplicates.
//!
//! An entry is given out for a time after it was written; then it is as if it had never been there. A cache may forget
//! sooner when it is full. Whatever it forgets is in the stores.

#[cfg(feature = "conformance")]
pub mod conformance;
mod latest;
pub mod memory;

use std::future::Future;

use mantis_pipeline::Fault;
use mantis_schemas::{Feature, Series};

use crate::raw::StoredReading;

/// Reads a cache.
pub trait Cache: Send + Sync {
    /// The latest reading of a sensor.
    fn reading(&self, series: &Series) -> impl Future<Output = Result<Option<StoredReading>, Fault>> + Send;

    /// The latest reading of each sensor of an asset that has one, sorted by sensor.
    fn readings(&self, asset: &str) -> impl Future<Output = Result<Vec<(Series, StoredReading)>, Fault>> + Send;

    /// The latest feature of each window of a sensor, in order of the window's length; 0 stands for frames.
    fn features(&self, series: &Series) -> impl Future<Output = Result<Vec<Feature>, Fault>> + Send;

    /// The sensors of an asset that have a reading or a feature, sorted.
    fn sensors(&self, asset: &str) -> impl Future<Output = Result<Vec<Series>, Fault>> + Send;

    /// What it holds, and what it has forgotten.
    fn counts(&self) -> impl Future<Output = Result<Counts, Fault>> + Send;
}

/// What a cache holds, and what it has forgotten since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries now, those that have just run out too.
    pub entries: u64,
    /// Entries removed because their time had run out.
    pub expired: u64,
    /// Entries removed before their time because the cache was full.
    pub evicted: u64,
}
