//! The bounds of a chain.

use std::time::Duration;

/// How often it is looked what has waited for too long or is to be tried again.
pub(super) const TURN: Duration = Duration::from_secs(1);
/// Wait before an object that could not be written is tried again, where the store asked for nothing else.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// When rows become an object. Whichever bound is met first cuts.
#[derive(Clone, Debug)]
pub struct ChainConfig {
    /// The id of the Kafka cluster that positions belong to.
    pub cluster_id: String,
    /// Rows of an object at which it is cut. The batch that reaches it is taken whole.
    pub rows_max: usize,
    /// Bytes of rows in memory at which an object is cut. The batch that reaches it is taken whole.
    pub bytes_max: usize,
    /// How long a row waits at most to be durable here, and with it the group's offset.
    pub age_ms_max: u64,
    /// Bytes of rows held over all partitions at which the largest object is cut before its time.
    pub held_bytes_max: usize,
    /// Objects that are made at a time.
    pub writes_max: usize,
}

impl ChainConfig {
    /// The defaults: objects of up to 500,000 rows, 32 MiB and ten minutes; 128 MiB in all.
    pub fn new(cluster_id: impl Into<String>) -> Self {
        Self {
            cluster_id: cluster_id.into(),
            rows_max: 500_000,
            bytes_max: 32 << 20,
            age_ms_max: 600_000,
            held_bytes_max: 128 << 20,
            writes_max: 2,
        }
    }

    pub(super) fn age(&self) -> Duration {
        Duration::from_millis(self.age_ms_max)
    }
}
