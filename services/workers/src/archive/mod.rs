//! The archive worker: everything that goes through the topics into Parquet objects.

mod decode;
mod verify;

use std::sync::Arc;

pub use decode::ArchiveDecoder;
use mantis_kafka::ClientConfig;
use mantis_pipeline::{Limits, Shutdown, Status};
use mantis_schemas::topics;
use mantis_stores::archive::{
    ArchiveStore,
    chain::{Chain, ChainConfig, LANES_MAX},
};
pub use verify::{Finding, LogSide, PartitionReport, Report, VerifyError, Wrong, verify};

use crate::{
    WorkerError,
    road::{Road, ending_with},
};

/// The worker's consumer group.
pub const GROUP: &str = "mantis-archive";

/// The topics it reads: all but compacted ones, and their dead letters.
pub fn topics() -> Vec<String> {
    let read = || topics::SOURCES.into_iter().chain([topics::FEATURES]);
    read().map(str::to_owned).chain(read().map(topics::dead_letter)).collect()
}

/// The parts of an archive worker.
#[derive(Debug)]
pub struct Worker<S> {
    /// How Kafka is reached.
    pub client: ClientConfig,
    /// Where objects go.
    pub store: S,
    /// When rows become an object, and whose positions they have.
    pub chain: ChainConfig,
    /// Turns records into rows.
    pub decoder: ArchiveDecoder,
    /// The road's bounds; its lanes are the archive's own.
    pub limits: Limits,
    /// The worker's account of itself.
    pub status: Arc<Status>,
}

impl<S: ArchiveStore> Worker<S> {
    /// Works until `shutdown`, or until going on would be wrong.
    ///
    /// # Errors
    /// Kafka's settings cannot be used, an end of the road has failed for good, or the archive holds other records than the
    /// log.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), WorkerError> {
        let Self { client, store, chain, decoder, limits, status } = self;
        let chain = Chain::new(store, decoder.series(), chain);
        let limits = Limits { lanes_max: LANES_MAX, ..limits };
        let topics = topics();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        // Where a cut by age would make a chain wrong, the road has to end as well.
        let (cuts, stop) = (chain.clone(), shutdown.child_token());
        let cutting = ending_with(shutdown.clone(), async move { cuts.run(stop).await });
        let road = Road { client: &client, group: GROUP, topics: &topics, limits, status };
        let ended = road.run(decoder, Arc::new(chain), shutdown).await;
        cutting.abort();
        let cut = cutting.await.unwrap_or(Ok(()));
        ended?;
        Ok(cut?)
    }
}
