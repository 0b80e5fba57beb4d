//! A look into a running features worker, from outside.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Counts, Irregular, StateSize, owned::Owned};

/// Sensors that one look gives out at most.
pub const SENSORS_MAX: usize = 100_000;

/// Looks into the worker that it was given to. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watch(pub(super) Arc<Owned>);

/// What the worker holds, and where its snapshots lie.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateAccount {
    /// What it holds now.
    #[serde(flatten)]
    pub size: StateSize,
    /// Bytes that this may take.
    pub bytes_max: usize,
    /// Snapshots that were written, since the start of the process.
    pub snapshots_written: u64,
    /// Snapshots that could not be written and were tried again.
    pub snapshots_failed: u64,
    /// The newest snapshot of each partition that has one, by partition.
    pub snapshots: Vec<SnapshotAccount>,
}

/// A partition's newest snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotAccount {
    /// The partition of the readings.
    pub partition: i32,
    /// Readings before this offset are in it.
    pub offset: i64,
    /// When it was written, ms since the epoch.
    pub written_ms: i64,
}

/// What a sensor's state says of how its readings come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SensorAccount {
    /// The asset.
    pub asset: String,
    /// The sensor's name within the asset.
    pub sensor: String,
    /// Source time of the newest reading, ns since the epoch.
    pub newest_ns: i64,
    /// What did not come once and in time.
    #[serde(flatten)]
    pub irregular: Irregular,
    /// True if its asset belongs on another partition: its sender has another partitioner than `murmur2_random`.
    pub misplaced: bool,
}

impl Watch {
    /// A look into a worker whose state may take so many bytes.
    pub fn new(state_bytes_max: usize) -> Self {
        Self(Arc::new(Owned::new(state_bytes_max)))
    }

    /// Readings by what became of them, over the partitions that the worker owns, since it has owned them.
    pub fn counts(&self) -> Counts {
        self.0.counts()
    }

    /// What the worker holds, and where its snapshots lie.
    pub fn state(&self) -> StateAccount {
        self.0.state()
    }

    /// The sensors of the partitions that the worker owns, of one asset or of all, sorted; at most [`SENSORS_MAX`].
    pub async fn sensors(&self, asset: Option<&str>) -> Vec<SensorAccount> {
        let mut accounts = Vec::new();
        for held in self.0.all() {
            held.look(|state| accounts.extend(state.accounts(asset).take(SENSORS_MAX - accounts.len()))).await;
        }
        accounts.sort_unstable_by(|a, b| (&a.asset, &a.sensor).cmp(&(&b.asset, &b.sensor)));
        accounts
    }
}
