//! What every worker does: its road, and what runs beside it.

use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};

use mantis_kafka::{ClientConfig, Consumer, ConsumerConfig, DeadLetterProducer};
use mantis_pipeline::{Decoder, Fault, Limits, Shutdown, Sink, Status, Stopped};
use mantis_stores::raw::sqlite::OpenError;
use tokio::time::{MissedTickBehavior, interval};

/// Why a worker could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A store that the worker fills itself from could not be read.
    #[error(transparent)]
    Store(#[from] Fault),
    /// Kafka's client could not be made.
    #[error(transparent)]
    Kafka(#[from] mantis_kafka::Error),
    /// Going on would have been wrong.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// A worker's road, without its ends.
#[derive(Debug)]
pub(crate) struct Road<'a> {
    pub(crate) client: &'a ClientConfig,
    pub(crate) group: &'a str,
    pub(crate) topics: &'a [&'a str],
    pub(crate) limits: Limits,
    pub(crate) status: Arc<Status>,
}

impl Road<'_> {
    /// Carries records to the sink until `shutdown`, or until going on would be wrong.
    pub(crate) async fn run<D, S>(self, decoder: D, sink: S, shutdown: Shutdown) -> Result<(), WorkerError>
    where
        D: Decoder,
        S: Sink<Columns = D::Columns>,
    {
        let source = Consumer::new(self.client, &ConsumerConfig::new(self.group, self.topics.iter().copied()))?;
        let dead_letters = Arc::new(DeadLetterProducer::new(self.client, self.group)?);
        Ok(mantis_pipeline::run(source, decoder, Arc::new(sink), dead_letters, self.limits, self.status, shutdown).await?)
    }
}

/// Does `work` until it ends, and a `turn` beside it again and again; the turn under way is dropped with it.
pub(crate) async fn beside<T, F: Future<Output = ()>>(
    work: impl Future<Output = T>,
    every: Duration,
    turn: impl FnMut() -> F,
) -> T {
    tokio::select! {
        ended = work => ended,
        never = again_and_again(every, turn) => match never {},
    }
}

async fn again_and_again<F: Future<Output = ()>>(every: Duration, mut turn: impl FnMut() -> F) -> Infallible {
    let mut turns = interval(every);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        turn().await;
    }
}
