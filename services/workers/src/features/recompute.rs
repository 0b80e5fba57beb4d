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

use super::{FeatureConfig, Offline, TOPICS, partition::Published};
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
    missing: u64,
}

struct Chain<'a, S> {
    rows: Rows<'a, S>,
    series: SeriesInterner,
    offline: Offline,
    /// Rows that a reading may still change, by (end, length of the window).
    held: HeldRows,
}

type HeldRows = HashMap<Arc<Series>, BTreeMap<(i64, i64), Feature>>;

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
        Ok(Self { store, config, sensors, series_max, chains, chain: None, missing: 0 })
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
                    offline: Offline::new(self.config.clone(), self.sensors.clone()),
                    held: HashMap::new(),
                })
            }
        };
        Ok(Some(match chain.rows.next(&mut chain.series).await? {
            Some((manifest, rows)) => {
                self.missing += manifest.missing();
                chain.take(&rows)
            }
            None => self.chain.take().map(Chain::finish).unwrap_or_default(),
        }))
    }

    /// Positions of the objects so far that hold no record. The log lost them before they were archived, and windows that they
    /// were in are cut; or they never held one (marks of transactions), which the archive alone cannot tell.
    pub fn missing(&self) -> u64 {
        self.missing
    }
}

impl<S> Chain<'_, S> {
    /// Takes the rows of an object; gives out what can no longer change.
    fn take(&mut self, rows: &ArchiveRows) -> Vec<Published> {
        let decoded = rows.offset.iter().zip(&rows.row).filter(|(_, row)| **row != ArchiveRows::ORIGINAL);
        let offsets: Vec<i64> = decoded.map(|(offset, _)| *offset).collect();
        let table = self.series.table();
        let names = table.read();
        let mut published = Vec::new();
        match &rows.decoded {
            Decoded::Readings(readings) => {
                self.offline.take_readings(readings, &offsets, &names, &mut published);
                hold(&mut self.held, published);
                self.settled()
            }
            Decoded::Frames(frames) => {
                self.offline.take_frames(frames, &offsets, &names, &mut published);
                published
            }
            Decoded::Features(_) | Decoded::Events(_) | Decoded::Records => published,
        }
    }

    /// The rows that are left, provisional ones too.
    fn finish(self) -> Vec<Published> {
        let (mut published, mut held) = (Vec::new(), self.held);
        self.offline.finish(&mut published);
        hold(&mut held, published);
        let of_sensor =
            |(series, rows): (Arc<Series>, BTreeMap<_, Feature>)| rows.into_values().map(move |row| (series.clone(), row));
        held.into_iter().flat_map(of_sensor).collect()
    }

    fn settled(&mut self) -> Vec<Published> {
        let mut settled = Vec::new();
        for (series, late_ns) in self.offline.late_before_ns() {
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

/// As a store does: of two rows of a window the one with the higher rank stays.
fn hold(held: &mut HeldRows, published: Vec<Published>) {
    for (series, row) in published {
        let rows = held.entry(series).or_default();
        let place = (row.end_ns, row.window_ns);
        if rows.get(&place).is_none_or(|before| before.rank() < row.rank()) {
            rows.insert(place, row);
        }
    }
}
