//! The cache worker: the latest reading and features of every sensor into the cache.

mod fill;

use std::sync::Arc;

use mantis_kafka::ClientConfig;
use mantis_pipeline::{Limits, Shutdown, Status};
use mantis_schemas::topics;
use mantis_stores::{cache::memory::MemoryCache, features::FeaturePlace, raw::RawPlace};

pub use crate::decode::ValueDecoder;
use crate::{WorkerError, road::Road};

/// The worker's consumer group.
pub const GROUP: &str = "mantis-cache";
/// The topics it reads.
pub const TOPICS: [&str; 2] = [topics::FEATURES, topics::READINGS];

/// The road's bounds: a value is to be seen soon, and writing it costs next to nothing.
pub fn limits() -> Limits {
    Limits { linger_ms: 2, ..Limits::default() }
}

/// The parts of a cache worker with the embedded cache.
#[derive(Debug)]
pub struct Worker {
    /// How Kafka is reached.
    pub client: ClientConfig,
    /// The cluster whose positions the stores' ledgers keep.
    pub cluster_id: String,
    /// The cache; its clones are read by others.
    pub cache: MemoryCache,
    /// The raw store that the cache is filled from at the start, if it is there.
    pub raw: RawPlace,
    /// The feature store that the cache is filled from at the start, if it is there.
    pub features: FeaturePlace,
    /// Turns records into rows.
    pub decoder: ValueDecoder,
    /// The road's bounds.
    pub limits: Limits,
    /// The worker's account of itself.
    pub status: Arc<Status>,
}

impl Worker {
    /// Fills the cache with what the stores have, then works until `shutdown`, or until going on would be wrong.
    ///
    /// What lies in the log behind the stores is read from there, whatever was committed; what comes twice, the guard of the
    /// cache sorts out.
    ///
    /// # Errors
    /// A store cannot be opened or read, Kafka's settings cannot be used, or an end of the road has failed for good.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), WorkerError> {
        let Self { client, cluster_id, cache, raw, features, decoder, limits, status } = self;
        let seeded = tokio::select! {
            filled = fill::from_stores(&cache, &raw, &features, &cluster_id) => filled?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let sink = cache.sink(decoder.series(), seeded);
        Road { client: &client, group: GROUP, topics: &TOPICS, limits, status }.run(decoder, Arc::new(sink), shutdown).await
    }
}
