//! The features worker: figures of windows of readings and of waveform frames, to `mantis.features`. The one worker with
//! state.
//!
//! What it guarantees: a sensor's figures follow from its own readings, and within the allowed lateness not from their order,
//! their batches, other sensors or restarts; a reading that is too late is a dead letter, never silence; what it emits again
//! after a crash has the same figures and ranks, so stores take it as it was.
//!
//! Its state is bounded over all sensors: at the bound it takes no more readings, which wait in the log.
//!
//! Its state is a snapshot in a compacted topic. The group's offset follows it: a commit never lies ahead of the snapshot that
//! covers it, and that never ahead of the rows emitted before it.

mod config;
mod decode;
mod emit;
mod frames;
mod offline;
mod owned;
mod partition;
mod partitioner;
mod recompute;
#[cfg(test)]
mod restarts;
mod samples;
mod sensor;
mod sink;
mod size;
mod snapshot;
mod state_log;
mod state_topic;
#[cfg(test)]
mod tests;
mod times;
mod traces;
mod watch;

use std::sync::{Arc, Mutex};

pub use config::{FeatureConfig, WINDOWS_MAX};
pub(crate) use frames::FrameDeclaration;
use mantis_kafka::{ClientConfig, Producer};
use mantis_pipeline::{Fault, Limits, Shutdown, Status};
use mantis_schemas::topics;
pub(crate) use offline::Offline;
pub use partition::Counts;
pub use recompute::Recomputed;
pub use sensor::Irregular;
pub use size::StateSize;
pub use watch::{SENSORS_MAX, SensorAccount, SnapshotAccount, StateAccount, Watch};

use crate::{
    WorkerError,
    raw::RecordDecoder,
    road::{Road, ending_with},
    sensors::SensorRegistry,
};

/// The worker's consumer group.
pub const GROUP: &str = "mantis-features";
/// The topics it reads.
pub const TOPICS: [&str; 2] = [topics::READINGS, topics::WAVEFORMS];
/// Lanes of the road: a lane per partition, so that no batch covers two.
const LANES: usize = 4_096;
/// Rows of a batch at most: where many sensors end a window at the same time, each gives a feature of some 300 bytes per
/// length of window.
const BATCH_ROWS_MAX: usize = 4_096;
/// Bytes of a batch at most: that many rows are less, frames are more.
const BATCH_BYTES_MAX: usize = 2 << 20;
/// Bytes of records and rows under way at most: the memory is for the state.
const HELD_BYTES_MAX: usize = 32 << 20;

/// The parts of a features worker.
pub struct Worker {
    /// How Kafka is reached.
    pub client: ClientConfig,
    /// The cluster whose positions the snapshots keep.
    pub cluster_id: String,
    /// What is computed.
    pub config: FeatureConfig,
    /// What is declared of sensors that send frames.
    pub sensors: SensorRegistry,
    /// Shows others what it has, and bounds it.
    pub watch: Watch,
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
    /// Kafka's settings cannot be used, or an end of the road has failed for good.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), WorkerError> {
        let Self { client, cluster_id, config, sensors, watch, decoder, limits, status } = self;
        let producer = Arc::new(Producer::new(&client)?);
        let emitter = Arc::new(emit::Emitter::default());
        let sink = Arc::new(sink::FeatureSink {
            config,
            series: decoder.series(),
            snapshots: state_topic::StateTopic::new(state_log::KafkaStateLog::new(client.clone(), producer.clone())?, cluster_id)
                .await?,
            emitter: emitter.clone(),
            frames: Arc::new(Mutex::new(frames::FrameWindows::new(sensors))),
            owned: watch.0,
            status: status.clone(),
        });
        // These go on while the road flushes at its end.
        let (stop, sending) = (Shutdown::new(), producer.clone());
        let emitting = tokio::spawn({
            let (emitter, stop) = (emitter.clone(), stop.clone());
            async move { emitter.run(&sending, stop).await }
        });
        let (looks, looks_until) = (sink.clone(), stop.clone());
        let looking = ending_with(shutdown.clone(), async move { looks.run(looks_until).await });
        let limits = Limits {
            lanes_max: LANES,
            rows_max: limits.rows_max.min(BATCH_ROWS_MAX),
            bytes_max: limits.bytes_max.min(BATCH_BYTES_MAX),
            held_bytes_max: limits.held_bytes_max.min(HELD_BYTES_MAX),
            ..limits
        };
        let road = Road { client: &client, group: GROUP, topics: &TOPICS, limits, status };
        let ended = road.run(decode::FeatureDecoder(decoder), sink, shutdown).await;
        stop.cancel();
        let (looked, _) = tokio::join!(looking, emitting);
        ended?;
        Ok(looked.map_err(|error| Fault::Fatal { reason: format!("what looks after the state has ended: {error}") })??)
    }
}
