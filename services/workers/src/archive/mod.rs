//! The archive worker: everything that goes through the topics into Parquet objects.

mod decode;
mod verify;

use std::sync::Arc;

pub use decode::ArchiveDecoder;
use mantis_kafka::{ClientConfig, Consumer, ConsumerConfig, DeadLetterProducer};
use mantis_pipeline::{Fault, Limits, Shutdown, Status, Stopped};
use mantis_schemas::topics;
use mantis_stores::archive::{
    ArchiveStore,
    chain::{Chain, ChainConfig, LANES_MAX},
};
use tokio::task::JoinHandle;
pub use verify::{Finding, LogSide, PartitionReport, Report, VerifyError, Wrong, verify};

/// The worker's consumer group.
pub const GROUP: &str = "mantis-archive";

/// The topics it reads: all but compacted ones, and their dead letters.
pub fn topics() -> Vec<String> {
    let read = || topics::SOURCES.into_iter().chain([topics::FEATURES]);
    read().map(str::to_owned).chain(read().map(topics::dead_letter)).collect()
}

/// Why the archive worker could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Kafka's client could not be made.
    #[error(transparent)]
    Kafka(#[from] mantis_kafka::Error),
    /// Going on would have been wrong.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// An object could not be added to its chain.
    #[error(transparent)]
    Archive(#[from] Fault),
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
        let source = Consumer::new(&client, &ConsumerConfig::new(GROUP, topics()))?;
        let dead_letters = Arc::new(DeadLetterProducer::new(&client, GROUP)?);
        let cutting = cut(chain.clone(), shutdown.child_token(), shutdown.clone());
        let ended = mantis_pipeline::run(source, decoder, Arc::new(chain), dead_letters, limits, status, shutdown).await;
        cutting.abort();
        let cut = cutting.await.unwrap_or(Ok(()));
        ended?;
        Ok(cut?)
    }
}

/// Cuts by age beside the road; where that would make a chain wrong, the road has to end as well.
fn cut<S: ArchiveStore>(chain: Chain<S>, shutdown: Shutdown, road: Shutdown) -> JoinHandle<Result<(), Fault>> {
    tokio::spawn(async move {
        let ended = chain.run(shutdown).await;
        if ended.is_err() {
            road.cancel();
        }
        ended
    })
}
