//! The raw worker: every reading and frame into the raw store.

mod decode;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use decode::RecordDecoder;
use mantis_kafka::ClientConfig;
use mantis_pipeline::{Limits, Shutdown, Status};
use mantis_schemas::topics;
use mantis_stores::raw::{
    RawPlace,
    influx::InfluxRaw,
    sqlite::{LedgerIdentity, Retention, SqliteConfig, SqliteRaw},
};

pub use crate::WorkerError;
use crate::road::{Road, beside, ns_before};

/// The worker's consumer group.
pub const GROUP: &str = "mantis-raw";
/// The topics it reads.
pub const TOPICS: [&str; 2] = [topics::READINGS, topics::WAVEFORMS];
/// How often the store's retention runs.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// What the store keeps. Without a bound everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// How far a source time may lie behind the clock of this machine.
    pub age_max: Option<Duration>,
    /// Bytes that readings and frames may take.
    pub bytes_max: Option<u64>,
}

impl Kept {
    /// The store's bounds at a moment. The clock decides on what is kept, never on what a reading means.
    fn at(self, now: SystemTime) -> Retention {
        Retention { from_ns: self.age_max.and_then(|age| ns_before(now, age)), bytes_max: self.bytes_max }
    }
}

/// The parts of a raw worker.
#[derive(Debug)]
pub struct Worker {
    /// How Kafka is reached.
    pub client: ClientConfig,
    /// The cluster whose positions the embedded store's ledger keeps.
    pub cluster_id: String,
    /// The store.
    pub store: RawPlace,
    /// What the embedded store keeps.
    pub kept: Kept,
    /// Turns records into rows.
    pub decoder: RecordDecoder,
    /// The road's bounds.
    pub limits: Limits,
    /// The worker's account of itself.
    pub status: Arc<Status>,
}

impl Worker {
    /// Works until `shutdown`, or until going on would be wrong.
    ///
    /// # Errors
    /// The store cannot be opened, Kafka's settings cannot be used, or an end of the road has failed for good.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), WorkerError> {
        let Self { client, cluster_id, store, kept, decoder, limits, status } = self;
        let road = Road { client: &client, group: GROUP, topics: &TOPICS, limits, status };
        let path = match store {
            RawPlace::Sqlite(path) => path,
            RawPlace::Influx(config) => {
                let sink = InfluxRaw::new(&config, decoder.series())?;
                return road.run(decoder, Arc::new(sink), shutdown).await;
            }
        };
        let ledger = LedgerIdentity { cluster_id, group: GROUP.to_owned() };
        let store = SqliteRaw::open(path, decoder.series(), ledger, SqliteConfig::default())?;
        beside(road.run(decoder, Arc::new(store.clone()), shutdown), RETENTION_INTERVAL, || keep(store.clone(), kept)).await
    }
}

/// Holds the store to its bounds. What fails is tried again at the next turn.
async fn keep(store: SqliteRaw, kept: Kept) {
    match store.retain(kept.at(SystemTime::now())).await {
        Ok(trimmed) if trimmed.readings + trimmed.frames > 0 => {
            tracing::info!(trimmed.readings, trimmed.frames, "raw store trimmed to its bounds");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "raw store could not be trimmed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_age_is_not_kept_and_without_an_age_everything_is() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100 * 86_400);
        let month = Kept { age_max: Some(Duration::from_secs(30 * 86_400)), bytes_max: Some(7) };
        assert_eq!(month.at(now), Retention { from_ns: Some(70 * 86_400 * 1_000_000_000), bytes_max: Some(7) });
        assert_eq!(Kept::default().at(now), Retention::default());
        let century = Kept { age_max: Some(Duration::from_secs(36_500 * 86_400)), bytes_max: None };
        assert_eq!(century.at(now), Retention::default());
    }
}
