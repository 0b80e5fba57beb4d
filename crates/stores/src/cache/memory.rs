//! The embedded cache: in the memory of its process, empty after a start and then filled from the stores.

use std::{
    collections::{BTreeMap, HashMap, btree_map},
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use mantis_pipeline::{Assigned, Fault, Moved, Outcome, Part, Sink, Span, Start, TopicPartition};
use mantis_schemas::{Feature, Series, SeriesId, SeriesTable};

use super::{
    Cache, Counts,
    latest::{self, Guard, guard_feature, guard_reading},
};
use crate::{ValueColumns, raw::StoredReading};

/// Entries that a write removes at most because their time has run out, so that it stays short.
const SWEEP_ENTRIES_MAX: usize = 10_000;

/// Bounds of the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// How long an entry is given out after it was written.
    pub ttl: Duration,
    /// Entries above which the least recently written are forgotten.
    pub entries_max: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(24 * 60 * 60), entries_max: 1_000_000 }
    }
}

/// The embedded cache. Cheap to clone; clones share the entries.
#[derive(Clone)]
pub struct MemoryCache {
    entries: Arc<RwLock<Entries>>,
    config: CacheConfig,
    clock: Arc<dyn Fn() -> Instant + Send + Sync>,
}

impl MemoryCache {
    /// An empty cache.
    pub fn new(config: CacheConfig) -> Self {
        Self::with_clock(config, Instant::now)
    }

    /// An empty cache that takes the time from `clock`, which never goes back.
    pub fn with_clock(config: CacheConfig, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self { entries: Arc::default(), config, clock: Arc::new(clock) }
    }

    /// Its writing end, for rows whose ids are those of `series`. `seeded` says up to where the stores had come that it was filled
    /// from: reading begins there or at the committed offset, whichever is lower, and without a position at the log's start.
    pub fn sink(&self, series: SeriesTable, seeded: HashMap<TopicPartition, i64>) -> MemoryCacheSink {
        MemoryCacheSink { cache: self.clone(), series, seeded }
    }

    /// Takes readings out of a store, under the same rule as those of the log: the order of the two does not matter.
    pub fn seed_readings(&self, readings: impl IntoIterator<Item = (Series, StoredReading)>) {
        let mut writer = self.writer();
        readings.into_iter().for_each(|(series, reading)| {
            writer.reading(&Arc::new(series), reading);
        });
    }

    /// Takes features out of a store, under the same rule as those of the log: the order of the two does not matter.
    pub fn seed_features(&self, features: impl IntoIterator<Item = (Series, Feature)>) {
        let mut writer = self.writer();
        features.into_iter().for_each(|(series, feature)| {
            writer.feature(&Arc::new(series), &feature);
        });
    }

    /// Writes under one lock; entries whose time has run out are swept first.
    fn writer(&self) -> Writer<'_> {
        let entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let mut writer = Writer { entries, now: (self.clock)(), config: self.config };
        writer.sweep();
        writer
    }

    fn view(&self) -> View<'_> {
        View { entries: self.entries.read().unwrap_or_else(PoisonError::into_inner), now: (self.clock)(), ttl: self.config.ttl }
    }
}

impl fmt::Debug for MemoryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Cache for MemoryCache {
    async fn reading(&self, series: &Series) -> Result<Option<StoredReading>, Fault> {
        let view = self.view();
        Ok(view.sensor(series).and_then(|sensor| view.live(sensor.reading.as_ref()?)).copied())
    }

    async fn readings(&self, asset: &str) -> Result<Vec<(Series, StoredReading)>, Fault> {
        let view = self.view();
        let readings = view.sensors(asset).filter_map(|(name, sensor)| Some((name, view.live(sensor.reading.as_ref()?)?)));
        Ok(readings.map(|(sensor, reading)| (Series { asset: asset.into(), sensor: sensor.clone() }, *reading)).collect())
    }

    async fn features(&self, series: &Series) -> Result<Vec<Feature>, Fault> {
        let view = self.view();
        let entries = view.sensor(series).into_iter().flat_map(|sensor| sensor.features.values());
        Ok(entries.filter_map(|entry| view.live(entry)).cloned().collect())
    }

    async fn sensors(&self, asset: &str) -> Result<Vec<Series>, Fault> {
        let view = self.view();
        let lives = |sensor: &Sensor| {
            let reading = sensor.reading.as_ref().and_then(|entry| view.live(entry)).is_some();
            reading || sensor.features.values().any(|entry| view.live(entry).is_some())
        };
        let sensors = view.sensors(asset).filter(|(_, sensor)| lives(sensor));
        Ok(sensors.map(|(sensor, _)| Series { asset: asset.into(), sensor: sensor.clone() }).collect())
    }

    async fn counts(&self) -> Result<Counts, Fault> {
        let view = self.view();
        Ok(Counts { entries: view.entries.order.len() as u64, ..view.entries.forgotten })
    }
}

/// The embedded cache as the road's sink.
#[derive(Clone, Debug)]
pub struct MemoryCacheSink {
    cache: MemoryCache,
    series: SeriesTable,
    seeded: HashMap<TopicPartition, i64>,
}

impl Sink for MemoryCacheSink {
    type Columns = ValueColumns;

    async fn start(&self, assigned: &[Assigned]) -> Result<Vec<Start>, Fault> {
        let start = |assigned: &Assigned| {
            let seeded = self.seeded.get(&assigned.partition).copied().unwrap_or(assigned.log_start);
            // What the log no longer has is in the stores, or lost to them as well.
            Start::At(assigned.committed.map_or(seeded, |committed| committed.min(seeded)).max(assigned.log_start))
        };
        Ok(assigned.iter().map(start).collect())
    }

    async fn write(&self, part: Part<'_, ValueColumns>) -> Result<Outcome, Fault> {
        let rows = part.rows.len();
        let (mut written, mut conflicts) = (0, 0);
        let mut count = |guard| match guard {
            Guard::Newer => written += 1,
            Guard::Conflict => conflicts += 1,
            Guard::Same | Guard::Refused => {}
        };
        match part.columns {
            ValueColumns::Readings(readings) => {
                let newest = latest::readings(readings, part.rows);
                let mut writer = self.cache.writer();
                for (series, reading) in newest {
                    count(writer.reading(&self.names(series)?, reading));
                }
            }
            ValueColumns::Features(features) => {
                let newest = latest::features(features, part.rows);
                let mut writer = self.cache.writer();
                for ((series, _), feature) in newest {
                    count(writer.feature(&self.names(series)?, feature));
                }
            }
        }
        let duplicates = rows - written - conflicts;
        Ok(Outcome::Ended { written, duplicates, conflicts, rejected: Vec::new(), advanced: false })
    }

    async fn advance(&self, _spans: &[Span]) -> Result<Option<Vec<Moved>>, Fault> {
        Ok(None)
    }
}

impl MemoryCacheSink {
    fn names(&self, series: SeriesId) -> Result<Arc<Series>, Fault> {
        self.series
            .read()
            .get(series.index())
            .cloned()
            .ok_or_else(|| Fault::Fatal { reason: format!("series {} has no name: this is a defect of the decoder", series.0) })
    }
}

/// All entries, by name and by when they were written.
#[derive(Default)]
struct Entries {
    assets: BTreeMap<Box<str>, BTreeMap<Box<str>, Sensor>>,
    /// The entries from the least to the most recently written: both what runs out and what is forgotten when there is no
    /// room lies in front.
    order: BTreeMap<u64, Place>,
    writes: u64,
    /// Its `entries` are not counted here.
    forgotten: Counts,
}

#[derive(Default)]
struct Sensor {
    reading: Option<Entry<StoredReading>>,
    features: BTreeMap<i64, Entry<Feature>>,
}

struct Entry<T> {
    value: T,
    /// Its key in the order.
    write: u64,
    written: Instant,
}

/// Where an entry is.
struct Place {
    series: Arc<Series>,
    slot: Slot,
    written: Instant,
}

#[derive(Clone, Copy)]
enum Slot {
    Reading,
    /// By the window's length in ns.
    Feature(i64),
}

struct View<'a> {
    entries: RwLockReadGuard<'a, Entries>,
    now: Instant,
    ttl: Duration,
}

impl View<'_> {
    fn sensor(&self, series: &Series) -> Option<&Sensor> {
        self.entries.assets.get(&series.asset)?.get(&series.sensor)
    }

    fn sensors(&self, asset: &str) -> impl Iterator<Item = (&Box<str>, &Sensor)> {
        self.entries.assets.get(asset).into_iter().flat_map(BTreeMap::iter)
    }

    fn live<'a, T>(&self, entry: &'a Entry<T>) -> Option<&'a T> {
        Some(&entry.value).filter(|_| lives(entry.written, self.now, self.ttl))
    }
}

struct Writer<'a> {
    entries: RwLockWriteGuard<'a, Entries>,
    now: Instant,
    config: CacheConfig,
}

impl Writer<'_> {
    fn reading(&mut self, series: &Arc<Series>, reading: StoredReading) -> Guard {
        let entry = self.entries.sensor(series).and_then(|sensor| sensor.reading.as_ref());
        let stored = entry.filter(|entry| lives(entry.written, self.now, self.config.ttl)).map(|entry| &entry.value);
        let guard = guard_reading(stored, &reading);
        if guard != Guard::Refused {
            let before = entry.map(|entry| entry.write);
            let (write, written) = (self.note(series, Slot::Reading, before), self.now);
            self.entries.sensor_mut(series).reading = Some(Entry { value: reading, write, written });
            self.bound();
        }
        guard
    }

    fn feature(&mut self, series: &Arc<Series>, feature: &Feature) -> Guard {
        let window_ns = feature.window_ns;
        let entry = self.entries.sensor(series).and_then(|sensor| sensor.features.get(&window_ns));
        let stored = entry.filter(|entry| lives(entry.written, self.now, self.config.ttl)).map(|entry| &entry.value);
        let guard = guard_feature(stored, feature);
        if guard != Guard::Refused {
            let before = entry.map(|entry| entry.write);
            let (write, written) = (self.note(series, Slot::Feature(window_ns), before), self.now);
            self.entries.sensor_mut(series).features.insert(window_ns, Entry { value: feature.clone(), write, written });
            self.bound();
        }
        guard
    }

    /// Makes an entry the most recently written one.
    fn note(&mut self, series: &Arc<Series>, slot: Slot, before: Option<u64>) -> u64 {
        if let Some(before) = before {
            self.entries.order.remove(&before);
        }
        self.entries.writes += 1;
        let write = self.entries.writes;
        self.entries.order.insert(write, Place { series: series.clone(), slot, written: self.now });
        write
    }

    /// Removes entries whose time has run out, some at a time.
    fn sweep(&mut self) {
        for _ in 0..SWEEP_ENTRIES_MAX {
            let Some(first) = self.entries.order.first_entry() else { return };
            if lives(first.get().written, self.now, self.config.ttl) {
                return;
            }
            let place = first.remove();
            self.entries.remove(&place);
            self.entries.forgotten.expired += 1;
        }
    }

    /// Makes room for the entry that was just written.
    fn bound(&mut self) {
        while self.entries.order.len() > self.config.entries_max {
            let Some((_, place)) = self.entries.order.pop_first() else { return };
            self.entries.remove(&place);
            self.entries.forgotten.evicted += 1;
        }
    }
}

impl Entries {
    fn sensor(&self, series: &Series) -> Option<&Sensor> {
        self.assets.get(&series.asset)?.get(&series.sensor)
    }

    fn sensor_mut(&mut self, series: &Series) -> &mut Sensor {
        self.assets.entry(series.asset.clone()).or_default().entry(series.sensor.clone()).or_default()
    }

    /// Removes an entry that is no longer in the order, and the names above it if it was their last.
    fn remove(&mut self, place: &Place) {
        let btree_map::Entry::Occupied(mut asset) = self.assets.entry(place.series.asset.clone()) else { return };
        if let btree_map::Entry::Occupied(mut sensor) = asset.get_mut().entry(place.series.sensor.clone()) {
            match place.slot {
                Slot::Reading => sensor.get_mut().reading = None,
                Slot::Feature(window_ns) => {
                    sensor.get_mut().features.remove(&window_ns);
                }
            }
            if sensor.get().reading.is_none() && sensor.get().features.is_empty() {
                sensor.remove();
            }
        }
        if asset.get().is_empty() {
            asset.remove();
        }
    }
}

fn lives(written: Instant, now: Instant, ttl: Duration) -> bool {
    now.saturating_duration_since(written) < ttl
}
