//! What every cache must do, as tests that run on any of them: `cache_conformance!(Engine)` in a file of `tests/`.

// A suite is test code: it ends at the first thing that is not as it must be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{future::Future, ops::Range, time::Duration};

use mantis_pipeline::{Assigned, Columns, Outcome, Sink, Start, TopicPartition};
use mantis_schemas::{Feature, FeatureColumns, Quality, ReadingColumns, SeriesInterner, SeriesTable};

use super::Cache;
use crate::{
    ValueColumns,
    conformance::{Draw, Ended, ODD_NAMES, Owner, series},
    raw::StoredReading,
};

/// A kind of cache under test.
pub trait Engine: Send + Sync + 'static {
    /// Its writing end.
    type Sink: Sink<Columns = ValueColumns>;
    /// Its reading end.
    type Cache: Cache + 'static;

    /// An empty cache whose entries live for `ttl` and of which there are at most `entries_max`, if the engine bounds them.
    fn new(ttl: Duration, entries_max: usize) -> impl Future<Output = Self> + Send;
    /// Its writing end, for rows whose ids are those of `series`.
    fn sink(&self, series: SeriesTable) -> Self::Sink;
    /// Its reading end.
    fn cache(&self) -> Self::Cache;
    /// Lets time pass.
    fn pass(&self, time: Duration) -> impl Future<Output = ()> + Send;
}

/// One `#[tokio::test]` per case of the suite, for an [`Engine`](crate::cache::conformance::Engine).
#[macro_export]
macro_rules! cache_conformance {
    ($engine:ty) => {
        $crate::cache_conformance!(@cases $engine:
            the_newest_reading_stays_whatever_the_order_of_arrival
            a_reading_of_the_same_time_replaces_and_tells_conflict_from_duplicate
            the_newest_feature_of_each_window_stays_whatever_the_order_of_arrival
            a_batch_ends_as_its_rows_one_by_one_do
            only_the_rows_of_the_part_are_applied
            an_asset_lists_its_sensors_and_their_readings
            odd_names_are_kept_apart
            an_entry_is_given_out_for_its_time_from_its_last_write
            what_has_run_out_guards_no_longer
            it_starts_no_later_than_the_group_committed
        );
        #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
        async fn readers_see_whole_entries_that_never_go_back_while_it_is_written() {
            $crate::cache::conformance::readers_see_whole_entries_that_never_go_back_while_it_is_written::<$engine>().await;
        }
    };
    (@cases $engine:ty: $($case:ident)*) => {
        $(#[tokio::test] async fn $case() { $crate::cache::conformance::$case::<$engine>().await; })*
    };
}

const TTL: Duration = Duration::from_secs(60);
const ENTRIES_MAX: usize = 100_000;

/// A cache under test.
struct Store<E: Engine> {
    engine: E,
    interner: SeriesInterner,
    owner: Owner<E::Sink>,
    cache: E::Cache,
}

impl<E: Engine> Store<E> {
    async fn new() -> Self {
        let engine = E::new(TTL, ENTRIES_MAX).await;
        let interner = SeriesInterner::new(100_000);
        let owner = Owner::new(engine.sink(interner.table()), TopicPartition::new("mantis.readings", 0)).await;
        let cache = engine.cache();
        Self { engine, interner, owner, cache }
    }

    fn readings(&mut self, rows: &[(&str, i64, f64)]) -> ValueColumns {
        let rows: Vec<_> = rows.iter().map(|(sensor, time_ns, value)| ("pump", *sensor, reading(*time_ns, *value))).collect();
        readings(&mut self.interner, &rows)
    }

    fn features(&mut self, rows: &[(&str, Feature)]) -> ValueColumns {
        let mut columns = FeatureColumns::default();
        for (sensor, row) in rows {
            columns.push(self.interner.intern("pump", sensor).unwrap(), row.clone());
        }
        ValueColumns::Features(columns)
    }

    /// Writes a batch; how many rows were written, duplicates and conflicts.
    async fn write(&mut self, columns: &ValueColumns) -> (usize, usize, usize) {
        let Ended { written, duplicates, conflicts, rejected } = self.owner.write(columns, false).await;
        assert_eq!(rejected, []);
        (written, duplicates, conflicts)
    }

    async fn reading(&self, sensor: &str) -> Option<(i64, f64)> {
        let reading = self.cache.reading(&series("pump", sensor)).await.unwrap()?;
        Some((reading.time_ns, reading.value))
    }

    async fn all_features(&self, sensor: &str) -> Vec<Feature> {
        self.cache.features(&series("pump", sensor)).await.unwrap()
    }
}

fn reading(time_ns: i64, value: f64) -> StoredReading {
    StoredReading { time_ns, value, quality: Quality::Good, arrival_ms: time_ns / 1_000_000 }
}

fn readings(interner: &mut SeriesInterner, rows: &[(&str, &str, StoredReading)]) -> ValueColumns {
    let mut columns = ReadingColumns::default();
    for (asset, sensor, row) in rows {
        columns.series.push(interner.intern(asset, sensor).unwrap());
        columns.time_ns.push(row.time_ns);
        columns.value.push(row.value);
        columns.quality.push(row.quality);
        columns.arrival_ms.push(row.arrival_ms);
    }
    ValueColumns::Readings(columns)
}

fn feature(window_ns: i64, start_ns: i64, count: i64) -> Feature {
    let extras = format!(r#"{{"count":{count}}}"#).into();
    Feature { window_ns, start_ns, end_ns: start_ns + window_ns, count, extras, ..Feature::default() }
}

/// As batches of one row each, and shuffled anew each time.
pub async fn the_newest_reading_stays_whatever_the_order_of_arrival<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let mut draw = Draw(3);
    for trial in 0..50 {
        let sensor = format!("s{trial}");
        let mut times: Vec<i64> = (-5..15).collect();
        shuffle(&mut times, &mut draw);
        let mut newest = i64::MIN;
        for time_ns in times {
            let columns = store.readings(&[(&sensor, time_ns, time_ns as f64)]);
            let ended = store.write(&columns).await;
            assert_eq!(ended, if time_ns > newest { (1, 0, 0) } else { (0, 1, 0) });
            newest = newest.max(time_ns);
            assert_eq!(store.reading(&sensor).await, Some((newest, newest as f64)));
        }
    }
}

fn shuffle<T>(items: &mut [T], draw: &mut Draw) {
    for last in (1..items.len()).rev() {
        items.swap(last, draw.below(last as u64 + 1) as usize);
    }
}

/// The last by offset wins; values are compared bit by bit.
pub async fn a_reading_of_the_same_time_replaces_and_tells_conflict_from_duplicate<E: Engine>() {
    let mut store = Store::<E>::new().await;
    for (value, ended) in [(0.0, (1, 0, 0)), (0.0, (0, 1, 0)), (-0.0, (0, 0, 1)), (5e-324, (0, 0, 1)), (f64::MAX, (0, 0, 1))] {
        let columns = store.readings(&[("temp", 7, value)]);
        assert_eq!(store.write(&columns).await, ended);
        let (time_ns, stored) = store.reading("temp").await.unwrap();
        assert_eq!((time_ns, stored.to_bits()), (7, value.to_bits()));
    }
    let uncertain = StoredReading { quality: Quality::Uncertain, arrival_ms: 99, ..reading(7, f64::MAX) };
    let columns = readings(&mut store.interner, &[("pump", "temp", uncertain)]);
    assert_eq!(store.write(&columns).await, (0, 0, 1));
    assert_eq!(store.cache.reading(&series("pump", "temp")).await.unwrap(), Some(uncertain));
}

/// A later start is newer; of one start the greater rank.
pub async fn the_newest_feature_of_each_window_stays_whatever_the_order_of_arrival<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let mut draw = Draw(5);
    for trial in 0..50 {
        let sensor = format!("s{trial}");
        let mut rows = Vec::new();
        for (window_ns, start_ns, count) in [(10, 0, 9), (10, 10, 2), (10, 10, 3), (60, 0, 9), (60, 60, 1), (0, 3, 4), (0, 5, 4)]
        {
            let whole = feature(window_ns, start_ns, count);
            rows.push(Feature { provisional: true, ..whole.clone() });
            rows.push(Feature { version: 1, count: 1, ..whole.clone() });
            rows.push(whole);
        }
        shuffle(&mut rows, &mut draw);
        for row in &rows {
            let columns = store.features(&[(&sensor, row.clone())]);
            store.write(&columns).await;
            // What is there already, as a retry brings it.
            assert_eq!(store.write(&columns).await, (0, 1, 0));
        }
        let newest = |window_ns| {
            let of = rows.iter().filter(|row| row.window_ns == window_ns);
            of.max_by_key(|row| (row.start_ns, row.rank())).unwrap().clone()
        };
        let stored = store.all_features(&sensor).await;
        let ranks = |rows: &[Feature]| rows.iter().map(|row| (row.window_ns, row.start_ns, row.rank())).collect::<Vec<_>>();
        assert_eq!(ranks(&stored), ranks(&[newest(0), newest(10), newest(60)]));
    }
}

/// Coalescing is a shortcut and nothing else.
pub async fn a_batch_ends_as_its_rows_one_by_one_do<E: Engine>() {
    let mut draw = Draw(7);
    let (mut at_once, mut one_by_one) = (Store::<E>::new().await, Store::<E>::new().await);
    for _ in 0..40 {
        let sensors = ["a", "b", "c"];
        let mut rows = Vec::new();
        let mut frames = Vec::new();
        for _ in 0..1 + draw.below(40) {
            let sensor = sensors[draw.below(3) as usize];
            rows.push((sensor, draw.below(30) as i64, [0.0, -0.0, 1.5][draw.below(3) as usize]));
            let row = feature(draw.below(2) as i64 * 10, draw.below(5) as i64 * 10, draw.below(4) as i64);
            frames.push((sensor, Feature { processed_ms: draw.below(1000) as i64, ..row }));
        }
        for columns in [at_once.readings(&rows), at_once.features(&frames)] {
            let (written, duplicates, conflicts) = at_once.write(&columns).await;
            assert_eq!(written + duplicates + conflicts, columns.rows());
            assert!(written + conflicts <= 6, "three sensors, each with a reading or two windows");
        }
        for (row, frame) in rows.iter().zip(&frames) {
            let columns = one_by_one.readings(&[*row]);
            one_by_one.write(&columns).await;
            let columns = one_by_one.features(std::slice::from_ref(frame));
            one_by_one.write(&columns).await;
        }
        for sensor in sensors {
            let bits = |reading: Option<(i64, f64)>| reading.map(|(time_ns, value)| (time_ns, value.to_bits()));
            assert_eq!(bits(at_once.reading(sensor).await), bits(one_by_one.reading(sensor).await));
            assert_eq!(at_once.all_features(sensor).await, one_by_one.all_features(sensor).await);
        }
    }
}

/// The road bisects a batch by writing parts of it.
pub async fn only_the_rows_of_the_part_are_applied<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let columns = store.readings(&[("a", 9, 1.0), ("b", 2, 2.0), ("a", 3, 3.0), ("b", 9, 4.0)]);
    let rows: Range<usize> = 1..3;
    let outcome = store.owner.write_part(&columns, rows, store.owner.span(0, 1), false).await;
    assert!(matches!(outcome, Outcome::Ended { written: 2, advanced: false, .. }), "{outcome:?}");
    assert_eq!((store.reading("a").await, store.reading("b").await), (Some((3, 3.0)), Some((2, 2.0))));
}

/// What a screen of a machine shows.
pub async fn an_asset_lists_its_sensors_and_their_readings<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let rows = [("pump", "temp", reading(1, 1.0)), ("pump", "flow", reading(2, 2.0)), ("fan", "rpm", reading(3, 3.0))];
    let columns = readings(&mut store.interner, &rows);
    assert_eq!(store.write(&columns).await, (3, 0, 0));
    let columns = store.features(&[("vibration", feature(0, 5, 4096)), ("temp", feature(10, 0, 3)), ("temp", feature(60, 0, 9))]);
    assert_eq!(store.write(&columns).await, (3, 0, 0));
    let sensors = store.cache.sensors("pump").await.unwrap();
    assert_eq!(sensors, ["flow", "temp", "vibration"].map(|sensor| series("pump", sensor)));
    let of_pump = store.cache.readings("pump").await.unwrap();
    assert_eq!(of_pump, [(series("pump", "flow"), reading(2, 2.0)), (series("pump", "temp"), reading(1, 1.0))]);
    assert_eq!(store.all_features("temp").await, [feature(10, 0, 3), feature(60, 0, 9)]);
    assert_eq!(store.all_features("flow").await, []);
    assert_eq!(store.reading("vibration").await, None);
    assert_eq!(store.cache.sensors("no such asset").await.unwrap(), []);
    assert_eq!(store.cache.counts().await.unwrap().entries, 6);
}

/// Names are the sender's; none is part of another.
pub async fn odd_names_are_kept_apart<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let mut rows = Vec::new();
    for (row, name) in ODD_NAMES.into_iter().enumerate() {
        rows.push((name, "temp", reading(row as i64, row as f64)));
        rows.push(("asset", name, reading(row as i64, row as f64)));
    }
    let columns = readings(&mut store.interner, &rows);
    assert_eq!(store.write(&columns).await, (rows.len(), 0, 0));
    for (asset, sensor, row) in &rows {
        assert_eq!(store.cache.reading(&series(asset, sensor)).await.unwrap(), Some(*row), "{asset:?} {sensor:?}");
    }
    let mut expected: Vec<_> = ODD_NAMES.map(|name| series("asset", name)).into();
    expected.sort();
    assert_eq!(store.cache.sensors("asset").await.unwrap(), expected);
}

/// A sensor that fell silent does not stay on the screens for ever.
pub async fn an_entry_is_given_out_for_its_time_from_its_last_write<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let columns = store.readings(&[("silent", 1, 1.0), ("live", 1, 1.0)]);
    store.write(&columns).await;
    let columns = store.features(&[("silent", feature(10, 0, 1))]);
    store.write(&columns).await;
    store.engine.pass(TTL * 2 / 3).await;
    let columns = store.readings(&[("live", 2, 2.0), ("silent", 0, 0.0)]);
    assert_eq!(store.write(&columns).await, (1, 1, 0), "what is refused gives no new time");
    assert_eq!(store.reading("silent").await, Some((1, 1.0)));
    store.engine.pass(TTL * 2 / 3).await;
    assert_eq!((store.reading("silent").await, store.reading("live").await), (None, Some((2, 2.0))));
    assert_eq!(store.all_features("silent").await, []);
    assert_eq!(store.cache.sensors("pump").await.unwrap(), [series("pump", "live")]);
    assert_eq!(store.cache.readings("pump").await.unwrap().len(), 1);
}

/// What is not given out is not there.
pub async fn what_has_run_out_guards_no_longer<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let columns = store.readings(&[("temp", 9, 9.0)]);
    store.write(&columns).await;
    store.engine.pass(TTL * 2).await;
    let columns = store.readings(&[("temp", 1, 1.0)]);
    assert_eq!(store.write(&columns).await, (1, 0, 0));
    assert_eq!(store.reading("temp").await, Some((1, 1.0)));
}

/// It keeps no ledger: nothing behind the group's offset is passed over.
pub async fn it_starts_no_later_than_the_group_committed<E: Engine>() {
    let store = Store::<E>::new().await;
    let partition = TopicPartition::new("mantis.readings", 0);
    let assigned = Assigned { partition, committed: Some(5), log_start: 0, log_end: 9 };
    let starts = store.owner.sink.start(&[assigned.clone(), assigned]).await.unwrap();
    let early = |start: &Start| match start {
        Start::Committed => true,
        Start::At(at) => (0..=5).contains(at),
    };
    assert!(starts.len() == 2 && starts.iter().all(early), "{starts:?}");
    assert_eq!(store.owner.sink.advance(&[store.owner.span(0, 5)]).await.unwrap(), None);
}

/// Value, quality and time of an entry belong together, however often it is replaced.
pub async fn readers_see_whole_entries_that_never_go_back_while_it_is_written<E: Engine>() {
    const TIMES: i64 = 2_000;
    let mut store = Store::<E>::new().await;
    let columns: Vec<_> = (1..=TIMES).map(|time_ns| store.readings(&[("temp", time_ns, time_ns as f64)])).collect();
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let cache = store.engine.cache();
            tokio::spawn(async move {
                let mut last = 0;
                while last < TIMES {
                    if let Some(reading) = cache.reading(&series("pump", "temp")).await.unwrap() {
                        assert_eq!(reading.value, reading.time_ns as f64);
                        assert!(reading.time_ns >= last, "{} after {last}", reading.time_ns);
                        last = reading.time_ns;
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for columns in &columns {
        store.write(columns).await;
    }
    for reader in readers {
        reader.await.unwrap();
    }
}
