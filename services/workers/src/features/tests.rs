//! The state by itself: what its rows depend on, and what not.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use mantis_schemas::{Feature, Figure, Quality, ReadingColumns, Series, SeriesId};
use proptest::prelude::*;

use super::{
    FeatureConfig, StateSize,
    partition::{Batch, Counts, PartitionState, Published, SENSOR_BYTES},
    sensor::Late,
    snapshot,
};

const S: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * S;

fn config() -> FeatureConfig {
    FeatureConfig { windows_ns: vec![10 * S, 60 * S], lateness_ns: 120 * S, ..FeatureConfig::default() }
}

/// A reading: sensor, time, value, quality, offset of its record.
type Reading = (u32, i64, f64, Quality, i64);

fn reading(sensor: u32, time_ns: i64, value: f64, offset: i64) -> Reading {
    (sensor, time_ns, value, Quality::Good, offset)
}

/// A partition that is fed, and the rows that a store would keep of it.
struct Fed {
    config: FeatureConfig,
    state: PartitionState,
    names: Vec<Arc<Series>>,
    kept: BTreeMap<(String, i64, i64), Feature>,
    late: Vec<Reading>,
    why_late: Vec<Late>,
}

impl Fed {
    fn new(config: FeatureConfig) -> Self {
        let names = (0..8).map(|n| Arc::new(Series { asset: "a".into(), sensor: format!("s{n}").into() })).collect();
        Self { config, state: PartitionState::new(0, 1), names, kept: BTreeMap::new(), late: Vec::new(), why_late: Vec::new() }
    }

    fn feed(&mut self, readings: &[Reading]) {
        let mut columns = ReadingColumns::default();
        let mut offsets = Vec::new();
        for (sensor, time_ns, value, quality, offset) in readings {
            columns.series.push(SeriesId(*sensor));
            columns.time_ns.push(*time_ns);
            columns.value.push(*value);
            columns.quality.push(*quality);
            columns.arrival_ms.push(0);
            offsets.push(*offset);
        }
        let mut published = Vec::new();
        let late = self.state.take(
            &self.config,
            &Batch { readings: &columns, offsets: &offsets, rows: 0..columns.len(), names: &self.names },
            0,
            &mut published,
        );
        self.late.extend(late.iter().map(|(row, _)| readings[*row]));
        self.why_late.extend(late.iter().map(|(_, why)| *why));
        self.keep(published);
    }

    /// As a feature store does: the row with the higher rank stays.
    fn keep(&mut self, published: Vec<Published>) {
        assert_eq!(self.state.size(), self.size(), "the size is counted as the state changes");
        for (series, row) in published {
            let key = (series.sensor.to_string(), row.window_ns, row.start_ns);
            match self.kept.get(&key) {
                Some(before) if before.rank() >= row.rank() => {}
                _ => drop(self.kept.insert(key, row)),
            }
        }
    }

    fn idle(&mut self) {
        let mut published = Vec::new();
        self.state.publish_idle(&self.config, Instant::now() + Duration::from_secs(1), 0, usize::MAX, &mut published);
        self.keep(published);
    }

    /// Writes a snapshot and goes on from it, as after a crash.
    fn restart(&mut self) {
        let mut chunk = Vec::new();
        self.state.sensors().for_each(|(series, sensor)| snapshot::encode(&mut chunk, series, sensor));
        let counts = self.state.counts;
        self.state = PartitionState::new(0, 1);
        snapshot::decode(&self.config, &mut chunk, |series, sensor| self.state.restore(series, sensor));
        assert!(chunk.is_empty(), "every byte is read");
        assert_eq!(self.state.size(), self.size());
        self.state.counts = counts;
    }

    /// What the tables and the sensors take, one by one.
    fn size(&self) -> StateSize {
        let mut size = StateSize { bytes: self.state.table_bytes(), ..StateSize::default() };
        for (Series { asset, sensor }, state) in self.state.sensors() {
            size += StateSize {
                sensors: 1,
                open_windows: state.open.len(),
                samples: state.samples.len(),
                bytes: SENSOR_BYTES + asset.len() + sensor.len() + state.bytes(),
            };
        }
        size
    }

    /// The rows without what may differ between runs.
    fn figures(&self) -> BTreeMap<(String, i64, i64), Feature> {
        let stripped = |row: &Feature| Feature { revision: 0, ..row.clone() };
        self.kept.iter().map(|(key, row)| (key.clone(), stripped(row))).collect()
    }

    fn row(&self, sensor: &str, window_ns: i64, start_ns: i64) -> &Feature {
        &self.kept[&(sensor.to_owned(), window_ns, start_ns)]
    }
}

#[test]
fn a_window_gets_its_final_row_when_its_own_sensor_passes_its_end_and_not_before() {
    let mut fed = Fed::new(config());
    fed.feed(&[reading(0, DAY, 1.0, 0), reading(0, DAY + 9 * S, 3.0, 1)]);
    // Another sensor is far ahead.
    fed.feed(&[reading(1, DAY + 600 * S, 1.0, 2), reading(1, DAY + 700 * S, 1.0, 3)]);
    assert!(!fed.kept.contains_key(&("s0".into(), 10 * S, DAY)));
    fed.feed(&[reading(0, DAY + 10 * S, 7.0, 4)]);
    let row = fed.row("s0", 10 * S, DAY);
    assert_eq!((row.count, row.provisional, row.revision), (2, false, 1));
    assert_eq!(row.figures.get(Figure::Mean), Some(2.0));
    assert!(!fed.kept.contains_key(&("s0".into(), 60 * S, DAY)));
}

#[test]
fn an_idle_sensor_is_published_early_and_nothing_else_changes() {
    let mut fed = Fed::new(config());
    fed.feed(&[reading(0, DAY, 1.0, 0)]);
    fed.idle();
    let row = fed.row("s0", 10 * S, DAY);
    assert_eq!((row.count, row.provisional), (1, true));
    fed.feed(&[reading(0, DAY + S, 3.0, 1), reading(0, DAY + 10 * S, 3.0, 2)]);
    let row = fed.row("s0", 10 * S, DAY);
    assert_eq!((row.count, row.provisional, row.figures.get(Figure::Mean)), (2, false, Some(2.0)));
}

#[test]
fn a_final_row_follows_a_provisional_one_though_no_reading_was_added() {
    let mut fed = Fed::new(config());
    fed.feed(&[reading(0, DAY, 1.0, 0)]);
    fed.idle();
    fed.feed(&[reading(0, DAY + 30 * S, 3.0, 1)]);
    assert!(!fed.row("s0", 10 * S, DAY).provisional);
}

#[test]
fn bad_readings_are_counted_and_enter_no_figure_and_uncertain_ones_do() {
    let mut fed = Fed::new(config());
    fed.feed(&[
        (0, DAY, 1.0, Quality::Good, 0),
        (0, DAY + S, 1e9, Quality::Bad, 1),
        (0, DAY + 2 * S, 3.0, Quality::Uncertain, 2),
        (0, DAY + 10 * S, 0.0, Quality::Bad, 3),
    ]);
    let row = fed.row("s0", 10 * S, DAY);
    assert_eq!((row.count, row.uncertain, row.bad), (2, 1, 1));
    assert_eq!(row.figures.get(Figure::Max), Some(3.0));
    fed.idle();
    let row = fed.row("s0", 10 * S, DAY + 10 * S);
    assert_eq!((row.count, row.bad, row.figures.get(Figure::Mean)), (0, 1, None));
    assert_eq!(fed.state.counts, Counts { readings: 4, good: 1, uncertain: 1, bad: 2, ..Counts::default() });
}

#[test]
fn a_time_that_is_there_already_is_a_duplicate_and_another_value_replaces_it() {
    let mut fed = Fed::new(config());
    fed.feed(&[reading(0, DAY, 1.0, 0), reading(0, DAY, 1.0, 1), reading(0, DAY, 5.0, 2), reading(0, DAY + 10 * S, 0.0, 3)]);
    let row = fed.row("s0", 10 * S, DAY);
    assert_eq!((row.count, row.revision, row.figures.get(Figure::Mean)), (1, 2, Some(5.0)));
    assert_eq!((fed.state.counts.duplicates, fed.state.counts.conflicts), (1, 1));
}

#[test]
fn a_reading_behind_the_lateness_is_told_and_changes_nothing() {
    let mut fed = Fed::new(config());
    fed.feed(&[reading(0, DAY, 1.0, 0), reading(0, DAY + 300 * S, 1.0, 1)]);
    let before = fed.figures();
    fed.feed(&[reading(0, DAY + 179 * S, 9.0, 2), reading(1, DAY, 2.0, 3)]);
    assert_eq!(fed.late, [reading(0, DAY + 179 * S, 9.0, 2)], "another sensor's time makes none late");
    assert_eq!(fed.why_late, [Late::Lateness]);
    assert_eq!(fed.figures(), before);
    fed.feed(&[reading(0, DAY + 180 * S, 9.0, 4)]);
    assert_eq!(fed.late.len(), 1, "the lateness itself is not too late");
    assert_eq!(fed.row("s0", 10 * S, DAY + 180 * S).count, 1);
}

#[test]
fn a_backlog_within_the_lateness_fills_the_outage_and_replaces_the_rows_that_it_cut() {
    let long = FeatureConfig { lateness_ns: 7_200 * S, ..config() };
    let all: Vec<Reading> = (0..4_000).map(|n| reading(0, DAY + n * S, (n * 7 % 13) as f64, n)).collect();
    let other: Vec<Reading> = (0..4_000).map(|n| reading(1, DAY + n * S, n as f64, n)).collect();
    let mut in_order = Fed::new(long.clone());
    in_order.feed(&other);
    in_order.feed(&all);
    in_order.idle();
    let mut late = Fed::new(long);
    late.feed(&other);
    late.feed(&all[..205]);
    late.idle();
    late.feed(&all[3_805..]);
    late.idle();
    assert_eq!(late.row("s0", 60 * S, DAY + 180 * S).count, 25, "cut by the outage");
    assert!(!late.kept.contains_key(&("s0".into(), 60 * S, DAY + 600 * S)));
    for some in all[205..3_805].chunks(100) {
        late.feed(some);
    }
    late.idle();
    assert_eq!(late.figures(), in_order.figures());
    assert_eq!(late.late, []);
}

#[test]
fn a_window_of_more_samples_than_its_bound_says_that_its_figures_are_from_moments_and_they_are_close() {
    let few = FeatureConfig { windows_ns: vec![1_000 * S], samples_max: 64, lateness_ns: 10 * S, ..config() };
    let many = FeatureConfig { samples_max: 10_000, ..few.clone() };
    let readings: Vec<Reading> =
        (0..1_001).map(|n| reading(0, DAY - DAY % (1_000 * S) + n * S, 1e6 + (n as f64 * 0.37).sin(), n)).collect();
    let rows = [few, many].map(|config| {
        let mut fed = Fed::new(config);
        fed.feed(&readings);
        fed.kept.into_values().find(|row| !row.provisional).unwrap()
    });
    let [moments, exact] = &rows;
    assert!(!moments.exact && exact.exact);
    assert_eq!((moments.count, exact.count), (1_000, 1_000));
    assert_eq!(moments.figures.get(Figure::ZeroCrossings), None);
    for figure in
        Figure::ALL.into_iter().filter(|figure| ![Figure::ZeroCrossings, Figure::PeakAc, Figure::CrestFactorAc].contains(figure))
    {
        match (moments.figures.get(figure), exact.figures.get(figure)) {
            (Some(one), Some(other)) => assert!((one - other).abs() <= 1e-9 * other.abs().max(1e-3), "{figure:?}: {one} {other}"),
            (one, other) => assert_eq!(one, other, "{figure:?}"),
        }
    }
}

#[test]
fn a_batch_of_more_readings_than_a_sensor_keeps_gives_the_figures_of_small_batches() {
    let few = FeatureConfig { samples_max: 256, ..config() };
    let readings: Vec<Reading> = (0..2_000).map(|n| reading(0, DAY + n * S, (n * 7 % 13) as f64, n)).collect();
    let rows = [10, 2_000].map(|size| {
        let mut fed = Fed::new(few.clone());
        readings.chunks(size).for_each(|some| fed.feed(some));
        fed.figures()
    });
    assert!(rows[0].values().all(|row| row.exact));
    assert_eq!(rows[0], rows[1]);
}

#[test]
fn a_reading_of_a_time_whose_samples_are_folded_is_too_late_and_changes_no_row() {
    let few = FeatureConfig { samples_max: 32, ..config() };
    let mut fed = Fed::new(few);
    let readings: Vec<Reading> = (0..100).map(|n| reading(0, DAY + n * S, 1.0, n)).collect();
    readings.chunks(10).for_each(|some| fed.feed(some));
    let before = fed.figures();
    assert_eq!(fed.row("s0", 10 * S, DAY).count, 10);
    // One that is new, and one that was there already: neither can be told from the other.
    let late = [reading(0, DAY + S / 2, 12.0, 100), reading(0, DAY, 1.0, 101)];
    fed.feed(&late);
    assert_eq!(fed.late, late);
    assert_eq!(fed.why_late, [Late::Samples; 2]);
    assert_eq!(fed.figures(), before);
}

#[test]
fn of_two_values_of_one_time_in_one_record_the_last_one_counts_also_where_samples_reach_their_bound() {
    let few = FeatureConfig { windows_ns: vec![10 * S], samples_max: 8, ..config() };
    for readings in 1..40 {
        let mut fed = Fed::new(few.clone());
        let mut record: Vec<Reading> = (0..readings).map(|n| reading(0, DAY + n * S, 1.0, 7)).collect();
        record.extend([reading(0, DAY + readings * S, 2.0, 7), reading(0, DAY + readings * S, 4.0, 7)]);
        fed.feed(&record);
        fed.feed(&[reading(0, DAY + 60 * S, 0.0, 8)]);
        let start_ns = DAY + readings / 10 * 10 * S;
        assert_eq!(fed.row("s0", 10 * S, start_ns).figures.get(Figure::Last), Some(4.0), "{readings} readings before");
    }
}

#[test]
fn windows_below_the_bound_are_exact_though_their_sensor_sends_far_more_within_its_lateness() {
    // 60 samples a minute, and three minutes that a late reading could ask for.
    let few = FeatureConfig { samples_max: 61, ..config() };
    let all: Vec<Reading> = (0..3_000).map(|n| reading(0, DAY + n * S, (n * 7 % 13) as f64, n)).collect();
    let mut unbounded = Fed::new(config());
    let mut fed = Fed::new(few);
    for some in all.chunks(7) {
        // Each batch but its first reading comes 50 s behind the newest.
        let newest = some[0].1 + 50 * S;
        for fed in [&mut unbounded, &mut fed] {
            fed.feed(&[reading(0, newest + S / 2, 0.0, some[0].4)]);
            fed.feed(some);
        }
        let (_, sensor) = fed.state.sensors().next().unwrap();
        assert!(sensor.samples.len() <= 2 * 61 + 7, "{} samples", sensor.samples.len());
    }
    assert_eq!(fed.late, []);
    assert!(fed.kept.values().all(|row| row.exact));
    assert_eq!(fed.figures(), unbounded.figures());

    let before = fed.figures();
    fed.feed(&[reading(0, DAY + 2_930 * S + 1, 9.0, 3_000)]);
    assert_eq!(fed.why_late, [Late::Samples], "it is within the lateness, and its minute is not kept any more");
    assert_eq!(fed.figures(), before);
}

#[test]
fn what_a_sensor_keeps_is_bounded_by_its_lateness_and_windows() {
    let mut fed = Fed::new(config());
    for n in 0..10_000 {
        fed.feed(&[reading(0, DAY + n * S, n as f64, n)]);
    }
    let (_, sensor) = fed.state.sensors().next().unwrap();
    assert!(sensor.samples.len() <= 190, "{} samples", sensor.samples.len());
    assert!(sensor.open.len() <= 2, "{} windows", sensor.open.len());
}

#[test]
fn a_state_that_comes_back_keeps_nothing_that_a_shorter_lateness_does_not_need() {
    let mut fed = Fed::new(FeatureConfig { lateness_ns: 3_600 * S, ..config() });
    let readings: Vec<Reading> = (0..3_600).map(|n| reading(0, DAY + n * S, (n * 7 % 13) as f64, n)).collect();
    fed.feed(&readings);
    let before = fed.state.size();
    fed.config = config();
    fed.restart();
    let after = fed.state.size();
    // The window of a minute that holds the earliest time which is not too late.
    assert_eq!((before.samples, after.samples), (3_600, 180));
    assert!(after.bytes < before.bytes / 10, "{before:?}, then {after:?}");
    fed.feed(&[reading(0, DAY + 3_600 * S, 0.0, 3_600)]);
    let mut at_once = Fed::new(config());
    at_once.feed(&readings);
    at_once.feed(&[reading(0, DAY + 3_600 * S, 0.0, 3_600)]);
    assert_eq!(fed.figures(), at_once.figures());
}

#[test]
fn room_that_a_burst_took_is_given_back_and_room_that_is_needed_again_stays() {
    let mut fed = Fed::new(FeatureConfig { lateness_ns: 0, windows_ns: vec![60 * S], ..config() });
    let bytes = |fed: &Fed| fed.state.size().bytes;
    // A minute of 100 readings a second, then one a second.
    (0..6_000).for_each(|n| fed.feed(&[reading(0, DAY + n * S / 100, 1.0, n)]));
    let burst = bytes(&fed);
    let mut minutes = Vec::new();
    for minute in 1..5 {
        (0..60).for_each(|n| fed.feed(&[reading(0, DAY + (minute * 60 + n) * S, 1.0, minute)]));
        minutes.push(bytes(&fed));
    }
    assert!(burst > 6_000 * 12 && minutes[1] < burst / 20, "{burst} bytes in the burst, then {minutes:?}");
    assert!(minutes[1..].iter().all(|bytes| *bytes == minutes[1]), "{minutes:?}");
}

fn schedule() -> impl Strategy<Value = (Vec<Reading>, Vec<usize>, Vec<bool>)> {
    let one = (0..3_u32, 0..100_i64, -5..5_i32, 0..12_u8);
    let readings = prop::collection::vec(one, 1..120).prop_map(|readings| {
        let quality = |q| match q {
            0 => Quality::Bad,
            1 => Quality::Uncertain,
            _ => Quality::Good,
        };
        let mut seen = std::collections::BTreeSet::new();
        readings
            .into_iter()
            // One value per time: of two values the last by offset wins, which is order.
            .filter(|(sensor, second, ..)| seen.insert((*sensor, *second)))
            .enumerate()
            .map(|(at, (sensor, second, value, q))| (sensor, DAY + second * S, f64::from(value), quality(q), at as i64))
            .collect::<Vec<_>>()
    });
    (readings, prop::collection::vec(1..20_usize, 1..40), prop::collection::vec(any::<bool>(), 1..40))
}

proptest! {
    #[test]
    fn figures_do_not_depend_on_order_batches_idleness_or_restarts(
        (readings, sizes, restarts) in schedule(),
        shuffled in any::<prop::sample::Index>(),
        doubled in any::<bool>(),
    ) {
        let mut expected = Fed::new(config());
        expected.feed(&readings);
        expected.idle();

        let mut order = readings.clone();
        // Everything lies within the lateness, so any order is as good.
        let turn = shuffled.index(order.len());
        order.rotate_left(turn);
        if turn % 2 == 0 {
            order.reverse();
        }
        if doubled {
            order.extend(readings.clone());
        }
        // Offsets are those of arrival.
        order.iter_mut().enumerate().for_each(|(at, reading)| reading.4 = at as i64);
        let mut fed = Fed::new(config());
        let (mut rest, mut turn) = (&order[..], 0);
        while !rest.is_empty() {
            let (some, more) = rest.split_at(sizes[turn % sizes.len()].min(rest.len()));
            fed.feed(some);
            if restarts[turn % restarts.len()] {
                fed.restart();
            }
            if turn % 3 == 0 {
                fed.idle();
            }
            (rest, turn) = (more, turn + 1);
        }
        fed.idle();
        prop_assert_eq!(fed.late.len(), 0);
        prop_assert_eq!(fed.figures(), expected.figures());
        prop_assert_eq!(fed.state.counts.duplicates, if doubled { readings.len() as u64 } else { 0 });
    }

    #[test]
    fn a_state_comes_back_from_its_snapshot_as_it_was(readings in prop::collection::vec((0..3_u32, 0..400_i64, any::<f64>(), 0..3_u8), 0..200)) {
        let few = FeatureConfig { samples_max: 32, ..config() };
        let mut fed = Fed::new(few);
        for (at, (sensor, second, value, quality)) in readings.into_iter().enumerate() {
            let quality = [Quality::Good, Quality::Uncertain, Quality::Bad][usize::from(quality)];
            fed.feed(&[(sensor, DAY + second * S, if value.is_finite() { value } else { 0.0 }, quality, at as i64)]);
        }
        let bytes = |fed: &Fed| {
            let mut bytes = Vec::new();
            for (series, sensor) in fed.state.sensors() {
                // What is not needed any more is dropped when a window ends, and when a snapshot is read.
                let mut needed = sensor.clone();
                needed.retire(&fed.config);
                snapshot::encode(&mut bytes, series, &needed);
            }
            bytes
        };
        let before = bytes(&fed);
        fed.restart();
        prop_assert_eq!(before, bytes(&fed));
    }

    #[test]
    fn bytes_that_are_no_snapshot_are_left_over_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut rest, mut sensors) = (bytes.clone(), 0);
        snapshot::decode(&config(), &mut rest, |_, _| sensors += 1);
        // Names and two times alone take 20 bytes.
        prop_assert!(sensors * 20 <= bytes.len() - rest.len());
        prop_assert!(bytes.ends_with(&rest));
    }
}
