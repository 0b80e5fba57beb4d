//! What every raw store must do, as tests that run on any of them: `raw_conformance!(Engine)` in a file of `tests/`.

// A suite is test code: it ends at the first thing that is not as it must be.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, future::Future};

use mantis_pipeline::{Assigned, Columns, Outcome, Part, Sink, Span, TopicPartition};
use mantis_schemas::{Frame, FrameColumns, Quality, ReadingColumns, SampleFormat, SeriesInterner, SeriesTable};

use super::{RawColumns, RawReader, StoredFrame, StoredReading};
use crate::{
    ReadingReader,
    conformance::{
        CLUSTER, Draw, EXTREME_NUMBERS, EXTREME_TIMES_NS, Ended, ODD_NAMES, Owner, acknowledge, is_writer, kill_a_writer, series,
    },
};

/// A kind of raw store under test.
pub trait Engine: Send + Sync + 'static {
    /// Its writing end.
    type Sink: Sink<Columns = RawColumns>;
    /// Its reading end.
    type Reader: RawReader;
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
    /// A new, empty place for a store: a folder, a bucket.
    fn place() -> Self::Place;
    /// Opens the store at a place for writing, whether it is new or not.
    fn sink(place: &str, cluster_id: &str, series: SeriesTable) -> impl Future<Output = Self::Sink> + Send;
    /// Opens the store at a place for reading.
    fn reader(place: &str) -> impl Future<Output = Self::Reader> + Send;
}

/// One `#[tokio::test]` per case of the suite, for an [`Engine`](crate::raw::conformance::Engine).
#[macro_export]
macro_rules! raw_conformance {
    ($engine:ty) => {
        $crate::raw_conformance!(@cases $engine:
            the_same_readings_again_change_nothing
            another_value_replaces_the_stored_one_and_the_last_by_offset_wins
            two_readings_in_one_nanosecond_do_not_overwrite_each_other_unseen
            a_write_repeated_after_an_unknown_end_duplicates_no_row
            any_sequence_of_writes_ends_as_a_model_of_it_does
            readings_out_of_order_come_back_in_order_of_time
            only_the_rows_of_the_part_are_written
            a_big_batch_goes_in_whole
            ten_thousand_series_are_kept_apart
            odd_names_come_back_byte_for_byte
            extreme_numbers_and_times_come_back_bit_for_bit
            numbers_and_times_that_cannot_be_stored_are_rejected_row_by_row
            frames_of_every_format_come_back_bit_for_bit
            a_frame_again_is_a_duplicate_and_another_one_replaces_it
            pages_are_bounded_and_half_open
            the_newest_reading_of_each_series_is_found_in_pages
            what_was_written_is_there_after_reopening
            a_new_store_starts_at_the_start_of_the_log_whatever_was_committed
            no_offset_is_recorded_while_a_row_is_neither_stored_nor_dead_lettered
            a_zombie_that_writes_late_changes_nothing
            offsets_without_records_do_not_stop_the_ledger
            the_ledger_of_another_cluster_is_not_ours
        );
        #[tokio::test]
        async fn everything_acknowledged_is_there_after_kill_9() {
            if let Some(why) = <$engine as $crate::raw::conformance::Engine>::absent() {
                return mantis_testing::skipped(&why);
            }
            let test = concat!(module_path!(), "::everything_acknowledged_is_there_after_kill_9");
            $crate::raw::conformance::everything_acknowledged_is_there_after_kill_9::<$engine>(test).await;
        }
    };
    (@cases $engine:ty: $($case:ident)*) => {
        $(#[tokio::test] async fn $case() {
            if let Some(why) = <$engine as $crate::raw::conformance::Engine>::absent() {
                return mantis_testing::skipped(&why);
            }
            $crate::raw::conformance::$case::<$engine>().await;
        })*
    };
}

const ROWS_PER_OFFSET: i64 = 10;

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
        let owner = Owner::new(sink, TopicPartition::new("mantis.readings", 0)).await;
        Self { place, interner, owner, reader }
    }

    fn readings(&mut self, rows: &[(&str, &str, i64, f64)]) -> RawColumns {
        let mut columns = ReadingColumns::default();
        for (row, (asset, sensor, time_ns, value)) in rows.iter().enumerate() {
            columns.series.push(self.interner.intern(asset, sensor).unwrap());
            columns.time_ns.push(*time_ns);
            columns.value.push(*value);
            columns.quality.push(Quality::Good);
            columns.arrival_ms.push(1_700_000_000_000 + row as i64 / 3);
        }
        RawColumns::Readings(columns)
    }

    async fn write(&mut self, columns: &RawColumns) -> Ended {
        self.owner.write(columns, E::LEDGER).await
    }

    /// Writes a batch of which every row is taken, and checks the counts where the store knows them.
    async fn write_counting(&mut self, columns: &RawColumns, written: usize, duplicates: usize, conflicts: usize) {
        let ended = self.write(columns).await;
        assert_eq!(ended.rejected, []);
        if E::COUNTS {
            assert_eq!(
                (ended.written, ended.duplicates, ended.conflicts),
                (written, duplicates, conflicts),
                "written, duplicates, conflicts"
            );
        }
    }

    async fn all(&self, asset: &str, sensor: &str) -> Vec<StoredReading> {
        self.reader.readings(&series(asset, sensor), i64::MIN..i64::MAX, usize::MAX).await.unwrap()
    }

    async fn values(&self, asset: &str, sensor: &str) -> Vec<(i64, f64)> {
        self.all(asset, sensor).await.iter().map(|reading| (reading.time_ns, reading.value)).collect()
    }

    async fn all_frames(&self, asset: &str, sensor: &str) -> Vec<StoredFrame> {
        self.reader.frames(&series(asset, sensor), i64::MIN..i64::MAX, usize::MAX).await.unwrap()
    }
}

/// Redelivery is harmless: the row is there once, as it first came.
pub async fn the_same_readings_again_change_nothing<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let mut columns = store.readings(&[("pump", "temp", 1, 1.0), ("pump", "temp", 2, 2.0), ("fan", "temp", 1, 3.0)]);
    store.write_counting(&columns, 3, 0, 0).await;
    let first = store.all("pump", "temp").await;
    if let RawColumns::Readings(readings) = &mut columns
        && E::COUNTS
    {
        readings.arrival_ms.fill(1_800_000_000_000);
    }
    store.write_counting(&columns, 0, 3, 0).await;
    assert_eq!(store.all("pump", "temp").await, first);
    assert_eq!(store.values("fan", "temp").await, [(1, 3.0)]);
}

/// Across batches and within one; a quality is part of what is compared.
pub async fn another_value_replaces_the_stored_one_and_the_last_by_offset_wins<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let first = store.readings(&[("pump", "temp", 1, 1.0), ("pump", "temp", 2, 2.0)]);
    store.write_counting(&first, 2, 0, 0).await;
    let second = store.readings(&[("pump", "temp", 1, 1.0), ("pump", "temp", 2, 2.5), ("pump", "temp", 3, 3.0)]);
    store.write_counting(&second, 1, 1, 1).await;
    assert_eq!(store.values("pump", "temp").await, [(1, 1.0), (2, 2.5), (3, 3.0)]);
    let there_and_back = store.readings(&[("pump", "temp", 1, 9.0), ("pump", "temp", 1, 1.0), ("pump", "temp", 1, 7.0)]);
    store.write_counting(&there_and_back, 0, 0, 3).await;
    assert_eq!(store.values("pump", "temp").await[0], (1, 7.0));
    let mut uncertain = store.readings(&[("pump", "temp", 1, 7.0)]);
    if let RawColumns::Readings(readings) = &mut uncertain {
        readings.quality.fill(Quality::Uncertain);
    }
    store.write_counting(&uncertain, 0, 0, 1).await;
    assert_eq!(store.all("pump", "temp").await[0].quality, Quality::Uncertain);
}

/// data-loss bug #19: of two readings with one series and time, the one that is replaced is counted; other sensors keep theirs.
pub async fn two_readings_in_one_nanosecond_do_not_overwrite_each_other_unseen<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let columns = store.readings(&[
        ("pump", "temp", 5, 1.0),
        ("pump", "flow", 5, 2.0),
        ("fan", "temp", 5, 3.0),
        ("pump", "temp", 5, 1.0),
        ("pump", "temp", 5, 4.0),
        ("pump", "temp", 6, 5.0),
    ]);
    store.write_counting(&columns, 4, 1, 1).await;
    assert_eq!(store.values("pump", "temp").await, [(5, 4.0), (6, 5.0)]);
    assert_eq!(store.values("pump", "flow").await, [(5, 2.0)]);
    assert_eq!(store.values("fan", "temp").await, [(5, 3.0)]);
}

/// data-loss bug #20: a write whose end was not seen is repeated, and no row is there twice.
pub async fn a_write_repeated_after_an_unknown_end_duplicates_no_row<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let columns = store.readings(&[("pump", "temp", 1, 1.0), ("pump", "temp", 2, 2.0)]);
    let span = store.owner.span(store.owner.next, store.owner.next + 1);
    store.owner.write_part(&columns, 0..2, span.clone(), true).await;
    // The answer is lost on the way: the road writes it again.
    let again = store.owner.write_part(&columns, 0..2, span, true).await;
    if E::LEDGER {
        assert_eq!(again, Outcome::Moved(vec![(store.owner.partition.clone(), store.owner.next + 1)]));
    }
    assert_eq!(store.values("pump", "temp").await, [(1, 1.0), (2, 2.0)]);
}

/// Few identities and values, so that batches are full of duplicates and conflicts.
pub async fn any_sequence_of_writes_ends_as_a_model_of_it_does<E: Engine>() {
    const SENSORS: [&str; 3] = ["a", "b", "c"];
    let mut draw = Draw(7);
    let mut store = Store::<E>::new().await;
    let mut model: BTreeMap<(&str, i64), u64> = BTreeMap::new();
    for _ in 0..60 {
        let mut rows: Vec<(&str, &str, i64, f64)> = Vec::new();
        while rows.len() < 1 + draw.below(150) as usize {
            let sensor = SENSORS[draw.below(3) as usize];
            for _ in 0..1 + draw.below(60) {
                rows.push(("pump", sensor, draw.below(400) as i64, [0.0, -0.0, 1.5][draw.below(3) as usize]));
            }
        }
        let (mut written, mut duplicates, mut conflicts) = (0, 0, 0);
        for (_, sensor, time_ns, value) in &rows {
            match model.insert((sensor, *time_ns), value.to_bits()) {
                None => written += 1,
                Some(before) if before == value.to_bits() => duplicates += 1,
                Some(_) => conflicts += 1,
            }
        }
        let columns = store.readings(&rows);
        store.write_counting(&columns, written, duplicates, conflicts).await;
    }
    for sensor in SENSORS {
        let expected: Vec<_> =
            model.iter().filter(|((of, _), _)| *of == sensor).map(|((_, time_ns), bits)| (*time_ns, *bits)).collect();
        let stored: Vec<_> =
            store.values("pump", sensor).await.iter().map(|(time_ns, value)| (*time_ns, value.to_bits())).collect();
        assert_eq!(stored, expected);
    }
}

/// Senders may be late, or send backwards.
pub async fn readings_out_of_order_come_back_in_order_of_time<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let times = [50, -3, 7, 0, 12, 49, -1_000_000_000_000_000_000, 51];
    let rows: Vec<_> = times.iter().map(|time_ns| ("pump", "temp", *time_ns, *time_ns as f64)).collect();
    let columns = store.readings(&rows);
    store.write_counting(&columns, times.len(), 0, 0).await;
    let mut sorted = times;
    sorted.sort_unstable();
    assert_eq!(store.values("pump", "temp").await, sorted.map(|time_ns| (time_ns, time_ns as f64)));
}

/// The road bisects a batch by writing parts of it.
pub async fn only_the_rows_of_the_part_are_written<E: Engine>() {
    let store = &mut Store::<E>::new().await;
    let columns = store.readings(&[
        ("pump", "temp", 1, 1.0),
        ("pump", "temp", 2, f64::NAN),
        ("pump", "temp", 3, 3.0),
        ("pump", "temp", 4, 4.0),
    ]);
    let span = store.owner.span(store.owner.next, store.owner.next + 1);
    let Outcome::Ended { written, rejected, advanced, .. } = store.owner.write_part(&columns, 1..3, span, false).await else {
        panic!("the write did not end");
    };
    assert_eq!((written, advanced), (1, false));
    assert_eq!(rejected.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1], "by index into the columns");
    assert_eq!(store.values("pump", "temp").await, [(3, 3.0)]);
}

/// Many runs of 50 readings, as column batches bring them.
pub async fn a_big_batch_goes_in_whole<E: Engine>() {
    const ROWS: usize = 200_000;
    let mut store = Store::<E>::new().await;
    let sensors: Vec<String> = (0..40).map(|sensor| format!("s{sensor}")).collect();
    let rows: Vec<_> = (0..ROWS).map(|row| ("pump", &*sensors[row / 50 % 40], row as i64, row as f64 * 0.1)).collect();
    let columns = store.readings(&rows);
    store.write_counting(&columns, ROWS, 0, 0).await;
    let mut found = 0;
    for sensor in &sensors {
        for (time_ns, value) in store.values("pump", sensor).await {
            assert_eq!(value, time_ns as f64 * 0.1);
            found += 1;
        }
    }
    assert_eq!(found, ROWS);
}

/// A series per row.
pub async fn ten_thousand_series_are_kept_apart<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let names: Vec<_> =
        (0..10_000).map(|series| (format!("asset-{}", series / 100), format!("sensor-{}", series % 100))).collect();
    let rows: Vec<_> = names.iter().enumerate().map(|(row, (asset, sensor))| (&**asset, &**sensor, 1, row as f64)).collect();
    let columns = store.readings(&rows);
    store.write_counting(&columns, 10_000, 0, 0).await;
    store.write_counting(&columns, 0, 10_000, 0).await;
    let stored = store.reader.series().await.unwrap();
    assert_eq!(stored.len(), 10_000);
    assert!(stored.is_sorted());
    for (row, (asset, sensor)) in names.iter().enumerate().step_by(997) {
        assert_eq!(store.values(asset, sensor).await, [(1, row as f64)]);
    }
}

/// Names are the sender's; a store neither trims, folds nor normalises them.
pub async fn odd_names_come_back_byte_for_byte<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let longest = "ä".repeat(128);
    let names: Vec<&str> = ODD_NAMES.into_iter().chain([&*longest]).collect();
    let mut rows = Vec::new();
    for (row, name) in names.iter().enumerate() {
        rows.push((*name, "temp", 1, row as f64));
        rows.push(("asset", *name, 1, row as f64));
    }
    let columns = store.readings(&rows);
    store.write_counting(&columns, rows.len(), 0, 0).await;
    for (asset, sensor, _, value) in &rows {
        assert_eq!(store.values(asset, sensor).await, [(1, *value)], "{asset:?} {sensor:?}");
    }
    let mut expected: Vec<_> = rows.iter().map(|(asset, sensor, ..)| series(asset, sensor)).collect();
    expected.sort();
    assert_eq!(store.reader.series().await.unwrap(), expected);
}

/// data-loss bug #25: no precision is lost at the store's edge, not the sign of zero either.
pub async fn extreme_numbers_and_times_come_back_bit_for_bit<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let values = EXTREME_NUMBERS;
    let rows: Vec<_> = values.iter().enumerate().map(|(row, value)| ("pump", "temp", row as i64, *value)).collect();
    let columns = store.readings(&rows);
    store.write_counting(&columns, values.len(), 0, 0).await;
    let stored: Vec<u64> = store.values("pump", "temp").await.iter().map(|(_, value)| value.to_bits()).collect();
    assert_eq!(stored, values.map(f64::to_bits));

    let times = EXTREME_TIMES_NS;
    let rows: Vec<_> = times.iter().map(|time_ns| ("pump", "time", *time_ns, 1.0)).collect();
    let columns = store.readings(&rows);
    store.write_counting(&columns, times.len(), 0, 0).await;
    assert_eq!(store.values("pump", "time").await, times.map(|time_ns| (time_ns, 1.0)));
}

/// data-loss bug #25: what a store cannot hold is refused with its reason, and its batch goes on.
pub async fn numbers_and_times_that_cannot_be_stored_are_rejected_row_by_row<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let columns = store.readings(&[
        ("pump", "temp", 1, f64::NAN),
        ("pump", "temp", 2, 2.0),
        ("pump", "temp", 3, f64::INFINITY),
        ("pump", "temp", i64::MIN, 4.0),
        ("pump", "temp", i64::MAX, 5.0),
        ("pump", "temp", 6, f64::NEG_INFINITY),
        ("pump", "temp", 7, 7.0),
    ]);
    let ended = store.write(&columns).await;
    assert_eq!(ended.rejected.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0, 2, 3, 4, 5]);
    assert_eq!(store.values("pump", "temp").await, [(2, 2.0), (7, 7.0)]);
}

fn stored(frame: &Frame<'_>) -> StoredFrame {
    StoredFrame {
        start_ns: frame.start_ns,
        sample_rate_hz: frame.sample_rate_hz,
        format: frame.format,
        scale: frame.scale,
        quality: frame.quality,
        arrival_ms: frame.arrival_ms,
        samples: frame.samples.to_vec(),
    }
}

/// Samples are bytes to a store.
pub async fn frames_of_every_format_come_back_bit_for_bit<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let doubles: Vec<u8> = [0.0, -0.0, 5e-324, f64::MAX, 0.1].iter().flat_map(|sample: &f64| sample.to_le_bytes()).collect();
    let singles: Vec<u8> = [0.0, -0.0, 1e-45, f32::MAX, 0.1].iter().flat_map(|sample: &f32| sample.to_le_bytes()).collect();
    let shorts: Vec<u8> = (i16::MIN..=i16::MAX).flat_map(i16::to_le_bytes).collect();
    let series = store.interner.intern("pump", "vibration").unwrap();
    let frame = |start_ns, sample_rate_hz, format, scale, quality, samples| Frame {
        series,
        start_ns,
        sample_rate_hz,
        format,
        scale,
        quality,
        arrival_ms: start_ns + 7,
        samples,
    };
    let frames = [
        frame(-5, 12_000.0, SampleFormat::F64, 1.0, Quality::Good, &*doubles),
        frame(1, 25_600.1, SampleFormat::F32, 1.0, Quality::Uncertain, &*singles),
        frame(2, 1e-3, SampleFormat::I16, -0.000_305_175_781_25, Quality::Bad, &*shorts),
        frame(3, 48_000.0, SampleFormat::I16, 1.0, Quality::Good, &[][..]),
    ];
    let mut columns = FrameColumns::default();
    // Out of order.
    for index in [2, 0, 3, 1] {
        columns.push(frames[index]);
    }
    store.write_counting(&RawColumns::Frames(columns), 4, 0, 0).await;
    assert_eq!(store.all_frames("pump", "vibration").await, frames.map(|frame| stored(&frame)));
    let newest = store.reader.newest_frame(&self::series("pump", "vibration")).await.unwrap();
    assert_eq!(newest, Some(stored(&frames[3])));
    assert_eq!(store.reader.newest_frame(&self::series("pump", "none")).await.unwrap(), None);
    assert_eq!(store.reader.series().await.unwrap(), [self::series("pump", "vibration")]);
}

/// As for readings; any difference counts.
pub async fn a_frame_again_is_a_duplicate_and_another_one_replaces_it<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let first = Frame {
        series: store.interner.intern("pump", "vibration").unwrap(),
        start_ns: 10,
        sample_rate_hz: 1000.0,
        format: SampleFormat::I16,
        scale: 0.5,
        quality: Quality::Good,
        arrival_ms: 1,
        samples: &[1, 2, 3, 4],
    };
    let mut columns = FrameColumns::default();
    columns.push(first);
    columns.push(first);
    store.write_counting(&RawColumns::Frames(columns), 1, 1, 0).await;
    let mut last = first;
    for other in [
        Frame { samples: &[1, 2, 3, 5], ..first },
        Frame { scale: 0.25, ..first },
        Frame { sample_rate_hz: 1000.5, ..first },
        Frame { quality: Quality::Bad, ..first },
        Frame { format: SampleFormat::F32, ..first },
    ] {
        let mut columns = FrameColumns::default();
        columns.push(other);
        store.write_counting(&RawColumns::Frames(columns), 0, 0, 1).await;
        last = other;
    }
    assert_eq!(store.all_frames("pump", "vibration").await, [stored(&last)]);
}

/// A long series is read in pages, each behind the last time of the one before.
pub async fn pages_are_bounded_and_half_open<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let rows: Vec<_> = (0..100).map(|row| ("pump", "temp", row * 10, row as f64)).collect();
    let columns = store.readings(&rows);
    store.write_counting(&columns, 100, 0, 0).await;
    let series = series("pump", "temp");
    let between = store.reader.readings(&series, 100..120, 10).await.unwrap();
    assert_eq!(between.iter().map(|reading| reading.time_ns).collect::<Vec<_>>(), [100, 110]);
    let (mut from, mut seen) = (i64::MIN, Vec::new());
    loop {
        let page = store.reader.readings(&series, from..i64::MAX, 7).await.unwrap();
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        from = last.time_ns + 1;
        seen.extend(page.iter().map(|reading| reading.time_ns));
    }
    assert_eq!(seen, (0..100).map(|row| row * 10).collect::<Vec<_>>());
    assert_eq!(store.values("pump", "no such sensor").await, []);
}

/// What a cache is filled with.
pub async fn the_newest_reading_of_each_series_is_found_in_pages<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let rows =
        [("b", "y", 5, 1.0), ("a", "z", 9, 2.0), ("a", "x", -3, 3.0), ("b", "y", 7, 4.0), ("b", "y", 6, 5.0), ("a", "z", 1, 6.0)];
    let columns = store.readings(&rows);
    store.write_counting(&columns, rows.len(), 0, 0).await;
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = store.reader.newest_readings(after.as_ref(), 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page.into_iter().map(|(series, reading)| (series, reading.time_ns, reading.value)));
    }
    assert_eq!(seen, [(series("a", "x"), -3, 3.0), (series("a", "z"), 9, 2.0), (series("b", "y"), 7, 4.0)]);
    let newest = store.reader.newest_reading(&series("a", "z")).await.unwrap();
    assert_eq!(newest.map(|reading| (reading.time_ns, reading.value)), Some((9, 2.0)));
    assert_eq!(store.reader.newest_reading(&series("a", "y")).await.unwrap(), None);
}

/// Ids of series differ from process to process; names do not.
pub async fn what_was_written_is_there_after_reopening<E: Engine>() {
    let mut store = Store::<E>::new().await;
    let columns = store.readings(&[("pump", "temp", 1, 1.0), ("fan", "temp", 1, 2.0)]);
    store.write_counting(&columns, 2, 0, 0).await;
    let Store { place, owner, reader, .. } = store;
    drop((owner, reader));
    let mut store = Store::<E>::open(place, CLUSTER).await;
    if E::LEDGER {
        assert_eq!(store.owner.next, 1);
    }
    let columns = store.readings(&[("fan", "temp", 2, 4.0), ("pump", "temp", 2, 3.0), ("pump", "temp", 1, 1.0)]);
    store.write_counting(&columns, 2, 1, 0).await;
    assert_eq!(store.values("pump", "temp").await, [(1, 1.0), (2, 3.0)]);
    assert_eq!(store.values("fan", "temp").await, [(1, 2.0), (2, 4.0)]);
}

/// data-loss bug #23: a store whose file was removed is rebuilt from the log, not skipped to the committed offset.
pub async fn a_new_store_starts_at_the_start_of_the_log_whatever_was_committed<E: Engine>() {
    if !E::LEDGER {
        return;
    }
    let place = E::place();
    let sink = E::sink(place.as_ref(), CLUSTER, SeriesTable::default()).await;
    let reader = E::reader(place.as_ref()).await;
    let owner = Owner { sink, partition: TopicPartition::new("mantis.readings", 3), next: 0 };
    assert_eq!(owner.start(Some(5_000), 40).await, Some(40));
    assert_eq!(owner.start(Some(5_000), 60).await, Some(40), "the store still ends there: the road reports the gap");
    assert_eq!(reader.ledger(CLUSTER, "raw").await.unwrap(), [("mantis.readings".to_owned(), 3, 40)]);
}

/// data-loss bug #16: the ledger waits for what was refused until the road says that its dead letters are durable.
pub async fn no_offset_is_recorded_while_a_row_is_neither_stored_nor_dead_lettered<E: Engine>() {
    if !E::LEDGER {
        return;
    }
    let mut store = Store::<E>::new().await;
    let good = store.readings(&[("pump", "temp", 1, 1.0)]);
    let span = store.owner.span(0, 10);
    let part = store.owner.write_part(&good, 0..1, span.clone(), false).await;
    assert!(matches!(part, Outcome::Ended { advanced: false, .. }), "rows of the batch are left: {part:?}");
    assert_eq!(store.owner.start(None, 0).await, Some(0));
    let bad = store.readings(&[("pump", "temp", 2, f64::NAN)]);
    let refused = store.owner.write_part(&bad, 0..1, span.clone(), true).await;
    assert!(matches!(refused, Outcome::Ended { advanced: false, .. }), "a row was refused: {refused:?}");
    assert_eq!(store.owner.start(None, 0).await, Some(0));
    assert_eq!(store.owner.sink.advance(std::slice::from_ref(&span)).await.unwrap(), None);
    assert_eq!(store.owner.start(None, 0).await, Some(10));
    assert_eq!(store.owner.sink.advance(std::slice::from_ref(&span)).await.unwrap(), None, "again, because its answer was lost");
    assert_eq!(store.owner.start(None, 0).await, Some(10));
}

/// A worker that lost its partition and does not know it yet must not turn values back.
pub async fn a_zombie_that_writes_late_changes_nothing<E: Engine>() {
    if !E::LEDGER {
        return;
    }
    let mut store = Store::<E>::new().await;
    let other = TopicPartition::new("mantis.readings", 1);
    store.owner.sink.start(&[Assigned { partition: other.clone(), committed: None, log_start: 5, log_end: 9 }]).await.unwrap();
    let old = store.readings(&[("pump", "temp", 1, 1.0), ("pump", "temp", 2, 2.0)]);
    let new = store.readings(&[("pump", "temp", 1, 10.0)]);
    store.owner.write_part(&old, 0..1, store.owner.span(0, 10), true).await;
    store.owner.write_part(&new, 0..1, store.owner.span(10, 20), true).await;
    for (from, next) in [(0, 10), (10, 20), (5, 25), (0, 30)] {
        for last in [true, false] {
            let outcome = store.owner.write_part(&old, 0..2, store.owner.span(from, next), last).await;
            assert_eq!(outcome, Outcome::Moved(vec![(store.owner.partition.clone(), 20)]));
        }
    }
    assert_eq!(
        store.owner.sink.advance(&[store.owner.span(10, 30)]).await.unwrap(),
        Some(vec![(store.owner.partition.clone(), 20)])
    );
    let spans = [store.owner.span(0, 10), Span { partition: other.clone(), from: 5, next: 6 }];
    let both = store.owner.sink.write(Part { columns: &old, rows: 0..2, spans: &spans, last: true }).await.unwrap();
    assert_eq!(both, Outcome::Moved(vec![(store.owner.partition.clone(), 20), (other, 5)]), "nothing of the batch was written");
    assert_eq!(store.values("pump", "temp").await, [(1, 10.0)]);
    assert_eq!(store.owner.start(None, 0).await, Some(20));
}

/// Transaction markers, compaction and reported gaps leave offsets without records between two batches.
pub async fn offsets_without_records_do_not_stop_the_ledger<E: Engine>() {
    if !E::LEDGER {
        return;
    }
    let mut store = Store::<E>::new().await;
    let columns = store.readings(&[("pump", "temp", 1, 1.0)]);
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
    let columns = store.readings(&[("pump", "temp", 1, 1.0)]);
    store.owner.write_part(&columns, 0..1, store.owner.span(0, 500), true).await;
    let Store { place, owner, reader, .. } = store;
    drop((owner, reader));
    let mut store = Store::<E>::open(place, "another cluster").await;
    assert_eq!(store.owner.start(None, 0).await, Some(0));
    let columns = store.readings(&[("pump", "temp", 1, 1.0)]);
    let outcome = store.owner.write_part(&columns, 0..1, store.owner.span(0, 1), true).await;
    assert!(matches!(outcome, Outcome::Ended { duplicates: 1, advanced: true, .. }), "{outcome:?}");
    assert_eq!(store.reader.ledger(CLUSTER, "raw").await.unwrap(), [("mantis.readings".to_owned(), 0, 500)]);
    assert_eq!(store.reader.ledger("another cluster", "raw").await.unwrap(), [("mantis.readings".to_owned(), 0, 1)]);
}

/// data-loss bug #23: what a store said to be durable is there after its process was killed in mid-write, and its
/// ledger is where its rows end. `test` is the full name of the test that calls it: the writer that is killed is this
/// test again, in a process of its own.
pub async fn everything_acknowledged_is_there_after_kill_9<E: Engine>(test: &str) {
    if let Some((place, from)) = is_writer() {
        return write_until_killed::<E>(&place, from).await;
    }
    let place = E::place();
    let mut draw = Draw(u64::from(std::process::id()));
    let mut next = 0;
    for _ in 0..16 {
        let acknowledged = kill_a_writer(test, place.as_ref(), next, &mut draw);
        let reader = E::reader(place.as_ref()).await;
        let sink = E::sink(place.as_ref(), CLUSTER, SeriesTable::default()).await;
        let owner = Owner { sink, partition: TopicPartition::new("mantis.readings", 0), next: 0 };
        next = owner.start(None, 0).await.unwrap_or(acknowledged);
        assert!(next >= acknowledged, "acknowledged up to {acknowledged}, the ledger says {next}");
        let mut found = 0;
        for series in reader.series().await.unwrap() {
            for reading in reader.readings(&series, i64::MIN..i64::MAX, usize::MAX).await.unwrap() {
                assert_eq!((&*series.sensor, reading.value), (&*sensor_of(reading.time_ns), value_of(reading.time_ns)));
                found += i64::from(reading.time_ns < next * ROWS_PER_OFFSET);
                assert!(!E::LEDGER || reading.time_ns < next * ROWS_PER_OFFSET, "a row beyond the ledger");
            }
        }
        assert_eq!(found, next * ROWS_PER_OFFSET, "rows below offset {next}");
    }
}

/// Offset `n` brings the rows with times `n * ROWS_PER_OFFSET..(n + 1) * ROWS_PER_OFFSET`.
async fn write_until_killed<E: Engine>(place: &str, from: i64) {
    let mut interner = SeriesInterner::new(100);
    let sink = E::sink(place, CLUSTER, interner.table()).await;
    let partition = TopicPartition::new("mantis.readings", 0);
    let assigned = Assigned { partition: partition.clone(), committed: None, log_start: 0, log_end: i64::MAX };
    sink.start(&[assigned]).await.unwrap();
    let mut draw = Draw(from as u64);
    let mut from = from;
    loop {
        let next = from + 1 + draw.below(500) as i64;
        let mut readings = ReadingColumns::default();
        for time_ns in from * ROWS_PER_OFFSET..next * ROWS_PER_OFFSET {
            readings.series.push(interner.intern("pump", &sensor_of(time_ns)).unwrap());
            readings.time_ns.push(time_ns);
            readings.value.push(value_of(time_ns));
            readings.quality.push(Quality::Good);
            readings.arrival_ms.push(0);
        }
        let columns = RawColumns::Readings(readings);
        let spans = [Span { partition: partition.clone(), from, next }];
        let outcome = sink.write(Part { columns: &columns, rows: 0..columns.rows(), spans: &spans, last: true }).await.unwrap();
        assert!(matches!(outcome, Outcome::Ended { .. }), "{outcome:?}");
        acknowledge(next);
        from = next;
    }
}

fn sensor_of(time_ns: i64) -> String {
    format!("sensor {}", time_ns / 50 % 40)
}

fn value_of(time_ns: i64) -> f64 {
    time_ns as f64 * 0.001
}
