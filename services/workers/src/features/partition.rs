//! The sensors of one partition.

use std::{collections::HashMap, ops::Range, sync::Arc, time::Instant};

use mantis_schemas::{Feature, Quality, ReadingColumns, Series, SeriesId};
use serde::Serialize;

use super::{
    FeatureConfig, SensorAccount, StateSize, partitioner,
    sensor::{Late, SensorState, Taken},
};

/// What a sensor takes besides its name, its samples and its windows.
pub(super) const SENSOR_BYTES: usize = size_of::<Sensor>() + size_of::<Series>();

/// A row and whose it is.
pub(super) type Published = (Arc<Series>, Feature);

/// Readings of a partition, in the order of its log.
pub(super) struct Batch<'a> {
    pub(super) readings: &'a ReadingColumns,
    /// Offset of the record of each reading.
    pub(super) offsets: &'a [i64],
    /// The readings to take.
    pub(super) rows: Range<usize>,
    /// The names behind the series ids.
    pub(super) names: &'a [Arc<Series>],
}

/// The state of one partition. What it gives out follows from the records of the partition in their order.
#[derive(Debug, Default)]
pub(super) struct PartitionState {
    sensors: Vec<Sensor>,
    /// By series: index into `sensors` + 1; 0 is not known yet.
    by_series: Vec<u32>,
    /// Those of a snapshot, until the series of this process is known.
    by_name: HashMap<Arc<Series>, u32>,
    /// Indexes of sensors whose windows have changed since they were published.
    changed: Vec<u32>,
    /// Number and own position of the partition among those of its topic.
    placement: Option<(i32, usize)>,
    pub(super) counts: Counts,
    size: StateSize,
}

#[derive(Debug)]
struct Sensor {
    series: Arc<Series>,
    state: SensorState,
    listed: bool,
    /// Offset of the last record that had readings of it.
    record: i64,
    /// True while a batch is taken that has readings of it: its size is not among that of the partition then.
    in_batch: bool,
    /// When its last reading came, for idleness alone.
    touched: Instant,
    misplaced: bool,
}

/// Readings by what became of them, since the partition was taken over. `readings = good + uncertain + bad + duplicates + late`;
/// conflicts are among the first three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// All readings.
    pub readings: u64,
    /// Good ones in their windows.
    pub good: u64,
    /// Uncertain ones in their windows.
    pub uncertain: u64,
    /// Bad ones, counted in their windows and in no figure.
    pub bad: u64,
    /// Those that were there already.
    pub duplicates: u64,
    /// Those that replaced another value of the same time.
    pub conflicts: u64,
    /// Those that came too late.
    pub late: u64,
    /// Those whose asset belongs on another partition: their sender uses another partitioner.
    pub misplaced: u64,
}

impl Counts {
    /// Adds the counts of another partition.
    pub fn add(&mut self, other: &Self) {
        self.readings += other.readings;
        self.good += other.good;
        self.uncertain += other.uncertain;
        self.bad += other.bad;
        self.duplicates += other.duplicates;
        self.conflicts += other.conflicts;
        self.late += other.late;
        self.misplaced += other.misplaced;
    }
}

impl PartitionState {
    /// An empty state of partition `number` of `partitions`.
    pub(super) fn new(number: i32, partitions: usize) -> Self {
        Self { placement: Some((number, partitions)), ..Self::default() }
    }

    /// Takes a sensor of a snapshot.
    pub(super) fn restore(&mut self, series: Series, state: SensorState) {
        let series = Arc::new(series);
        let index = self.add(series.clone(), state);
        self.by_name.insert(series, index);
        self.list(index);
    }

    /// What all of it takes.
    pub(super) fn size(&self) -> StateSize {
        StateSize { bytes: self.size.bytes + self.table_bytes(), ..self.size }
    }

    /// What the tables take in which sensors are found: with many partitions and few sensors in each, the most.
    pub(super) fn table_bytes(&self) -> usize {
        let spare = self.sensors.capacity() - self.sensors.len();
        self.by_series.capacity() * size_of::<u32>()
            + self.by_name.capacity() * size_of::<(Arc<Series>, u32)>()
            + spare * size_of::<Sensor>()
    }

    /// All sensors.
    pub(super) fn sensors(&self) -> impl ExactSizeIterator<Item = (&Series, &SensorState)> {
        self.sensors.iter().map(|sensor| (&*sensor.series, &sensor.state))
    }

    /// What the sensors say of how their readings come.
    pub(super) fn accounts(&self, asset: Option<&str>) -> impl Iterator<Item = SensorAccount> {
        let wanted = move |sensor: &&Sensor| asset.is_none_or(|asset| *asset == *sensor.series.asset);
        self.sensors.iter().filter(wanted).map(|sensor| SensorAccount {
            asset: sensor.series.asset.to_string(),
            sensor: sensor.series.sensor.to_string(),
            newest_ns: sensor.state.watermark_ns,
            irregular: sensor.state.irregular,
            misplaced: sensor.misplaced,
        })
    }

    /// Takes readings of the partition; gives out the rows that are due after them, and tells which readings are too late, by
    /// index into the columns, and why.
    pub(super) fn take(
        &mut self,
        config: &FeatureConfig,
        batch: &Batch<'_>,
        processed_ms: i64,
        published: &mut Vec<Published>,
    ) -> Vec<(usize, Late)> {
        let Batch { readings, offsets, rows, names } = batch;
        let now = Instant::now();
        let mut late = Vec::new();
        let mut touched: Vec<u32> = Vec::new();
        let mut last: Option<(SeriesId, u32)> = None;
        for row in rows.clone() {
            let series = readings.series[row];
            let index = match last {
                Some((known, index)) if known == series => index,
                _ => match self.index(series, names) {
                    Some(index) => index,
                    None => continue,
                },
            };
            last = Some((series, index));
            let (time_ns, value, quality) = (readings.time_ns[row], readings.value[row], readings.quality[row]);
            let sensor = &mut self.sensors[index as usize];
            if !sensor.in_batch {
                sensor.in_batch = true;
                self.size -= sensor.size();
                touched.push(index);
            }
            let series = &sensor.series;
            // Between records alone: a row that is given out holds all of its record's readings, or two rows would have one rank.
            if std::mem::replace(&mut sensor.record, offsets[row]) != offsets[row] {
                sensor.state.make_room(config, processed_ms, |row| published.push((series.clone(), row)));
            }
            let taken = sensor.state.take(config, time_ns, value, quality, offsets[row]);
            self.counts.readings += 1;
            self.counts.misplaced += u64::from(sensor.misplaced);
            match taken {
                Taken::Late(why) => {
                    self.counts.late += 1;
                    late.push((row, why));
                    continue;
                }
                Taken::Duplicate => {
                    self.counts.duplicates += 1;
                    continue;
                }
                Taken::Conflict => self.counts.conflicts += 1,
                Taken::New => {}
            }
            match quality {
                Quality::Good => self.counts.good += 1,
                Quality::Uncertain => self.counts.uncertain += 1,
                Quality::Bad => self.counts.bad += 1,
            }
        }
        for index in touched {
            let sensor = &mut self.sensors[index as usize];
            sensor.touched = now;
            let series = &sensor.series;
            sensor.state.publish(config, false, processed_ms, |row| published.push((series.clone(), row)));
            sensor.in_batch = false;
            self.size += sensor.size();
            self.list(index);
        }
        late
    }

    /// Gives out provisional rows of sensors that have been silent since `silent_since`, at most about `rows_max` rows.
    pub(super) fn publish_idle(
        &mut self,
        config: &FeatureConfig,
        silent_since: Instant,
        processed_ms: i64,
        rows_max: usize,
        published: &mut Vec<Published>,
    ) {
        let (sensors, size) = (&mut self.sensors, &mut self.size);
        self.changed.retain(|index| {
            let Some(sensor) = sensors.get_mut(*index as usize) else { return false };
            if sensor.touched > silent_since || published.len() >= rows_max {
                return true;
            }
            sensor.listed = false;
            *size -= sensor.size();
            let series = &sensor.series;
            sensor.state.publish(config, true, processed_ms, |row| published.push((series.clone(), row)));
            *size += sensor.size();
            false
        });
    }

    /// Everything that is not final yet, as provisional rows.
    pub(super) fn publish_all(&mut self, config: &FeatureConfig, processed_ms: i64, published: &mut Vec<Published>) {
        self.publish_idle(config, Instant::now(), processed_ms, usize::MAX, published);
    }

    fn index(&mut self, series: SeriesId, names: &[Arc<Series>]) -> Option<u32> {
        if let Some(known) = self.by_series.get(series.index()).filter(|known| **known > 0) {
            return Some(known - 1);
        }
        let name = names.get(series.index())?;
        let index = match self.by_name.remove(name) {
            Some(index) => {
                // One copy of the name for the process.
                self.sensors[index as usize].series = name.clone();
                index
            }
            None => self.add(name.clone(), SensorState::default()),
        };
        if self.by_series.len() <= series.index() {
            self.by_series.resize(series.index() + 1, 0);
        }
        self.by_series[series.index()] = index + 1;
        Some(index)
    }

    fn add(&mut self, series: Arc<Series>, state: SensorState) -> u32 {
        let misplaced = self
            .placement
            .is_some_and(|(number, partitions)| partitioner::partition(series.asset.as_bytes(), partitions) != number);
        let sensor = Sensor { series, state, listed: false, record: -1, in_batch: false, touched: Instant::now(), misplaced };
        self.size += sensor.size();
        self.sensors.push(sensor);
        self.sensors.len() as u32 - 1
    }

    fn list(&mut self, index: u32) {
        let sensor = &mut self.sensors[index as usize];
        if !sensor.listed && sensor.state.has_news() {
            sensor.listed = true;
            self.changed.push(index);
        }
    }
}

impl Sensor {
    fn size(&self) -> StateSize {
        let Series { asset, sensor } = &*self.series;
        StateSize {
            sensors: 1,
            open_windows: self.state.open.len(),
            samples: self.state.samples.len(),
            bytes: SENSOR_BYTES + asset.len() + sensor.len() + self.state.bytes(),
        }
    }
}
