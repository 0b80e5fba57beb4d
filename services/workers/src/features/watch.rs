//! A look into a running features worker, from outside.

use std::sync::{Arc, PoisonError};

use serde::{Deserialize, Serialize};

use super::{Counts, Irregular, sink::Partitions};

/// Sensors that one look gives out at most.
pub const SENSORS_MAX: usize = 100_000;

/// Looks into the worker that it was given to. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Watch(pub(super) Arc<Partitions>);

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
    /// Readings by what became of them, over the partitions that the worker owns, since its process started.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(|held| sum.add(&held.counts()));
        sum
    }

    /// The sensors of the partitions that the worker owns, of one asset or of all, sorted; at most [`SENSORS_MAX`].
    pub async fn sensors(&self, asset: Option<&str>) -> Vec<SensorAccount> {
        let held: Vec<_> = self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut accounts = Vec::new();
        for partition in held {
            partition.look(|state| accounts.extend(state.accounts(asset).take(SENSORS_MAX - accounts.len()))).await;
        }
        accounts.sort_unstable_by(|a, b| (&a.asset, &a.sensor).cmp(&(&b.asset, &b.sensor)));
        accounts
    }
}
