//! Features from the archive alone.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use mantis_pipeline::TopicPartition;
use mantis_schemas::{Feature, Series, SeriesInterner};
use mantis_stores::archive::{
    ArchiveStore,
    columns::{ArchiveRows, Decoded},
    key::Place,
    scan::{Objects, Rows, ScanError},
};

use super::{
    FeatureConfig, TOPICS,
    frames::FrameWindows,
    partition::{Batch, PartitionState, Published},
};
use crate::sensors::SensorRegistry;

/// The features of everything that an archive holds, computed as the worker would: a row per window, given out when no
/// reading can change it any more, or at the end of its partition, and a row per frame. Rows differ from those of the worker
/// in `processed_ms` alone, which is 0.
///
/// Holds the rows of one object at a time, and of one partition the state and what may still change.
pub struct Recomputed<'a, S> {
    store: &'a S,
    config: FeatureConfig,
    sensors: SensorRegistry,
    series_max: usize,
    /// Cluster and partition of those that are still to come.
    chains: VecDeque<(String, TopicPartition)>,
    chain: Option<Chain<'a, S>>,
}

struct Chain<'a, S> {
    rows: Rows<'a, S>,
    series: SeriesInterner,
    state: PartitionState,
    frames: FrameWindows,
    /// Rows that a reading may still change, by (end, length of the window).
    held: HashMap<Arc<Series>, BTreeMap<(i64, i64), Feature>>,
}

impl<'a, S: ArchiveStore> Recomputed<'a, S> {
    /// Finds the chains of readings and waveforms. `series_max` bounds the series of one chain.
    ///
    /// # Errors
    /// The store could not be asked.
    pub async fn new(store: &'a S, config: FeatureConfig, sensors: SensorRegistry, series_max: usize) -> Result<Self, ScanError> {
        let mut chains: VecDeque<(String, TopicPartition)> = VecDeque::new();
        let mut objects = Objects::under(store, "");
        while let Some(listed) = objects.next().await? {
            let Some(Place { cluster_id, partition, .. }) = Place::of(&listed.key) else { continue };
            let chain = (cluster_id, partition);
            // Keys come in order, so the objects of a chain lie together.
            if TOPICS.contains(&&*chain.1.topic) && chains.back() != Some(&chain) {
                chains.push_back(chain);
            }
        }
        Ok(Self { store, config, sensors, series_max, chains, chain: None })
    }

    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// The store could not be asked, an object cannot be used, or one is missing.
    pub async fn next(&mut self) -> Result<Option<Vec<(Arc<Series>, Feature)>>, ScanError> {
        let chain = match &mut self.chain {
            Some(chain) => chain,
            None => {
                let Some((cluster_id, partition)) = self.chains.pop_front() else { return Ok(None) };
                self.chain.insert(Chain {
                    rows: Rows::of(self.store, &cluster_id, partition, 0..i64::MAX),
                    series: SeriesInterner::new(self.series_max),
                    state: PartitionState::default(),
                    frames: FrameWindows::new(self.sensors.clone()),
                    held: HashMap::new(),
                })
            }
        };
        Ok(Some(match chain.rows.next(&mut chain.series).await? {
            Some((_, rows)) => chain.take(&self.config, &rows),
            None => {
                let rest = chain.finish(&self.config);
                self.chain = None;
                rest
            }
        }))
    }
}

impl<S> Chain<'_, S> {
    /// Takes the rows of an object; gives out what can no longer change.
    fn take(&mut self, config: &FeatureConfig, rows: &ArchiveRows) -> Vec<Published> {
        let decoded = rows.offset.iter().zip(&rows.row).filter(|(_, row)| **row != ArchiveRows::ORIGINAL);
        let offsets: Vec<i64> = decoded.map(|(offset, _)| *offset).collect();
        let table = self.series.table();
        let names = table.read();
        let mut published = Vec::new();
        match &rows.decoded {
            Decoded::Readings(readings) => {
                let batch = Batch { readings, offsets: &offsets, rows: 0..readings.len(), names: &names };
                self.state.take(config, &batch, 0, &mut published);
                self.hold(published);
                self.settled(config)
            }
            Decoded::Frames(frames) => {
                self.frames.rows(frames, &offsets, 0..frames.len(), &names, 0, &mut published);
                published
            }
            Decoded::Features(_) | Decoded::Events(_) | Decoded::Records => published,
        }
    }

    /// The rows that are left, provisional ones too.
    fn finish(&mut self, config: &FeatureConfig) -> Vec<Published> {
        let mut published = Vec::new();
        self.state.publish_all(config, 0, &mut published);
        self.hold(published);
        let of_sensor =
            |(series, rows): (Arc<Series>, BTreeMap<_, Feature>)| rows.into_values().map(move |row| (series.clone(), row));
        std::mem::take(&mut self.held).into_iter().flat_map(of_sensor).collect()
    }

    /// As a store does: of two rows of a window the one with the higher rank stays.
    fn hold(&mut self, published: Vec<Published>) {
        for (series, row) in published {
            let rows = self.held.entry(series).or_default();
            let place = (row.end_ns, row.window_ns);
            if rows.get(&place).is_none_or(|before| before.rank() < row.rank()) {
                rows.insert(place, row);
            }
        }
    }

    fn settled(&mut self, config: &FeatureConfig) -> Vec<Published> {
        let mut settled = Vec::new();
        for (series, sensor) in self.state.sensors() {
            let late_ns = sensor.watermark_ns.saturating_sub(config.lateness_ns);
            let Some((series, mut rows)) = self.held.remove_entry(series) else { continue };
            let open = rows.split_off(&(late_ns.saturating_add(1), i64::MIN));
            settled.extend(rows.into_values().map(|row| (series.clone(), row)));
            if !open.is_empty() {
                self.held.insert(series, open);
            }
        }
        settled
    }
}
