//! The raw worker: every reading and frame into the raw store.

mod decode;

use std::{path::PathBuf, sync::Arc, time::Duration};

pub use decode::RecordDecoder;
use mantis_kafka::ClientConfig;
use mantis_pipeline::{Limits, Shutdown, Status};
use mantis_schemas::topics;
use mantis_stores::raw::sqlite::{LedgerIdentity, Retention, SqliteConfig, SqliteRaw};

pub use crate::WorkerError;
use crate::road::{Road, beside};

/// The worker's consumer group.
pub const GROUP: &str = "mantis-raw";
/// The topics it reads.
pub const TOPICS: [&str; 2] = [topics::READINGS, topics::WAVEFORMS];
/// How often the store's retention runs.
const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// The parts of a raw worker with the embedded store.
#[derive(Debug)]
pub struct Worker {
    /// How Kafka is reached.
    pub client: ClientConfig,
    /// The cluster whose positions the store's ledger keeps.
    pub cluster_id: String,
    /// The store's file.
    pub store: PathBuf,
    /// What the store keeps.
    pub retention: Retention,
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
        let Self { client, cluster_id, store, retention, decoder, limits, status } = self;
        let ledger = LedgerIdentity { cluster_id, group: GROUP.to_owned() };
        let store = SqliteRaw::open(store, decoder.series(), ledger, SqliteConfig::default())?;
        let road = Road { client: &client, group: GROUP, topics: &TOPICS, limits, status };
        beside(road.run(decoder, store.clone(), shutdown), RETENTION_INTERVAL, || keep(store.clone(), retention)).await
    }
}

/// Holds the store to its bounds. What fails is tried again at the next turn.
async fn keep(store: SqliteRaw, retention: Retention) {
    match store.retain(retention).await {
        Ok(trimmed) if trimmed.readings + trimmed.frames > 0 => {
            tracing::info!(trimmed.readings, trimmed.frames, "raw store trimmed to its bounds");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "raw store could not be trimmed"),
    }
}
