//! Every bound of the road, in one place.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The road's bounds. The defaults suit one worker beside others on a small machine.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Rows at which a batch is written. The record that reaches it is taken whole.
    pub rows_max: usize,
    /// Bytes of records, columns and refusals at which a batch is written. The record that reaches it is taken whole.
    pub bytes_max: usize,
    /// How long the first row of a batch waits for company.
    pub linger_ms: u64,
    /// Writes under way at once: 1 for a store with a single writer. Partition `p` of a topic goes down lane `p % lanes_max`.
    pub lanes_max: usize,
    /// Bytes of source batches and columns held at which nothing more is taken in. What is being decoded then is taken whole:
    /// one source batch and its columns. A lane that is stuck holds about twice [`bytes_max`](Self::bytes_max) and a source
    /// batch, so with room for that in every lane a stuck one does not stop the others.
    pub held_bytes_max: usize,
    /// How long the road stops asking the source while it cannot take records. Only then it pauses partitions, because a
    /// paused consumer throws its prefetch away; meanwhile rebalances wait, so this stays far below the session timeout.
    pub stall_pause_ms: u64,
    /// How often progress is committed.
    pub commit_interval_ms: u64,
    /// How long a revoked partition waits for its writes under way; far below the group's rebalance timeout.
    pub release_wait_ms: u64,
    /// How long a shutdown may take to write what was read.
    pub shutdown_wait_ms: u64,
    /// Bytes of dead letters that are copied and sent at once. A larger letter is sent alone.
    pub letters_bytes_max: usize,
    /// How faults are retried.
    pub retry: Retry,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rows_max: 50_000,
            bytes_max: 8 << 20,
            linger_ms: 20,
            lanes_max: 1,
            held_bytes_max: 64 << 20,
            stall_pause_ms: 2_000,
            commit_interval_ms: 1_000,
            release_wait_ms: 10_000,
            shutdown_wait_ms: 10_000,
            letters_bytes_max: 1 << 20,
            retry: Retry::default(),
        }
    }
}

/// The one retry policy. The number of attempts is not bounded: nothing is dropped because a store is away for long.
#[derive(Clone, Debug)]
pub struct Retry {
    /// Wait after the first fault; doubles with each further one, less a random part of up to a half.
    pub first_ms: u64,
    /// Longest wait that the doubling reaches.
    pub max_ms: u64,
    /// Wait between attempts while credentials are refused.
    pub credentials_ms: u64,
    /// Longest wait that a store may ask for (Retry-After).
    pub retry_after_max_ms: u64,
    /// Seed of the random part: chance by default, fixed in simulations.
    pub seed: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            first_ms: 100,
            max_ms: 30_000,
            credentials_ms: 30_000,
            retry_after_max_ms: 300_000,
            seed: RandomState::new().hash_one("retry"),
        }
    }
}

impl Limits {
    pub(crate) fn linger(&self) -> Duration {
        Duration::from_millis(self.linger_ms)
    }

    pub(crate) fn stall_pause(&self) -> Duration {
        Duration::from_millis(self.stall_pause_ms)
    }

    pub(crate) fn commit_interval(&self) -> Duration {
        Duration::from_millis(self.commit_interval_ms)
    }

    pub(crate) fn release_wait(&self) -> Duration {
        Duration::from_millis(self.release_wait_ms)
    }

    pub(crate) fn shutdown_wait(&self) -> Duration {
        Duration::from_millis(self.shutdown_wait_ms)
    }
}
