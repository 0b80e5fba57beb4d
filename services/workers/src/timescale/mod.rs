//! The timescale worker: every feature, and the slow readings of registered sensors, into the feature store.

mod decode;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

pub use decode::SlowDecoder;
use mantis_kafka::ClientConfig;
use mantis_pipeline::{Fault, Limits, Shutdown, Status};
use mantis_schemas::topics;
use mantis_stores::{
    LedgerIdentity,
    features::{
        FeaturePlace, Retention, Trimmed,
        sqlite::{SqliteConfig, SqliteFeatures},
        timescale::TimescaleFeatures,
    },
};

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
/// Writes to TimescaleDB that are under way at once.
const LANES: usize = 2;

/// The parts of a timescale worker.
#[derive(Debug)]
pub struct Worker {
    /// How Kafka is reached.
    pub client: ClientConfig,
    /// The cluster whose positions the store's ledger keeps.
    pub cluster_id: String,
    /// The store.
    pub store: FeaturePlace,
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
        let retention = move || Retention { from_ns: keep_for.and_then(|age| ns_before(SystemTime::now(), age)) };
        let road = |limits| Road { client: &client, group: GROUP, topics: &TOPICS, limits, status };
        match store {
            FeaturePlace::Sqlite(path) => {
                let store = SqliteFeatures::open(path, decoder.series(), ledger, SqliteConfig::default())?;
                let work = road(limits).run(decoder, Arc::new(store.clone()), shutdown);
                let keep = || async { told(store.retain(retention()).await) };
                beside(work, RETENTION_INTERVAL, keep).await
            }
            FeaturePlace::Timescale(config) => {
                let store = TimescaleFeatures::new(&config, decoder.series(), ledger)?;
                let limits = Limits { lanes_max: LANES, ..limits };
                let work = road(limits).run(decoder, Arc::new(store.clone()), shutdown);
                let keep = || async { told(store.retain(retention()).await) };
                beside(work, RETENTION_INTERVAL, keep).await
            }
        }
    }
}

/// What a retention came to. What fails is tried again at the next turn.
fn told(trimmed: Result<Trimmed, Fault>) {
    match trimmed {
        Ok(trimmed) if trimmed.features + trimmed.readings > 0 => {
            tracing::info!(trimmed.features, trimmed.readings, "feature store trimmed to its bound");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "feature store could not be trimmed"),
    }
}
