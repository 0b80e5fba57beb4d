//! What all stores with readings can be asked for.

use std::{future::Future, ops::Range};

use mantis_pipeline::Fault;
use mantis_schemas::Series;

use crate::raw::StoredReading;

/// Reads the readings of a store, and how far it is. Pages are bounded; the next page starts behind the last time of the one
/// before. Times are half open: `from <= time < to`.
pub trait ReadingReader: Send + Sync {
    /// All series that have rows of any kind, sorted by (asset, sensor).
    fn series(&self) -> impl Future<Output = Result<Vec<Series>, Fault>> + Send;

    /// Readings of a series in order of time, at most `limit`.
    fn readings(
        &self,
        series: &Series,
        time_ns: Range<i64>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredReading>, Fault>> + Send;

    /// The ledger of a consumer group on a cluster: (topic, partition, next offset); empty for stores that keep none.
    fn ledger(&self, cluster_id: &str, group: &str) -> impl Future<Output = Result<Vec<(String, i32, i64)>, Fault>> + Send;

    /// Whether it keeps a ledger. Where it does not, it holds what its worker's group has committed.
    fn keeps_ledger(&self) -> bool {
        true
    }

    /// Time from which a retention keeps rows, if one has deleted any: what is missing before it was deleted on purpose,
    /// what is missing from then on was lost.
    fn retained_from(&self) -> impl Future<Output = Result<Option<i64>, Fault>> + Send;
}
