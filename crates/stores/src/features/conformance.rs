//! What every feature store must do, as tests that run on any of them: `feature_conformance!(Engine)` in a file of `tests/`.

// A suite is test code: it ends at the first thing that is not as it must be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, future::Future};

use mantis_pipeline::{Columns, Outcome, Part, Sink, Span, TopicPartition};
use mantis_schemas::{Feature, FeatureColumns, Figure, Figures, Quality, ReadingColumns, Series, SeriesInterner, SeriesTable};

use super::FeatureReader;
use crate::{
    ReadingReader, ValueColumns,
    conformance::{
        CLUSTER, Draw, EXTREME_NUMBERS, EXTREME_TIMES_NS, Ended, ODD_NAMES, Owner, acknowledge, is_writer, kill_a_writer, series,
    },
};

/// A kind of feature store under test.
pub trait Engine: Send + Sync + 'static {
    /// Its writing end.
    type Sink: Sink<Columns = ValueColumns>;
    /// Its reading end.
    type Reader: FeatureReader;
    /// Keeps an empty place until the test has ended.
    type Place: AsRef<str>;

    /// It keeps a ledger of offsets.
    const LEDGER: bool;
    /// It tells new rows from duplicates and conflicts, and keeps the arrival of the first.
    const COUNTS: bool;

    /// Why its server is not here, if it needs one: the tests are then noted as skipped.
    fn absent() -> Option<String> {
        None
    }
    /// A new, empty place for a store: a folder, a schema.
    fn place() -> Self::Place;
    /// Opens the store at a place for writing as group `timescale`, whether it is new or not.
    fn sink(place: &str, cluster_id: &str, series: SeriesTable) -> impl Future<Output = Self::Sink> + Send;
    /// Opens the store at a place for reading.
    fn reader(place: &str) -> impl Future<Output = Self::Reader> + Send;
}

/// One `#[tokio::test]` per case of the suite, for an [`Engine`](crate::features::conformance::Engine).
#[macro_export]
macro_rules! feature_conformance {
    ($engine:ty) => {
        $crate::feature_conformance!(@cases $engine:
            the_same_features_again_change_nothing
            the_greatest_rank_wins_whatever_the_order_of_arrival
            a_zombies_row_with_fewer_samples_changes_nothing
            a_final_row_replaces_the_provisional_one_of_the_same_samples
            a_raised_version_replaces_a_row_of_more_samples
            another_row_of_equal_rank_is_a_duplicate
            any_sequence_of_writes_ends_as_a_model_of_it_does
            windows_that_begin_together_are_kept_apart
            odd_names_come_back_byte_for_byte
            extreme_numbers_and_times_come_back_bit_for_bit
            a_figure_that_is_absent_stays_absent
            extras_come_back_byte_for_byte
            what_cannot_be_stored_is_rejected_row_by_row
            only_the_rows_of_the_part_are_written
            a_big_batch_goes_in_whole
            pages_are_bounded_and_half_open
            the_latest_feature_is_that_of_the_latest_start_of_each_window
            the_newest_features_of_all_series_are_found_in_pages
            readings_are_kept_as_a_raw_store_keeps_them
            what_was_written_is_there_after_reopening
            a_new_store_starts_at_the_start_of_the_log_whatever_was_committed
            no_offset_is_recorded_while_a_row_is_neither_stored_nor_dead_lettered
            a_batch_behind_the_ledger_is_not_written
            offsets_without_records_do_not_stop_the_ledger
            the_ledger_of_another_cluster_is_not_ours
        );
        #[tokio::test]
        async fn everything_acknowledged_is_there_after_kill_9() {
            if let Some(why) = <$engine as $crate::features::conformance::Engine>::absent() {
                return mantis_testing::skipped(&why);
            }
            let test = concat!(module_path!(), "::everything_acknowledged_is_there_after_kill_9");
            $crate::features::conformance::everything_acknowledged_is_there_after_kill_9::<$engine>(test).await;
        }
    };
    (@cases $engine:ty: $($case:ident)*) => {
        $(#[tokio::test] async fn $case() {
            if let Some(why) = <$engine as $crate::features::conformance::Engine>::absent() {
                return mantis_testing::skipped(&why);
            }
            $crate::features::conformance::$case::<$engine>().await;
        })*
    };
}

const GROUP: &str = "timescale";
const WINDOW_NS: i64 = 10_000_000_000;
const ALL_TIMES: std::ops::Range<i64> = i64::MIN..i64::MAX;

/// A store under test, written in order of offset by one owner.
struct Store<E: Engine> {
    place: E::Place,
    interner: SeriesInterner,
    owner: Owner<E::Sink>,
    reader: E::Reader,
}

impl<E: Engine> Store<E> {
    async fn new() -> Self {
        Self::open(E::place(), CLUSTER).await
    }

    async fn open(place: E::Place, cluster_id: &str) -> Self {
        let interner = SeriesInterner::new(1_000_000);
        let sink = E::sink(place.as_ref(), cluster_id, interner.table()).await;
        let reader = E::reader(place.as_ref()).await;
        let owner = Owner::new(sink, partition()).await;
        Self { place, interner, owner, reader }
    }

    fn features<'a>(&mut self, rows: impl IntoIterator<Item = (&'a str, &'a str, Feature)>) -> ValueColumns {
        features(&mut self.interner, rows)
    }

    fn readings(&mut self, rows: &[(&str, i64, f64)]) -> ValueColumns {
        let mut columns = ReadingColumns::default();
        for (sensor, time_ns, value) in rows {
            columns.series.push(self.interner.intern("pump", sensor).unwrap());
            columns.time_ns.push(*time_ns);
            columns.value.push(*value);
            columns.quality.push(Quality::Uncertain);
            columns.arrival_ms.push(1_700_000_000_000);
        }
        ValueColumns::Readings(columns)
    }

    async fn write(&mut self, columns: &ValueColumns) -> Ended {
        self.owner.write(columns, E::LEDGER).await
    }

    /// Writes a batch of which every row is taken, and checks the counts where the store knows them.
    async fn write_counting(&mut self, columns: &ValueColumns, written: usize, duplicates: usize, conflicts: usize) {
        let ended = self.write(columns).await;
        assert_eq!(ended.rejected, []);
        if E::COUNTS {
            let counts = (ended.written, ended.duplicates, ended.conflicts);
            assert_eq!(counts, (written, duplicates, conflicts), "written, duplicates, conflicts");
        }
    }

    /// Writes rows of pump/temp, each as a batch of its own; `true` stands for a row that changes something.
    async fn write_each<const N: usize>(&mut self, rows: [(&Feature, bool); N]) {
        for (row, changes) in rows {
            let columns = self.features([("pump", "temp", row.clone())]);
            self.write_counting(&columns, usize::from(changes), usize::from(!changes), 0).await;
        }
    }

    async fn all(&self, asset: &str, sensor: &str, window_ns: i64) -> Vec<Feature> {
        self.reader.features(&series(asset, sensor), window_ns, ALL_TIMES, usize::MAX).await.unwrap()
    }

    async fn values(&self, sensor: &str) -> Vec<(i64, f64)> {
        let readings = self.reader.readings(&series("pump", sensor), ALL_TIMES, usize::MAX).await.unwrap();
        readings.iter().map(|reading| (reading.time_ns, reading.value)).collect()
    }
}

fn partition() -> TopicPartition {
    TopicPartition::new("mantis.features", 0)
}

fn features<'a>(interner: &mut SeriesInterner, rows: impl IntoIterator<Item = (&'a str, &'a str, Feature)>) -> ValueColumns {
    let mut columns = FeatureColumns::default();
    for (asset, sensor, row) in rows {
        columns.push(interner.intern(asset, sensor).unwrap(), row);
    }
    ValueColumns::Features(columns)
}

/// A row whose every field tells how many samples it is of.
fn feature(window_ns: i64, start_ns: i64, count: i64) -> Feature {
    let mut figures = Figures::default();
    for figure in Figure::ALL {
        figures.set(figure, Some(count as f64 + figure as u8 as f64 / 100.0));
    }
    Feature {
        window_ns,
        start_ns,
        end_ns: start_ns + window_ns,
        version: 1,
        count,
        uncertain: count / 2,
        bad: 0,
        coverage: Some(count as f64 / 1000.0),
        exact: count % 2 == 0,
        provisional: false,
        revision: 100 + count,
        processed_ms: 1_700_000_000_000 + count,
        figures,
        extras: format!(r#"{{"band":{count}}}"#).into(),
    }
}

/// Redelivery is harmless, across batches and within one.
pub async fn the_same_features_again_change_nothing<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let rows = [feature(WINDOW_NS, 0, 5), feature(WINDOW_NS, WINDOW_NS, 6)];
    let columns =
        store.features([("pump", "temp", rows[0].clone()), ("pump", "temp", rows[1].clone()), ("fan", "temp", rows[0].clone())]);
    store.write_counting(&columns, 3, 0, 0).await;
    store.write_counting(&columns, 0, 3, 0).await;
    let twice = store.features([("fan", "flow", rows[1].clone()), ("fan", "flow", rows[1].clone())]);
    store.write_counting(&twice, 1, 1, 0).await;
    assert_eq!(store.all("pump", "temp", WINDOW_NS).await, rows);
    assert_eq!(store.all("fan", "temp", WINDOW_NS).await, rows[..1]);
    assert_eq!(store.all("fan", "flow", WINDOW_NS).await, rows[1..]);
}

/// Every permutation of five revisions of a window, as five batches and as one.
pub async fn the_greatest_rank_wins_whatever_the_order_of_arrival<E: Engine>() {
    let mut revisions = [3, 8, 8, 8, 2].map(|count| feature(WINDOW_NS, 0, count));
    revisions[1].provisional = true;
    revisions[2].revision = 1;
    revisions[3].bad = 1;
    let greatest = Feature { version: 2, ..feature(WINDOW_NS, 0, 2) };
    revisions[4] = greatest.clone();
    let orders = permutations(revisions.len());
    let at = |order: usize, revision: usize| {
        let start_ns = order as i64 * WINDOW_NS;
        Feature { start_ns, end_ns: start_ns + WINDOW_NS, ..revisions[revision].clone() }
    };
    let mut store = Store::<E>::new().await;
    for place in 0..revisions.len() {
        let rows = orders.iter().enumerate().map(|(number, order)| ("pump", "in batches", at(number, order[place])));
        let columns = store.features(rows);
        store.write(&columns).await;
    }
    let rows = orders
        .iter()
        .enumerate()
        .flat_map(|(number, order)| order.iter().map(|revision| ("pump", "at once", at(number, *revision))).collect::<Vec<_>>());
    let columns = store.features(rows);
    store.write(&columns).await;
    let expected: Vec<_> = (0..orders.len()).map(|number| at(number, 4)).collect();
    assert_eq!(expected[0], greatest);
    assert_eq!(store.all("pump", "in batches", WINDOW_NS).await, expected);
    assert_eq!(store.all("pump", "at once", WINDOW_NS).await, expected);
}

fn permutations(of: usize) -> Vec<Vec<usize>> {
    if of == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(of - 1);
    let insert = |order: &Vec<usize>, place| {
        let mut order = order.clone();
        order.insert(place, of - 1);
        order
    };
    shorter.iter().flat_map(|order| (0..of).map(move |place| insert(order, place))).collect()
}

/// The features worker that was thought dead emits what it knew.
pub async fn a_zombies_row_with_fewer_samples_changes_nothing<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let all = feature(WINDOW_NS, 0, 10);
    let some = Feature { revision: 1_000_000, processed_ms: i64::MAX, ..feature(WINDOW_NS, 0, 9) };
    store.write_each([(&all, true), (&some, false)]).await;
    let with_bad = Feature { bad: 2, ..feature(WINDOW_NS, 0, 9) };
    store.write_each([(&with_bad, true), (&all, false)]).await;
    assert_eq!(store.all("pump", "temp", WINDOW_NS).await, [with_bad]);
}

/// Idleness publishes an open window early; its end changes only the mark.
pub async fn a_final_row_replaces_the_provisional_one_of_the_same_samples<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let last = feature(WINDOW_NS, 0, 10);
    let early = Feature { provisional: true, ..last.clone() };
    store.write_each([(&early, true), (&last, true), (&early, false)]).await;
    assert_eq!(store.all("pump", "temp", WINDOW_NS).await, [last]);
}

/// Features that are computed again by a new definition replace the old ones, even from less.
pub async fn a_raised_version_replaces_a_row_of_more_samples<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let old = feature(WINDOW_NS, 0, 10);
    let new = Feature { version: 2, revision: 0, ..feature(WINDOW_NS, 0, 1) };
    store.write_each([(&old, true), (&new, true), (&old, false)]).await;
    assert_eq!(store.all("pump", "temp", WINDOW_NS).await, [new]);
}

/// The same window computed again at another time is the same.
pub async fn another_row_of_equal_rank_is_a_duplicate<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let first = feature(WINDOW_NS, 0, 10);
    let again = Feature { processed_ms: 5, extras: "".into(), figures: Figures::default(), ..first.clone() };
    store.write_each([(&first, true), (&again, false)]).await;
    assert_eq!(store.all("pump", "temp", WINDOW_NS).await, [first]);
}

/// Few identities and ranks, so that batches are full of duplicates and revisions.
pub async fn any_sequence_of_writes_ends_as_a_model_of_it_does<E: Engine>() {
    const SENSORS: [&str; 2] = ["a", "b"];
    let mut draw = Draw(11);
    let mut store = Store::<E>::new().await;
    let mut model: BTreeMap<(&str, i64, i64), Feature> = BTreeMap::new();
    for _ in 0..30 {
        let mut rows = Vec::new();
        let (mut written, mut duplicates) = (0, 0);
        for _ in 0..1 + draw.below(100) {
            let sensor = SENSORS[draw.below(2) as usize];
            let window_ns = draw.below(3) as i64 * WINDOW_NS;
            let row = Feature {
                provisional: draw.below(2) == 0,
                revision: draw.below(3) as i64,
                bad: draw.below(2) as i64,
                version: 1 + draw.below(2) as i32,
                processed_ms: draw.below(1_000_000) as i64,
                ..feature(window_ns, draw.below(10) as i64 * window_ns, draw.below(3) as i64)
            };
            let identity = (sensor, row.window_ns, row.start_ns);
            if model.get(&identity).is_none_or(|stored| stored.rank() < row.rank()) {
                model.insert(identity, row.clone());
                written += 1;
            } else {
                duplicates += 1;
            }
            rows.push(("pump", sensor, row));
        }
        let columns = store.features(rows);
        store.write_counting(&columns, written, duplicates, 0).await;
    }
    for sensor in SENSORS {
        for window_ns in [0, WINDOW_NS, 2 * WINDOW_NS] {
            let of = model.iter().filter(|((of, window, _), _)| (*of, *window) == (sensor, window_ns));
            let expected: Vec<_> = of.map(|(_, row)| row.clone()).collect();
            assert_eq!(store.all("pump", sensor, window_ns).await, expected);
        }
    }
}

/// A minute and its first ten seconds have one start; a frame may have it too.
pub async fn windows_that_begin_together_are_kept_apart<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let rows = [feature(6 * WINDOW_NS, 0, 60), feature(WINDOW_NS, 0, 10), Feature { end_ns: 7, ..feature(0, 0, 4096) }];
    let columns = store.features(rows.iter().map(|row| ("pump", "temp", row.clone())));
    store.write_counting(&columns, 3, 0, 0).await;
    for row in &rows {
        assert_eq!(store.all("pump", "temp", row.window_ns).await, std::slice::from_ref(row));
    }
    assert_eq!(store.reader.windows(&series("pump", "temp")).await.unwrap(), [0, WINDOW_NS, 6 * WINDOW_NS]);
    assert!(store.reader.windows(&series("pump", "no such sensor")).await.unwrap().is_empty());
}

/// Names are the sender's; a store neither trims, folds nor normalises them.
pub async fn odd_names_come_back_byte_for_byte<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let longest = "ä".repeat(128);
    let names: Vec<&str> = ODD_NAMES.into_iter().chain([&*longest]).collect();
    let mut rows = Vec::new();
    for (row, name) in names.iter().enumerate() {
        rows.push((*name, "temp", feature(WINDOW_NS, 0, row as i64)));
        rows.push(("asset", *name, feature(WINDOW_NS, 0, row as i64)));
    }
    let columns = store.features(rows.clone());
    store.write_counting(&columns, rows.len(), 0, 0).await;
    for (asset, sensor, row) in &rows {
        assert_eq!(store.all(asset, sensor, WINDOW_NS).await, std::slice::from_ref(row), "{asset:?} {sensor:?}");
    }
    let mut expected: Vec<_> = rows.iter().map(|(asset, sensor, _)| series(asset, sensor)).collect();
    expected.sort();
    assert_eq!(store.reader.series().await.unwrap(), expected);
}

/// No precision is lost at the store's edge, not the sign of zero either.
pub async fn extreme_numbers_and_times_come_back_bit_for_bit<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let mut rows = Vec::new();
    for (row, number) in EXTREME_NUMBERS.into_iter().enumerate() {
        let mut extreme = feature(WINDOW_NS, row as i64 * WINDOW_NS, 1);
        Figure::ALL.into_iter().for_each(|figure| extreme.figures.set(figure, Some(number)));
        extreme.coverage = Some(number);
        rows.push(extreme);
    }
    let columns = store.features(rows.iter().map(|row| ("pump", "number", row.clone())));
    store.write_counting(&columns, rows.len(), 0, 0).await;
    let stored = store.all("pump", "number", WINDOW_NS).await;
    assert_eq!(stored, rows);
    let coverage = |rows: &[Feature]| rows.iter().map(|row| row.coverage.map(f64::to_bits)).collect::<Vec<_>>();
    assert_eq!(coverage(&stored), coverage(&rows), "the sign of zero too");

    let rows = EXTREME_TIMES_NS.map(|start_ns| Feature {
        end_ns: start_ns,
        version: i32::MAX,
        count: i64::MAX - 1,
        uncertain: i64::MAX,
        bad: 1,
        revision: i64::MIN,
        processed_ms: i64::MIN,
        ..feature(0, start_ns, 1)
    });
    let columns = store.features(rows.iter().map(|row| ("pump", "time", row.clone())));
    store.write_counting(&columns, rows.len(), 0, 0).await;
    assert_eq!(store.all("pump", "time", 0).await, rows);
    store.write_counting(&columns, 0, rows.len(), 0).await;
}

/// A constant signal has no kurtosis, which is not 0.
pub async fn a_figure_that_is_absent_stays_absent<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let none = Feature { figures: Figures::default(), coverage: None, ..feature(WINDOW_NS, 0, 1) };
    let mut rows = vec![none.clone()];
    for figure in Figure::ALL {
        let start_ns = rows.len() as i64 * WINDOW_NS;
        let mut one = Feature { start_ns, end_ns: start_ns + WINDOW_NS, ..none.clone() };
        one.figures.set(figure, Some(0.0));
        rows.push(one);
    }
    let columns = store.features(rows.iter().map(|row| ("pump", "temp", row.clone())));
    store.write_counting(&columns, rows.len(), 0, 0).await;
    assert_eq!(store.all("pump", "temp", WINDOW_NS).await, rows);
}

/// Extras are a text to a store, once they are known to be JSON.
pub async fn extras_come_back_byte_for_byte<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let many = format!("{{{}}}", (0..5_000).map(|n| format!("\"line {n:04}\":{n}.5")).collect::<Vec<_>>().join(","));
    let texts = ["", "{}", r#"{"b":1,"a":-0.0}"#, r#"{"ä\"\\":1e-300}"#, " {\"spaced\" : 1.50}", &many];
    let rows: Vec<_> = texts
        .into_iter()
        .enumerate()
        .map(|(row, extras)| Feature { extras: extras.into(), ..feature(WINDOW_NS, row as i64 * WINDOW_NS, 1) })
        .collect();
    let columns = store.features(rows.iter().map(|row| ("pump", "temp", row.clone())));
    store.write_counting(&columns, rows.len(), 0, 0).await;
    assert_eq!(store.all("pump", "temp", WINDOW_NS).await, rows);
}

/// What a store cannot hold is refused with its reason, and its batch goes on.
pub async fn what_cannot_be_stored_is_rejected_row_by_row<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let good = feature(WINDOW_NS, 0, 1);
    let rows = [
        Feature { start_ns: i64::MIN, ..good.clone() },
        good.clone(),
        Feature { end_ns: i64::MAX, ..good.clone() },
        Feature { coverage: Some(f64::NAN), ..good.clone() },
        Feature { count: i64::MAX, bad: 1, ..good.clone() },
        Feature { extras: "{\"a\":".into(), ..good.clone() },
        Feature { extras: "[1]".into(), ..good.clone() },
        Feature { count: -1, ..good.clone() },
        feature(WINDOW_NS, WINDOW_NS, 1),
    ];
    let columns = store.features(rows.iter().map(|row| ("pump", "temp", row.clone())));
    let ended = store.write(&columns).await;
    assert_eq!(ended.rejected.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0, 2, 3, 4, 5, 6, 7]);
    assert_eq!(store.all("pump", "temp", WINDOW_NS).await, [rows[1].clone(), rows[8].clone()]);
    let readings = store.readings(&[("temp", 1, f64::NAN), ("temp", 2, 2.0), ("temp", i64::MAX, 3.0)]);
    let ended = store.write(&readings).await;
    assert_eq!(ended.rejected.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0, 2]);
}

/// The road bisects a batch by writing parts of it.
pub async fn only_the_rows_of_the_part_are_written<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let bad = Feature { start_ns: i64::MIN, ..feature(0, 0, 1) };
    let rows = [feature(0, 1, 1), bad, feature(0, 3, 1), feature(0, 4, 1)];
    let columns = store.features(rows.iter().map(|row| ("pump", "temp", row.clone())));
    let span = store.owner.span(store.owner.next, store.owner.next + 1);
    let outcome = store.owner.write_part(&columns, 1..3, span, false).await;
    let Outcome::Ended { written, rejected, advanced, .. } = outcome else { panic!("the write did not end: {outcome:?}") };
    assert_eq!((written, advanced), (1, false));
    assert_eq!(rejected.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1], "by index into the columns");
    assert_eq!(store.all("pump", "temp", 0).await, [rows[2].clone()]);
}

/// Many windows of many sensors, as a replay brings them.
pub async fn a_big_batch_goes_in_whole<E: Engine>() {
    const SENSORS: usize = 40;
    const WINDOWS: usize = 500;
    let mut store = Store::<E>::new().await;
    let sensors: Vec<String> = (0..SENSORS).map(|sensor| format!("s{sensor}")).collect();
    let at = |window: usize, sensor: usize| feature(WINDOW_NS, window as i64 * WINDOW_NS, (window + sensor) as i64);
    let rows = (0..WINDOWS).flat_map(|window| sensors.iter().enumerate().map(move |(sensor, name)| (window, sensor, &**name)));
    let columns = store.features(rows.map(|(window, sensor, name)| ("pump", name, at(window, sensor))));
    store.write_counting(&columns, SENSORS * WINDOWS, 0, 0).await;
    for (sensor, name) in sensors.iter().enumerate() {
        let expected: Vec<_> = (0..WINDOWS).map(|window| at(window, sensor)).collect();
        assert_eq!(store.all("pump", name, WINDOW_NS).await, expected);
    }
}

/// A long series is read in pages, each behind the last start of the one before.
pub async fn pages_are_bounded_and_half_open<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let columns = store.features((0..100).map(|row| ("pump", "temp", feature(10, row * 10, row))));
    store.write_counting(&columns, 100, 0, 0).await;
    let series = series("pump", "temp");
    let starts = |rows: &[Feature]| rows.iter().map(|row| row.start_ns).collect::<Vec<_>>();
    let between = store.reader.features(&series, 10, 100..120, 10).await.unwrap();
    assert_eq!(starts(&between), [100, 110]);
    let (mut from, mut seen) = (i64::MIN, Vec::new());
    loop {
        let page = store.reader.features(&series, 10, from..i64::MAX, 7).await.unwrap();
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        from = last.start_ns + 1;
        seen.extend(starts(&page));
    }
    assert_eq!(seen, (0..100).map(|row| row * 10).collect::<Vec<_>>());
    assert_eq!(store.all("pump", "no such sensor", 10).await, []);
    assert_eq!(store.all("pump", "temp", 20).await, []);
}

/// Rows come late and out of order; what is latest is told by time.
pub async fn the_latest_feature_is_that_of_the_latest_start_of_each_window<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let rows = [
        feature(10, 20, 1),
        feature(10, 50, 1),
        feature(10, 40, 9),
        feature(60, 0, 3),
        Feature { end_ns: 8, ..feature(0, 7, 2) },
    ];
    let columns = store.features(rows.iter().map(|row| ("pump", "temp", row.clone())));
    store.write_counting(&columns, 5, 0, 0).await;
    let latest = store.reader.latest(&series("pump", "temp")).await.unwrap();
    assert_eq!(latest, [rows[4].clone(), rows[1].clone(), rows[3].clone()]);
    assert_eq!(store.reader.latest(&series("pump", "no such sensor")).await.unwrap(), []);
}

/// What a cache is filled with, whatever the length of a page.
pub async fn the_newest_features_of_all_series_are_found_in_pages<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let rows = [
        ("b", "y", feature(10, 20, 1)),
        ("b", "y", feature(10, 30, 2)),
        ("b", "y", feature(20, 20, 3)),
        ("a", "z", feature(10, 90, 4)),
        ("a", "x", Feature { end_ns: 6, ..feature(0, 5, 5) }),
        ("a", "x", feature(10, 0, 6)),
        ("a", "x", feature(60, 0, 7)),
    ];
    let expected = [4, 5, 6, 3, 1, 2].map(|row| {
        let (asset, sensor, feature) = &rows[row];
        (series(asset, sensor), feature.clone())
    });
    let columns = store.features(rows.clone());
    store.write_counting(&columns, rows.len(), 0, 0).await;
    // A series with readings alone has no feature.
    let readings = store.readings(&[("temp", 1, 1.0)]);
    store.write_counting(&readings, 1, 0, 0).await;
    for limit in [1, 2, 3, 100] {
        let mut seen: Vec<(Series, Feature)> = Vec::new();
        loop {
            let after = seen.last().map(|(series, row)| (series, row.window_ns));
            let page = store.reader.newest_features(after, limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, expected);
    }
}

/// Same value: duplicate. Another: conflict, and the last by offset wins. A series may have features and readings.
pub async fn readings_are_kept_as_a_raw_store_keeps_them<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let columns = store.readings(&[("temp", 7, 7.0), ("temp", -1, 1.0), ("temp", 5, -0.0), ("flow", 5, 2.0)]);
    store.write_counting(&columns, 4, 0, 0).await;
    store.write_counting(&columns, 0, 4, 0).await;
    let columns = store.readings(&[("temp", 5, 0.0), ("temp", 7, 7.0), ("temp", 8, 8.0), ("temp", 8, 9.0)]);
    store.write_counting(&columns, 1, 1, 2).await;
    let columns = store.features([("pump", "temp", feature(10, 0, 1))]);
    store.write_counting(&columns, 1, 0, 0).await;
    let bits =
        |values: Vec<(i64, f64)>| values.into_iter().map(|(time_ns, value)| (time_ns, value.to_bits())).collect::<Vec<_>>();
    let expected = vec![(-1, 1.0), (5, 0.0), (7, 7.0), (8, 9.0)];
    assert_eq!(bits(store.values("temp").await), bits(expected));
    assert_eq!(store.values("flow").await, [(5, 2.0)]);
    let page = store.reader.readings(&series("pump", "temp"), 5..8, 1).await.unwrap();
    assert_eq!((page.len(), page[0].time_ns, page[0].quality, page[0].arrival_ms), (1, 5, Quality::Uncertain, 1_700_000_000_000));
    assert_eq!(store.reader.series().await.unwrap(), [series("pump", "flow"), series("pump", "temp")]);
}

/// Ids of series differ from process to process; names do not.
pub async fn what_was_written_is_there_after_reopening<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let columns = store.features([("pump", "temp", feature(10, 0, 1)), ("fan", "temp", feature(10, 0, 2))]);
    store.write_counting(&columns, 2, 0, 0).await;
    let Store { place, owner, reader, .. } = store;
    drop((owner, reader));
    let mut store = Store::<E>::open(place, CLUSTER).await;
    if E::LEDGER {
        assert_eq!(store.owner.next, 1);
    }
    let rows = [("fan", "temp", feature(10, 0, 3)), ("pump", "temp", feature(10, 0, 1)), ("pump", "temp", feature(10, 10, 4))];
    let columns = store.features(rows.clone());
    store.write_counting(&columns, 2, 1, 0).await;
    assert_eq!(store.all("pump", "temp", 10).await, [rows[1].2.clone(), rows[2].2.clone()]);
    assert_eq!(store.all("fan", "temp", 10).await, [rows[0].2.clone()]);
}

/// A store whose file was removed is rebuilt from the log, not skipped to the committed offset.
pub async fn a_new_store_starts_at_the_start_of_the_log_whatever_was_committed<E: Engine>() {
    if !E::LEDGER {
        return;
    }
    let place = E::place();
    let sink = E::sink(place.as_ref(), CLUSTER, SeriesTable::default()).await;
    let reader = E::reader(place.as_ref()).await;
    let owner = Owner { sink, partition: TopicPartition::new("mantis.features", 3), next: 0 };
    assert_eq!(owner.start(Some(5_000), 40).await, Some(40));
    assert_eq!(owner.start(Some(5_000), 60).await, Some(40), "the store still ends there: the road reports the gap");
    assert_eq!(reader.ledger(CLUSTER, GROUP).await.unwrap(), [("mantis.features".to_owned(), 3, 40)]);
}

/// The ledger waits for what was refused until the road says that its dead letters are durable.
pub async fn no_offset_is_recorded_while_a_row_is_neither_stored_nor_dead_lettered<E: Engine>() {
    if !E::LEDGER {
        return;
    }
    let mut store = Store::<E>::new().await;
    let good = store.features([("pump", "temp", feature(10, 0, 1))]);
    let span = store.owner.span(0, 10);
    let part = store.owner.write_part(&good, 0..1, span.clone(), false).await;
    assert!(matches!(part, Outcome::Ended { advanced: false, .. }), "rows of the batch are left: {part:?}");
    assert_eq!(store.owner.start(None, 0).await, Some(0));
    let bad = store.features([("pump", "temp", Feature { start_ns: i64::MIN, ..feature(10, 0, 1) })]);
    let refused = store.owner.write_part(&bad, 0..1, span.clone(), true).await;
    assert!(matches!(refused, Outcome::Ended { advanced: false, .. }), "a row was refused: {refused:?}");
    assert_eq!(store.owner.start(None, 0).await, Some(0));
    for _ in 0..2 {
        assert_eq!(
            store.owner.sink.advance(std::slice::from_ref(&span)).await.unwrap(),
            None,
            "the second time, its answer was lost"
        );
        assert_eq!(store.owner.start(None, 0).await, Some(10));
    }
}

/// A worker that lost its partition and does not know it yet is told where to go on.
pub async fn a_batch_behind_the_ledger_is_not_written<E: Engine>() {
    if !E::LEDGER {
        return;
    }
    let mut store = Store::<E>::new().await;
    let first = store.features([("pump", "temp", feature(10, 0, 1))]);
    let late = store.features([("pump", "temp", feature(10, 0, 100))]);
    store.owner.write_part(&first, 0..1, store.owner.span(0, 20), true).await;
    let moved = vec![(partition(), 20)];
    for (from, next) in [(0, 10), (0, 20), (5, 25)] {
        for last in [true, false] {
            let outcome = store.owner.write_part(&late, 0..1, store.owner.span(from, next), last).await;
            assert_eq!(outcome, Outcome::Moved(moved.clone()));
        }
    }
    assert_eq!(store.owner.sink.advance(&[store.owner.span(10, 30)]).await.unwrap(), Some(moved));
    assert_eq!(store.all("pump", "temp", 10).await, [feature(10, 0, 1)]);
    assert_eq!(store.owner.start(None, 0).await, Some(20));
    let unknown = [Span { partition: TopicPartition::new("mantis.features", 9), from: 0, next: 1 }];
    let part = Part { columns: &late, rows: 0..1, spans: &unknown, last: true };
    assert!(store.owner.sink.write(part).await.is_err(), "a partition that was never started");
}

/// Transaction markers, compaction and reported gaps leave offsets without records between two batches.
pub async fn offsets_without_records_do_not_stop_the_ledger<E: Engine>() {
    if !E::LEDGER {
        return;
    }
    let mut store = Store::<E>::new().await;
    let columns = store.features([("pump", "temp", feature(10, 0, 1))]);
    store.owner.write_part(&columns, 0..1, store.owner.span(0, 10), true).await;
    let outcome = store.owner.write_part(&columns, 0..1, store.owner.span(13, 20), true).await;
    assert!(matches!(outcome, Outcome::Ended { duplicates: 1, advanced: true, .. }), "{outcome:?}");
    assert_eq!(store.owner.sink.advance(&[store.owner.span(20, 24)]).await.unwrap(), None);
    assert_eq!(store.owner.start(None, 0).await, Some(24));
}

/// Offsets of a broker whose log was wiped mean nothing for the new one, but the rows stay.
pub async fn the_ledger_of_another_cluster_is_not_ours<E: Engine>() {
    if !E::LEDGER {
        return;
    }
    let mut store = Store::<E>::new().await;
    let columns = store.features([("pump", "temp", feature(10, 0, 1))]);
    store.owner.write_part(&columns, 0..1, store.owner.span(0, 500), true).await;
    let Store { place, owner, reader, .. } = store;
    drop((owner, reader));
    let mut store = Store::<E>::open(place, "another cluster").await;
    assert_eq!(store.owner.start(None, 0).await, Some(0));
    let columns = store.features([("pump", "temp", feature(10, 0, 1))]);
    let outcome = store.owner.write_part(&columns, 0..1, store.owner.span(0, 1), true).await;
    assert!(matches!(outcome, Outcome::Ended { duplicates: 1, advanced: true, .. }), "{outcome:?}");
    assert_eq!(store.reader.ledger(CLUSTER, GROUP).await.unwrap(), [("mantis.features".to_owned(), 0, 500)]);
    assert_eq!(store.reader.ledger("another cluster", GROUP).await.unwrap(), [("mantis.features".to_owned(), 0, 1)]);
}

/// What a store said to be durable is there after its process was killed in mid-write, and its ledger is where its rows
/// end. `test` is the full name of the test that calls it: the writer that is killed is this test again, in a process of
/// its own.
pub async fn everything_acknowledged_is_there_after_kill_9<E: Engine>(test: &str) {
    if let Some((place, from)) = is_writer() {
        return write_until_killed::<E>(&place, from).await;
    }
    let place = E::place();
    let mut draw = Draw(u64::from(std::process::id()));
    let mut next = 0;
    for _ in 0..8 {
        let acknowledged = kill_a_writer(test, place.as_ref(), next, &mut draw);
        let reader = E::reader(place.as_ref()).await;
        let sink = E::sink(place.as_ref(), CLUSTER, SeriesTable::default()).await;
        let owner = Owner { sink, partition: partition(), next: 0 };
        next = owner.start(None, 0).await.unwrap_or(acknowledged);
        assert!(next >= acknowledged, "acknowledged up to {acknowledged}, the ledger says {next}");
        let mut found = 0;
        for series in reader.series().await.unwrap() {
            for row in reader.features(&series, WINDOW_NS, ALL_TIMES, usize::MAX).await.unwrap() {
                let offset = row.start_ns / WINDOW_NS;
                assert_eq!((&*series.sensor, &row), (&*sensor_of(offset), &row_of(offset)));
                found += i64::from(offset < next);
                assert!(!E::LEDGER || offset < next, "a row beyond the ledger");
            }
        }
        assert_eq!(found, next, "rows below offset {next}");
    }
}

/// Each offset brings the window of its number.
async fn write_until_killed<E: Engine>(place: &str, from: i64) {
    let mut interner = SeriesInterner::new(100);
    let sink = E::sink(place, CLUSTER, interner.table()).await;
    let owner = Owner { sink, partition: partition(), next: from };
    owner.start(None, 0).await;
    let mut draw = Draw(from as u64);
    let mut from = from;
    loop {
        let next = from + 1 + draw.below(400) as i64;
        let sensors: Vec<_> = (from..next).map(|offset| (offset, sensor_of(offset))).collect();
        let columns = features(&mut interner, sensors.iter().map(|(offset, sensor)| ("pump", &**sensor, row_of(*offset))));
        let outcome = owner.write_part(&columns, 0..columns.rows(), owner.span(from, next), true).await;
        assert!(matches!(outcome, Outcome::Ended { .. }), "{outcome:?}");
        acknowledge(next);
        from = next;
    }
}

fn sensor_of(offset: i64) -> String {
    format!("sensor {}", offset % 40)
}

fn row_of(offset: i64) -> Feature {
    feature(WINDOW_NS, offset * WINDOW_NS, offset)
}
