//! Settings of the features worker.

use std::time::Duration;

const SECOND_NS: i64 = 1_000_000_000;

/// Most windows that may be configured.
pub const WINDOWS_MAX: usize = 16;

/// What is computed, and how long it is waited for. All bounds are per sensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureConfig {
    /// Lengths of the windows in ns, each aligned to the epoch; at most [`WINDOWS_MAX`].
    pub windows_ns: Vec<i64>,
    /// A reading that is further than this behind its sensor's newest one is too late.
    pub lateness_ns: i64,
    /// Samples of a window that are kept one by one; a window of more is folded into moments. A sensor keeps up to twice as many
    /// for all of its windows and for what may still come late.
    pub samples_max: usize,
    /// After so long without a reading of a sensor its open windows are published early.
    pub idle: Duration,
    /// Longest time between two snapshots of a partition that changes.
    pub snapshot_interval: Duration,
}

impl Default for FeatureConfig {
    fn default() -> Self {
        Self {
            windows_ns: vec![10 * SECOND_NS, 60 * SECOND_NS],
            lateness_ns: 120 * SECOND_NS,
            samples_max: 16_384,
            idle: Duration::from_secs(2),
            snapshot_interval: Duration::from_secs(30),
        }
    }
}
