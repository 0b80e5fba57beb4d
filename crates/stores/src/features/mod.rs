//! Feature stores: condition features under (asset, sensor, length of the window, start of the window), and the slow
//! readings of registered sensors under (asset, sensor, source time), so that both can be joined with what is known of the
//! assets.
//!
//! Of two features with one identity a store keeps the one with the greater [`rank`](Feature::rank), whatever the order in
//! which they come; one that is not greater is a duplicate and changes nothing. A later revision of a window is the normal
//! way and counts as written. Readings are kept as a raw store keeps them: another value replaces the stored one and is a
//! conflict.
//!
//! Rejected are: times outside of -9223372036854775806..=9223372036854775806 ns, a coverage that is not finite, counts that
//! are negative or whose sum is beyond 64 bits, and extras that are not a JSON object of numbers.

mod any;
mod columns;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod sqlite;
pub mod timescale;

use std::{future::Future, ops::Range};

use mantis_pipeline::Fault;
use mantis_schemas::{Feature, Series};

use crate::ReadingReader;

pub use any::{AnyFeatureReader, FeatureOpenError, FeaturePlace};

/// Reads a feature store: for queries, for the filling of a cache, for audits and tests. Pages and times are those
/// of [`ReadingReader`].
pub trait FeatureReader: ReadingReader {
    /// Lengths of the windows that a series has features of, ascending, ns; 0 stands for frames.
    fn windows(&self, series: &Series) -> impl Future<Output = Result<Vec<i64>, Fault>> + Send;

    /// Features of one length of window of a series in order of start, at most `limit`.
    fn features(
        &self,
        series: &Series,
        window_ns: i64,
        start_ns: Range<i64>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Feature>, Fault>> + Send;

    /// The feature with the latest start of each length of window of a series, in order of length.
    fn latest(&self, series: &Series) -> impl Future<Output = Result<Vec<Feature>, Fault>> + Send;

    /// The feature with the latest start of each series and length of window, sorted by (asset, sensor, length), at most
    /// `limit`, behind `after`: what a cache is filled with.
    fn newest_features(
        &self,
        after: Option<(&Series, i64)>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Series, Feature)>, Fault>> + Send;
}

/// What to keep. Without a bound everything is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Windows and frames that start before this time, and readings of before it, are deleted; ns since the epoch.
    pub from_ns: Option<i64>,
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Features.
    pub features: usize,
    /// Readings.
    pub readings: usize,
}
