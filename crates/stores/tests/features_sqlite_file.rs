//! What only the embedded feature store does: its file for people, its retention, its speed.

// A test ends at the first thing that is not as it must be, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::{path::Path, time::Instant};

use mantis_pipeline::{Assigned, Columns, Outcome, Part, Sink, Span, Start, TopicPartition};
use mantis_schemas::{Feature, FeatureColumns, Figure, Quality, ReadingColumns, Series, SeriesInterner};
use mantis_stores::{
    ReadingReader, ValueColumns,
    features::{
        FeatureReader, Retention, Trimmed,
        sqlite::{LedgerIdentity, OpenError, SqliteConfig, SqliteFeatureReader, SqliteFeatures},
    },
    raw::sqlite::SqliteRaw,
};
use rusqlite::Connection;

struct Store {
    sink: SqliteFeatures,
    interner: SeriesInterner,
    next: i64,
}

impl Store {
    async fn open(file: &Path) -> Self {
        let interner = SeriesInterner::new(1000);
        let sink = SqliteFeatures::open(file, interner.table(), identity(), SqliteConfig::default()).unwrap();
        let assigned = Assigned { partition: partition(), committed: None, log_start: 0, log_end: 100 };
        let Start::At(next) = sink.start(&[assigned]).await.unwrap()[0] else { panic!("the ledger says where to start") };
        Self { sink, interner, next }
    }

    async fn write(&mut self, columns: &ValueColumns) -> Outcome {
        let spans = [Span { partition: partition(), from: self.next, next: self.next + 1 }];
        self.next += 1;
        self.sink.write(Part { columns, rows: 0..columns.rows(), spans: &spans, last: true }).await.unwrap()
    }

    fn windows(&mut self, sensor: &str, window_ns: i64, windows: std::ops::Range<i64>) -> ValueColumns {
        let series = self.interner.intern("pump", sensor).unwrap();
        let mut columns = FeatureColumns::default();
        for window in windows {
            let mut row = Feature {
                window_ns,
                start_ns: window * window_ns,
                end_ns: (window + 1) * window_ns,
                count: 600,
                ..Feature::default()
            };
            Figure::ALL.into_iter().for_each(|figure| row.figures.set(figure, Some(window as f64 * 0.1)));
            columns.push(series, row);
        }
        ValueColumns::Features(columns)
    }
}

fn identity() -> LedgerIdentity {
    LedgerIdentity { cluster_id: "cluster".to_owned(), group: "timescale".to_owned() }
}

fn partition() -> TopicPartition {
    TopicPartition::new("mantis.features", 0)
}

fn series(sensor: &str) -> Series {
    Series { asset: "pump".into(), sensor: sensor.into() }
}

#[tokio::test]
async fn a_raw_store_is_not_taken_for_a_feature_store() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("raw.db");
    let interner = SeriesInterner::new(1);
    drop(SqliteRaw::open(&file, interner.table(), identity(), SqliteConfig::default()).unwrap());
    let Err(error) = SqliteFeatureReader::open(&file) else { panic!("it is a raw store") };
    assert!(error.to_string().contains("raw.db is not a feature store of MANTIS"), "{error}");
    let written = SqliteFeatures::open(&file, interner.table(), identity(), SqliteConfig::default());
    assert!(matches!(written, Err(OpenError::NotAStore { .. })));
}

#[tokio::test]
async fn features_can_be_read_by_name_by_any_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("features.db");
    let mut store = Store::open(&file).await;
    let series = store.interner.intern("pump", "temp").unwrap();
    let mut columns = FeatureColumns::default();
    let day_ns = 86_400_000_000_000;
    let times = [
        (1_788_220_800_500_000_000, 0, "2026-09-01T00:00:00.500000000Z", "frame"),
        (-1, 0, "1969-12-31T23:59:59.999999999Z", "frame"),
        (-9_223_372_036_854_775_806, 0, "1677-09-21T00:12:43.145224194Z", "frame"),
        (0, 10_000_000_000, "1970-01-01T00:00:00.000000000Z", "10s"),
        (0, 90_000_000_000, "1970-01-01T00:00:00.000000000Z", "90s"),
        (day_ns, day_ns, "1970-01-02T00:00:00.000000000Z", "1d"),
        (7, 7, "1970-01-01T00:00:00.000000007Z", "7ns"),
    ];
    for (start_ns, window_ns, ..) in times {
        let mut row = Feature {
            start_ns,
            window_ns,
            end_ns: start_ns + window_ns,
            count: 3,
            extras: r#"{"bpfo":0.5}"#.into(),
            ..Feature::default()
        };
        row.figures.set(Figure::Rms, Some(2.5));
        columns.push(series, row);
    }
    store.write(&ValueColumns::Features(columns)).await;
    let connection = Connection::open(&file).unwrap();
    for (start_ns, window_ns, start, window) in times {
        assert_eq!(mantis_schemas::window_name(window_ns), window);
        let row: (String, String, String, i64, f64, Option<f64>, f64) = connection
            .query_row(
                "SELECT asset, sensor, start, count, rms, mean, extras ->> 'bpfo' FROM features_by_name
                 WHERE start_ns = ?1 AND \"window\" = ?2",
                (start_ns, window),
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?)),
            )
            .unwrap();
        assert_eq!(row, ("pump".to_owned(), "temp".to_owned(), start.to_owned(), 3, 2.5, None, 0.5));
    }
}

#[tokio::test]
async fn a_retention_deletes_what_began_before_and_leaves_a_record_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("features.db");
    let mut store = Store::open(&file).await;
    let reader = SqliteFeatureReader::open(&file).unwrap();
    for (sensor, window_ns) in [("temp", 10), ("temp", 20), ("flow", 10)] {
        let columns = store.windows(sensor, window_ns, 0..15_000);
        store.write(&columns).await;
    }
    let flow = store.interner.intern("pump", "flow").unwrap();
    let rows = 25_000;
    let readings = ReadingColumns {
        series: vec![flow; rows],
        time_ns: (0..rows as i64).collect(),
        value: vec![1.0; rows],
        quality: vec![Quality::Good; rows],
        arrival_ms: vec![0; rows],
    };
    store.write(&ValueColumns::Readings(readings)).await;
    assert_eq!(store.sink.retain(Retention::default()).await.unwrap(), Trimmed::default());
    assert_eq!(reader.retained_from().await.unwrap(), None);

    let trimmed = store.sink.retain(Retention { from_ns: Some(100_005) }).await.unwrap();
    assert_eq!(trimmed, Trimmed { features: 10_001 + 5_001 + 10_001, readings: rows });
    assert_eq!(reader.retained_from().await.unwrap(), Some(100_005));
    for (sensor, window_ns, from) in [("temp", 10, 10_001), ("temp", 20, 5_001), ("flow", 10, 10_001)] {
        let kept = reader.features(&series(sensor), window_ns, i64::MIN..i64::MAX, usize::MAX).await.unwrap();
        let starts: Vec<_> = kept.iter().map(|row| row.start_ns).collect();
        assert_eq!(starts, (from..15_000).map(|window| window * window_ns).collect::<Vec<_>>());
    }

    let late = store.windows("temp", 10, 0..7);
    store.write(&late).await;
    let trimmed = store.sink.retain(Retention { from_ns: Some(10) }).await.unwrap();
    assert_eq!(trimmed, Trimmed { features: 7, readings: 0 }, "the record never goes back");
    assert_eq!(reader.retained_from().await.unwrap(), Some(100_005));
}

/// Prints how fast features are written: by hand, it asserts nothing on time.
#[tokio::test]
#[ignore = "a measurement"]
async fn features_per_second() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("features.db");
    let mut store = Store::open(&file).await;
    let (sensors, windows, batches) = (200, 50, 10);
    let mut taken = std::time::Duration::ZERO;
    for batch in 0..batches {
        let mut columns = FeatureColumns::default();
        for sensor in 0..sensors {
            let ValueColumns::Features(rows) = store.windows(&format!("s{sensor}"), 10, batch * windows..(batch + 1) * windows)
            else {
                return;
            };
            rows.series.iter().zip(rows.rows).for_each(|(series, row)| columns.push(*series, row));
        }
        let columns = ValueColumns::Features(columns);
        let begun = Instant::now();
        assert!(matches!(store.write(&columns).await, Outcome::Ended { written: 10_000, .. }));
        taken += begun.elapsed();
    }
    let rows = i64::from(sensors) * windows * batches;
    println!("{rows} features in {taken:?}: {:.0} per second", rows as f64 / taken.as_secs_f64());
}
