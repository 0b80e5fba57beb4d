//! What only the embedded raw store does: its file, its locks, its retention.

// A test ends at the first thing that is not as it must be, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{path::Path, time::Duration};

use mantis_pipeline::{Assigned, Columns, Fault, Outcome, Part, Sink, Span, Start, TopicPartition};
use mantis_schemas::{Frame, FrameColumns, Quality, ReadingColumns, SampleFormat, Series, SeriesInterner};
use mantis_stores::{
    ReadingReader,
    raw::{
        RawColumns, RawReader,
        sqlite::{LedgerIdentity, OpenError, Retention, SqliteConfig, SqliteRaw, SqliteRawReader, Trimmed},
    },
};
use rusqlite::Connection;

struct Store {
    sink: SqliteRaw,
    interner: SeriesInterner,
    next: i64,
}

impl Store {
    async fn open(file: &Path, config: SqliteConfig) -> Self {
        let interner = SeriesInterner::new(1000);
        let sink = open(file, &interner, config).unwrap();
        let Start::At(next) = sink.start(&[assigned()]).await.unwrap()[0] else { panic!("the ledger says where to start") };
        Self { sink, interner, next }
    }

    async fn write(&mut self, columns: &RawColumns) -> Result<Outcome, Fault> {
        let spans = [Span { partition: partition(), from: self.next, next: self.next + 1 }];
        let outcome = self.sink.write(Part { columns, rows: 0..columns.rows(), spans: &spans, last: true }).await;
        self.next += i64::from(outcome.is_ok());
        outcome
    }

    fn readings(&mut self, sensor: &str, times: std::ops::Range<i64>) -> RawColumns {
        let series = self.interner.intern("pump", sensor).unwrap();
        let rows = times.clone().count();
        RawColumns::Readings(ReadingColumns {
            series: vec![series; rows],
            value: times.clone().map(|time_ns| time_ns as f64 * 0.1).collect(),
            time_ns: times.collect(),
            quality: vec![Quality::Good; rows],
            arrival_ms: vec![0; rows],
        })
    }
}

fn open(file: &Path, interner: &SeriesInterner, config: SqliteConfig) -> Result<SqliteRaw, OpenError> {
    let identity = LedgerIdentity { cluster_id: "cluster".to_owned(), group: "raw".to_owned() };
    SqliteRaw::open(file, interner.table(), identity, config)
}

fn partition() -> TopicPartition {
    TopicPartition::new("mantis.readings", 0)
}

fn assigned() -> Assigned {
    Assigned { partition: partition(), committed: None, log_start: 0, log_end: 100 }
}

async fn times(reader: &SqliteRawReader, sensor: &str) -> Vec<i64> {
    let series = Series { asset: "pump".into(), sensor: sensor.into() };
    let readings = reader.readings(&series, i64::MIN..i64::MAX, usize::MAX).await.unwrap();
    readings.iter().map(|reading| reading.time_ns).collect()
}

#[tokio::test]
async fn a_file_that_is_absent_foreign_or_newer_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent.db");
    assert!(matches!(SqliteRawReader::open(&absent), Err(OpenError::Absent { path, .. }) if path == absent));
    assert!(!absent.exists(), "a reader makes no file");

    let interner = SeriesInterner::new(1);
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "not a database, but long enough to look like one".repeat(100)).unwrap();
    assert!(matches!(open(&text, &interner, SqliteConfig::default()), Err(OpenError::NotAStore { .. })));

    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE mine (a)").unwrap();
    assert!(matches!(open(&foreign, &interner, SqliteConfig::default()), Err(OpenError::NotAStore { .. })));
    assert!(matches!(SqliteRawReader::open(&foreign), Err(OpenError::NotAStore { .. })));

    let newer = folder.path().join("newer.db");
    drop(open(&newer, &interner, SqliteConfig::default()).unwrap());
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(open(&newer, &interner, SqliteConfig::default()), Err(OpenError::Newer { found: 99, .. })));
    assert!(matches!(SqliteRawReader::open(&newer), Err(OpenError::Newer { found: 99, .. })));
}

#[test]
fn a_file_that_is_just_being_made_is_absent_or_there_and_never_foreign() {
    let folder = tempfile::tempdir().unwrap();
    for file in (0..100).map(|n| folder.path().join(format!("{n}.db"))) {
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| open(&file, &SeriesInterner::new(1), SqliteConfig::default()).map(drop));
            while !writer.is_finished() {
                let opened = SqliteRawReader::open(&file).map(drop);
                assert!(matches!(opened, Ok(()) | Err(OpenError::Absent { .. })), "{opened:?}");
            }
            writer.join().unwrap().unwrap();
        });
    }
}

/// data-loss bug #23: the file is gone and with it its ledger, so the log is read from its start again.
#[tokio::test]
async fn a_removed_file_takes_its_ledger_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("raw.db");
    let mut store = Store::open(&file, SqliteConfig::default()).await;
    let columns = store.readings("temp", 0..10);
    store.write(&columns).await.unwrap();
    drop(store);
    assert_eq!(Store::open(&file, SqliteConfig::default()).await.next, 1);
    std::fs::remove_dir_all(folder.path()).unwrap();
    std::fs::create_dir(folder.path()).unwrap();
    assert_eq!(Store::open(&file, SqliteConfig::default()).await.next, 0);
}

#[tokio::test]
async fn rows_can_be_read_as_plain_columns_by_any_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("raw.db");
    let mut store = Store::open(&file, SqliteConfig::default()).await;
    let columns = store.readings("temp", 5..6);
    store.write(&columns).await.unwrap();
    let row: (String, String, i64, f64) = Connection::open(&file)
        .unwrap()
        .query_row("SELECT asset, sensor, time_ns, value FROM readings JOIN series ON id = series", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap();
    assert_eq!(row, ("pump".to_owned(), "temp".to_owned(), 5, 0.5));
}

#[tokio::test]
async fn a_reader_sees_what_was_written_while_the_writer_runs_and_after_it_was_gone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("raw.db");
    let mut store = Store::open(&file, SqliteConfig::default()).await;
    let reader = SqliteRawReader::open(&file).unwrap();
    for batch in 0..3 {
        let columns = store.readings("temp", batch * 10..batch * 10 + 10);
        store.write(&columns).await.unwrap();
        assert_eq!(times(&reader, "temp").await.len() as i64, batch * 10 + 10);
    }
    drop((store, reader));
    assert_eq!(times(&SqliteRawReader::open(&file).unwrap(), "temp").await.len(), 30);
}

#[tokio::test]
async fn a_write_that_another_program_locks_out_is_retried() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("raw.db");
    let config = SqliteConfig { busy_timeout: Duration::from_millis(1), ..SqliteConfig::default() };
    let mut store = Store::open(&file, config).await;
    let other = Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let columns = store.readings("temp", 0..3);
    let Err(Fault::Retry { reason, .. }) = store.write(&columns).await else { panic!("the file is locked") };
    assert!(reason.contains("locked"), "{reason}");
    other.execute_batch("ROLLBACK").unwrap();
    assert!(matches!(store.write(&columns).await, Ok(Outcome::Ended { written: 3, .. })));
}

#[tokio::test]
async fn a_reader_that_never_ends_stops_the_writer_before_the_log_fills_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("raw.db");
    let config = SqliteConfig {
        wal_checkpoint_bytes: 64 << 10,
        wal_bytes_max: 1 << 20,
        busy_timeout: Duration::from_millis(1),
        ..SqliteConfig::default()
    };
    let mut store = Store::open(&file, config).await;
    let columns = store.readings("temp", 0..1);
    store.write(&columns).await.unwrap();
    let other = Connection::open(&file).unwrap();
    other.execute_batch("BEGIN; SELECT * FROM readings").unwrap();
    let mut taken = 1;
    let refused = loop {
        let columns = store.readings("temp", taken * 1000..taken * 1000 + 1000);
        match store.write(&columns).await {
            Ok(_) => taken += 1,
            Err(fault) => break fault,
        }
        assert!(taken < 1000, "the log grows without bound");
    };
    assert!(matches!(&refused, Fault::Retry { .. }), "{refused}");
    let wal = folder.path().join("raw.db-wal");
    assert!(std::fs::metadata(&wal).unwrap().len() < 2 << 20);
    other.execute_batch("COMMIT").unwrap();
    let columns = store.readings("temp", taken * 1000..taken * 1000 + 1000);
    assert!(matches!(store.write(&columns).await, Ok(Outcome::Ended { written: 1000, .. })));
    assert!(std::fs::metadata(&wal).unwrap().len() < 1 << 20);
}

#[tokio::test]
async fn a_damaged_file_stops_the_worker_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("raw.db");
    let mut store = Store::open(&file, SqliteConfig::default()).await;
    for batch in 0..50 {
        let columns = store.readings("temp", batch * 1000..batch * 1000 + 1000);
        store.write(&columns).await.unwrap();
    }
    drop(store);
    let mut bytes = std::fs::read(&file).unwrap();
    // All but the page with the schema.
    bytes[4096..].fill(0xA5);
    std::fs::write(&file, bytes).unwrap();
    let sink = open(&file, &SeriesInterner::new(1), SqliteConfig::default()).unwrap();
    let Err(Fault::Fatal { reason }) = sink.start(&[assigned()]).await else { panic!("the file is damaged") };
    assert!(reason.contains("raw.db is damaged"), "{reason}");
}

#[tokio::test]
async fn a_retention_deletes_the_oldest_and_leaves_a_record_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("raw.db");
    let mut store = Store::open(&file, SqliteConfig::default()).await;
    let reader = SqliteRawReader::open(&file).unwrap();
    for sensor in ["temp", "flow"] {
        let columns = store.readings(sensor, 0..30_000);
        store.write(&columns).await.unwrap();
    }
    let mut frames = FrameColumns::default();
    for start_ns in [5, 25_000] {
        let series = store.interner.intern("pump", "vibration").unwrap();
        let (format, quality) = (SampleFormat::I16, Quality::Good);
        frames.push(Frame {
            series,
            start_ns,
            sample_rate_hz: 1.0,
            format,
            scale: 1.0,
            quality,
            arrival_ms: 0,
            samples: &[0, 0],
        });
    }
    store.write(&RawColumns::Frames(frames)).await.unwrap();
    assert_eq!(store.sink.retain(Retention::default()).await.unwrap(), Trimmed::default());
    assert_eq!(reader.retained_from().await.unwrap(), None);

    let trimmed = store.sink.retain(Retention { from_ns: Some(25_000), bytes_max: None }).await.unwrap();
    assert_eq!(trimmed, Trimmed { readings: 50_000, frames: 1 });
    assert_eq!(reader.retained_from().await.unwrap(), Some(25_000));
    assert_eq!(times(&reader, "flow").await, (25_000..30_000).collect::<Vec<_>>());

    let late = store.readings("temp", 100..200);
    store.write(&late).await.unwrap();
    let trimmed = store.sink.retain(Retention { from_ns: Some(10), bytes_max: None }).await.unwrap();
    assert_eq!(trimmed, Trimmed { readings: 100, frames: 0 }, "the record never goes back");
    assert_eq!(reader.retained_from().await.unwrap(), Some(25_000));
}

#[tokio::test]
async fn a_bound_on_bytes_keeps_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("raw.db");
    let mut store = Store::open(&file, SqliteConfig::default()).await;
    for batch in 0..10 {
        let columns = store.readings("temp", batch * 10_000..batch * 10_000 + 10_000);
        store.write(&columns).await.unwrap();
    }
    let bound = 1 << 20;
    store.sink.retain(Retention { from_ns: None, bytes_max: Some(bound) }).await.unwrap();
    let reader = SqliteRawReader::open(&file).unwrap();
    let kept = times(&reader, "temp").await;
    let from = reader.retained_from().await.unwrap().unwrap();
    assert_eq!(kept, (from..100_000).collect::<Vec<_>>());
    assert!(kept.len() > 20_000, "about 30 bytes a reading: {}", kept.len());

    let pages_before = pages(&file);
    let columns = store.readings("temp", 100_000..120_000);
    store.write(&columns).await.unwrap();
    assert_eq!(pages(&file), pages_before, "space is used again");
}

#[tokio::test]
async fn one_reading_far_in_the_future_or_past_costs_no_other_reading() {
    const FAR_NS: i64 = 4_000_000_000_000_000_000;
    for outlier_ns in [FAR_NS, -FAR_NS] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("raw.db");
        let mut store = Store::open(&file, SqliteConfig::default()).await;
        let columns = store.readings("flow", outlier_ns..outlier_ns + 1);
        store.write(&columns).await.unwrap();
        for batch in 0..10 {
            let columns = store.readings("temp", batch * 10_000..batch * 10_000 + 10_000);
            store.write(&columns).await.unwrap();
        }
        store.sink.retain(Retention { from_ns: None, bytes_max: Some(1 << 20) }).await.unwrap();
        let reader = SqliteRawReader::open(&file).unwrap();
        let kept = times(&reader, "temp").await;
        assert!(kept.len() > 20_000, "{} of 100,000 were kept with an outlier at {outlier_ns}", kept.len());
        assert_eq!(kept.last(), Some(&99_999));
        assert_eq!(times(&reader, "flow").await.is_empty(), outlier_ns < 0, "the oldest goes, the newest stays");
    }
}

#[tokio::test]
async fn a_bound_on_bytes_takes_the_oldest_of_all_series_and_of_readings_and_frames_alike() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("raw.db");
    let mut store = Store::open(&file, SqliteConfig::default()).await;
    // Each begins later than the one before and has another rate.
    for (sensor, times) in [("a", 0..20_000), ("b", 10_000..30_000), ("c", 25_000..60_000)] {
        let columns = store.readings(sensor, times);
        store.write(&columns).await.unwrap();
    }
    let mut frames = FrameColumns::default();
    for start_ns in (0..60_000).step_by(1_000) {
        let series = store.interner.intern("pump", "vibration").unwrap();
        let (format, quality) = (SampleFormat::I16, Quality::Good);
        frames.push(Frame {
            series,
            start_ns,
            sample_rate_hz: 1.0,
            format,
            scale: 1.0,
            quality,
            arrival_ms: 0,
            samples: &[1; 10_000],
        });
    }
    store.write(&RawColumns::Frames(frames)).await.unwrap();
    store.sink.retain(Retention { from_ns: None, bytes_max: Some(2 << 20) }).await.unwrap();
    let reader = SqliteRawReader::open(&file).unwrap();
    let from = reader.retained_from().await.unwrap().unwrap();
    assert!((1..60_000).contains(&from), "{from}");
    for (sensor, stored) in [("a", 0..20_000), ("b", 10_000..30_000), ("c", 25_000..60_000)] {
        let expected: Vec<_> = stored.filter(|time_ns| *time_ns >= from).collect();
        assert_eq!(times(&reader, sensor).await, expected, "{sensor} from {from} on");
    }
    let vibration = Series { asset: "pump".into(), sensor: "vibration".into() };
    let kept = reader.frames(&vibration, i64::MIN..i64::MAX, 1_000).await.unwrap();
    let expected: Vec<_> = (0..60_000).step_by(1_000).filter(|start_ns| *start_ns >= from).collect();
    assert_eq!(kept.iter().map(|frame| frame.start_ns).collect::<Vec<_>>(), expected);
}

fn pages(file: &Path) -> i64 {
    Connection::open(file).unwrap().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap()
}
