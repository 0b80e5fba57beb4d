//! The timescale worker: every feature, and the slow readings of registered sensors, into the feature store.

mod decode;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use decode::SlowDecoder;
use mantis_kafka::ClientConfig;
use mantis_pipeline::{Limits, Shutdown, Status};
use mantis_schemas::topics;
use mantis_stores::features::sqlite::{LedgerIdentity, Retention, SqliteConfig, SqliteFeatures};

use crate::{
    WorkerError,
    road::{Road, beside, ns_before},
};

/// The worker's consumer group.
pub const GROUP: &str = "mantis-timescale";
/// The topics it reads.
pub const TOPICS: [&str; 2] = [topics::FEATURES, topics::READINGS];
/// How often the store's retention runs.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// The parts of a timescale worker with the embedded store.
#[derive(Debug)]
pub struct Worker {
    /// How Kafka is reached.
    pub client: ClientConfig,
    /// The cluster whose positions the store's ledger keeps.
    pub cluster_id: String,
    /// The store's file.
    pub store: PathBuf,
    /// How old features and readings may become by their source time before they are deleted; absent: they are kept.
    pub keep_for: Option<Duration>,
    /// Turns records into rows.
    pub decoder: SlowDecoder,
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
        let Self { client, cluster_id, store, keep_for, decoder, limits, status } = self;
        let ledger = LedgerIdentity { cluster_id, group: GROUP.to_owned() };
        let store = SqliteFeatures::open(store, decoder.series(), ledger, SqliteConfig::default())?;
        let road = Road { client: &client, group: GROUP, topics: &TOPICS, limits, status };
        beside(road.run(decoder, Arc::new(store.clone()), shutdown), RETENTION_INTERVAL, || keep(store.clone(), keep_for)).await
    }
}

/// Holds the store to its bound. What fails is tried again at the next turn.
async fn keep(store: SqliteFeatures, keep_for: Option<Duration>) {
    let from_ns = keep_for.and_then(|age| ns_before(SystemTime::now(), age));
    match store.retain(Retention { from_ns }).await {
        Ok(trimmed) if trimmed.features + trimmed.readings > 0 => {
            tracing::info!(trimmed.features, trimmed.readings, "feature store trimmed to its bound");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "feature store could not be trimmed"),
    }
}
