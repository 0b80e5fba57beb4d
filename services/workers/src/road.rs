//! What every worker does: its road, and what runs beside it.

use std::{
    convert::Infallible,
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mantis_kafka::{ClientConfig, Consumer, ConsumerConfig, DeadLetterProducer};
use mantis_pipeline::{Decoder, Fault, Limits, Shutdown, Sink, Status, Stopped};
use mantis_stores::{
    features::FeatureOpenError,
    postgres::PostgresError,
    raw::{RawOpenError, influx::InfluxError, sqlite::OpenError},
};
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};

/// Why a worker could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The store could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The raw store could not be opened.
    #[error(transparent)]
    Raw(#[from] RawOpenError),
    /// The feature store could not be opened.
    #[error(transparent)]
    Features(#[from] FeatureOpenError),
    /// PostgreSQL cannot be reached as configured.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// InfluxDB cannot be reached as configured.
    #[error(transparent)]
    Influx(#[from] InfluxError),
    /// A store could not be read, or going on with it would have been wrong.
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
    pub(crate) async fn run<D, S>(self, decoder: D, sink: Arc<S>, shutdown: Shutdown) -> Result<(), WorkerError>
    where
        D: Decoder,
        S: Sink<Columns = D::Columns>,
    {
        let source = Consumer::new(self.client, &ConsumerConfig::new(self.group, self.topics.iter().copied()))?;
        let dead_letters = Arc::new(DeadLetterProducer::new(self.client, self.group)?);
        Ok(mantis_pipeline::run(source, decoder, sink, dead_letters, self.limits, self.status, shutdown).await?)
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

/// Starts `work` beside the road; where it fails, the road ends as well.
pub(crate) fn ending_with<F>(road: Shutdown, work: F) -> JoinHandle<Result<(), Fault>>
where
    F: Future<Output = Result<(), Fault>> + Send + 'static,
{
    tokio::spawn(async move {
        let ended = work.await;
        if ended.is_err() {
            road.cancel();
        }
        ended
    })
}

/// The time of `age` before `now`, ns since the epoch; `None` where it lies before the epoch, which keeps everything.
pub(crate) fn ns_before(now: SystemTime, age: Duration) -> Option<i64> {
    let from = now.duration_since(UNIX_EPOCH).ok()?.checked_sub(age)?;
    i64::try_from(from.as_nanos()).ok()
}

async fn again_and_again<F: Future<Output = ()>>(every: Duration, mut turn: impl FnMut() -> F) -> Infallible {
    let mut turns = interval(every);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        turn().await;
    }
}
