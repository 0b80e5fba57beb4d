//! The features worker without Kafka: the same rows out of the same records, for audits and for archives.

use std::sync::Arc;

use mantis_schemas::{FrameColumns, ReadingColumns, Series, SeriesId};
use mantis_stores::raw::RawColumns;

use super::{
    Counts, FeatureConfig,
    frames::FrameWindows,
    partition::{Batch, PartitionState, Published},
    sensor::SensorState,
};
use crate::sensors::SensorRegistry;

/// Computes the features of one partition, from its first record on.
pub(crate) struct Offline {
    config: FeatureConfig,
    state: PartitionState,
    frames: FrameWindows,
}

impl Offline {
    /// Nothing read yet.
    pub(crate) fn new(config: FeatureConfig, sensors: SensorRegistry) -> Self {
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
            RawColumns::Readings(readings) => self.take_readings(readings, offsets, names, published),
            RawColumns::Frames(frames) => {
                self.take_frames(frames, offsets, names, published);
                Vec::new()
            }
        }
    }

    /// As [`take`](Self::take), of readings.
    pub(super) fn take_readings(
        &mut self,
        readings: &ReadingColumns,
        offsets: &[i64],
        names: &[Arc<Series>],
        published: &mut Vec<Published>,
    ) -> Vec<usize> {
        let batch = Batch { readings, offsets, rows: 0..readings.len(), names };
        self.state.take(&self.config, &batch, 0, published).into_iter().map(|(row, _)| row).collect()
    }

    /// As [`take`](Self::take), of frames.
    pub(super) fn take_frames(
        &mut self,
        frames: &FrameColumns,
        offsets: &[i64],
        names: &[Arc<Series>],
        published: &mut Vec<Published>,
    ) {
        let name = |id: SeriesId| names.get(id.index()).cloned();
        self.frames.rows(frames, offsets, 0..frames.len(), name, 0, published);
    }

    /// Of each sensor the time before which readings are too late.
    pub(super) fn late_before_ns(&self) -> impl Iterator<Item = (&Series, i64)> {
        let late_ns = |sensor: &SensorState| sensor.watermark_ns.saturating_sub(self.config.lateness_ns);
        self.state.sensors().map(move |(series, sensor)| (series, late_ns(sensor)))
    }

    /// Gives out what is still open, as provisional rows, and tells what became of the readings.
    pub(crate) fn finish(mut self, published: &mut Vec<Published>) -> Counts {
        self.state.publish_all(&self.config, 0, published);
        self.state.counts
    }
}
