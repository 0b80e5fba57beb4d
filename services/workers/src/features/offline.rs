//! The features worker without Kafka: the same rows out of the same records, for audits.

use std::sync::Arc;

use mantis_schemas::Series;
use mantis_stores::raw::RawColumns;

use super::{
    Counts, FeatureConfig,
    frames::FrameWindows,
    partition::{Batch, PartitionState, Published},
};
use crate::sensors::SensorRegistry;

/// Computes the features of one partition, from its first record on.
pub(crate) struct Offline<'a> {
    config: &'a FeatureConfig,
    state: PartitionState,
    frames: FrameWindows,
}

impl<'a> Offline<'a> {
    /// Nothing read yet.
    pub(crate) fn new(config: &'a FeatureConfig, sensors: SensorRegistry) -> Self {
        Self { config, state: PartitionState::default(), frames: FrameWindows::new(sensors) }
    }

    /// Takes rows in the order of the log, each with the offset of its record; gives out the rows of features that are due, and
    /// tells which readings are too late, by index.
    pub(crate) fn take(
        &mut self,
        rows: &RawColumns,
        offsets: &[i64],
        names: &[Arc<Series>],
        published: &mut Vec<Published>,
    ) -> Vec<usize> {
        match rows {
            RawColumns::Readings(readings) => {
                let batch = Batch { readings, offsets, rows: 0..readings.len(), names };
                self.state.take(self.config, &batch, 0, published)
            }
            RawColumns::Frames(frames) => {
                self.frames.rows(frames, offsets, 0..frames.len(), names, 0, published);
                Vec::new()
            }
        }
    }

    /// Gives out what is still open, as provisional rows, and tells what became of the readings.
    pub(crate) fn finish(mut self, published: &mut Vec<Published>) -> Counts {
        self.state.publish_all(self.config, 0, published);
        self.state.counts
    }
}
