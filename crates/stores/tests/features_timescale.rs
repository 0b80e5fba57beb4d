//! TimescaleDB passes the suite of feature stores, and what is its own.

// A test ends at the first thing that is not as it must be, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use mantis_pipeline::{Assigned, Fault, Outcome, Part, Sink, Span, TopicPartition};
use mantis_schemas::{Feature, FeatureColumns, Quality, ReadingColumns, SeriesInterner, SeriesTable};
use mantis_stores::{
    LedgerIdentity, ReadingReader, ValueColumns,
    features::{
        Retention, Trimmed,
        conformance::Engine,
        timescale::{TimescaleFeatures, TimescaleReader, forget_position, migrate},
    },
    postgres::{MigrateError, MigrationEnd, PostgresConfig},
};
use mantis_testing::{Database, Schema, User, skipped};
use tokio::net::TcpListener;

struct Timescale;

fn config(schema: &str, user: User) -> PostgresConfig {
    let database = Database::new("timescaledb").unwrap();
    PostgresConfig { schema: schema.into(), ..PostgresConfig::new(database.url(user), Some(database.password(user))) }
}

fn sink_of(config: &PostgresConfig, cluster_id: &str, series: SeriesTable) -> TimescaleFeatures {
    let identity = LedgerIdentity { cluster_id: cluster_id.to_owned(), group: "timescale".to_owned() };
    TimescaleFeatures::new(config, series, identity).unwrap()
}

impl Engine for Timescale {
    type Sink = TimescaleFeatures;
    type Reader = TimescaleReader;
    type Place = Schema;
    const LEDGER: bool = true;
    const COUNTS: bool = true;

    fn absent() -> Option<String> {
        Database::new("timescaledb").err()
    }

    fn place() -> Schema {
        Schema::new("timescaledb").unwrap()
    }

    async fn sink(place: &str, cluster_id: &str, series: SeriesTable) -> TimescaleFeatures {
        migrate(&config(place, User::Owner), false).await.unwrap();
        sink_of(&config(place, User::Worker), cluster_id, series)
    }

    async fn reader(place: &str) -> TimescaleReader {
        TimescaleReader::new(&config(place, User::Viewer)).unwrap()
    }
}

mantis_stores::feature_conformance!(Timescale);

/// A new schema with its tables; none where TimescaleDB does not run.
async fn migrated() -> Option<Schema> {
    match Schema::new("timescaledb") {
        Ok(schema) => {
            migrate(&config(&schema.name, User::Owner), false).await.unwrap();
            Some(schema)
        }
        Err(why) => {
            skipped(&why);
            None
        }
    }
}

fn readings(interner: &mut SeriesInterner, times_ns: impl IntoIterator<Item = i64>) -> ValueColumns {
    let mut columns = ReadingColumns::default();
    for time_ns in times_ns {
        columns.series.push(interner.intern("pump", "flow").unwrap());
        columns.time_ns.push(time_ns);
        columns.value.push(1.5);
        columns.quality.push(Quality::Good);
        columns.arrival_ms.push(0);
    }
    ValueColumns::Readings(columns)
}

fn partition() -> TopicPartition {
    TopicPartition::new("mantis.readings", 0)
}

async fn start(sink: &TimescaleFeatures) -> Result<(), Fault> {
    let assigned = Assigned { partition: partition(), committed: None, log_start: 0, log_end: 1 << 40 };
    sink.start(&[assigned]).await.map(drop)
}

async fn write(sink: &TimescaleFeatures, columns: &ValueColumns, from: i64) -> Result<Outcome, Fault> {
    let spans = [Span { partition: partition(), from, next: from + 1 }];
    let rows = 0..mantis_pipeline::Columns::rows(columns);
    sink.write(Part { columns, rows, spans: &spans, last: true }).await
}

/// data-loss bug #4
#[tokio::test]
async fn wrong_passwords_missing_rights_and_missing_tables_pause_the_worker_and_drop_nothing() {
    let Some(schema) = migrated().await else { return };
    let mut interner = SeriesInterner::new(10);
    let columns = readings(&mut interner, [1]);
    let wrong = PostgresConfig { password: Some("wrong".into()), ..config(&schema.name, User::Worker) };
    let elsewhere = config("no_such_schema", User::Worker);
    for (config, told) in
        [(wrong, "password"), (config(&schema.name, User::Viewer), "permission denied"), (elsewhere, "mantis migrate")]
    {
        let sink = sink_of(&config, "c", interner.table());
        let Err(Fault::Credentials { reason }) = write(&sink, &columns, 0).await else { panic!("it must not be written") };
        assert!(reason.contains(told) && !reason.contains("wrong\""), "{reason}");
    }
}

/// Migrations again change nothing, and a dry run changes nothing at all.
#[tokio::test]
async fn migrations_are_run_once_each_and_a_dry_run_tells_what_they_would_do() {
    let schema = match Schema::new("timescaledb") {
        Ok(schema) => schema,
        Err(why) => return skipped(&why),
    };
    let owner = config(&schema.name, User::Owner);
    let ends = |migrated: Vec<mantis_stores::postgres::Migrated>| migrated.into_iter().map(|one| one.end).collect::<Vec<_>>();
    for _ in 0..2 {
        let dry = ends(migrate(&owner, true).await.unwrap());
        assert_eq!(dry[..2], [MigrationEnd::Pending; 2], "the one before changed something");
    }
    let (first, second) = tokio::join!(migrate(&owner, false), migrate(&owner, false));
    let mut both = [ends(first.unwrap())[0], ends(second.unwrap())[0]];
    both.sort_by_key(|end| *end == MigrationEnd::Present);
    assert_eq!(both, [MigrationEnd::Applied, MigrationEnd::Present], "one waits for the other");
    assert_eq!(ends(migrate(&owner, false).await.unwrap())[..2], [MigrationEnd::Present; 2]);
}

/// A program that is rolled back does not write what the newer one would not understand.
#[tokio::test]
async fn tables_of_a_newer_program_and_changed_migrations_are_not_touched() {
    let Some(schema) = migrated().await else { return };
    let owner = config(&schema.name, User::Owner);
    schema.run("INSERT INTO migrations (version, name, checksum) VALUES (1000, 'later', '')").unwrap();
    assert!(matches!(migrate(&owner, false).await, Err(MigrateError::Newer { found: 1000, .. })));
    let sink = sink_of(&config(&schema.name, User::Worker), "c", SeriesTable::default());
    let Err(Fault::Fatal { reason }) = start(&sink).await else { panic!("it must not go on") };
    assert!(reason.contains("use the newer program"), "{reason}");
    schema.run("DELETE FROM migrations WHERE version = 1000; UPDATE migrations SET checksum = 'x' WHERE version = 2").unwrap();
    assert!(matches!(migrate(&owner, false).await, Err(MigrateError::Changed { version: 2, .. })));
}

/// Whole chunks go, and the rows before the bound of the chunk that stays.
#[tokio::test]
async fn a_retention_deletes_what_is_older_and_is_on_record() {
    const DAY_NS: i64 = 86_400_000_000_000;
    let Some(schema) = migrated().await else { return };
    let mut interner = SeriesInterner::new(10);
    let columns = readings(&mut interner, (0..40).map(|quarter| quarter * DAY_NS / 4));
    let sink = sink_of(&config(&schema.name, User::Worker), "c", interner.table());
    start(&sink).await.unwrap();
    write(&sink, &columns, 0).await.unwrap();
    let mut windows = FeatureColumns::default();
    for day in 0..40 {
        let row = Feature { window_ns: DAY_NS, start_ns: day * DAY_NS, end_ns: (day + 1) * DAY_NS, ..Feature::default() };
        windows.push(interner.intern("pump", "flow").unwrap(), row);
    }
    write(&sink, &ValueColumns::Features(windows), 1).await.unwrap();
    assert_eq!(sink.retain(Retention::default()).await.unwrap(), Trimmed::default());
    let from_ns = Some(3 * DAY_NS + DAY_NS / 2);
    assert_eq!(sink.retain(Retention { from_ns }).await.unwrap(), Trimmed { features: 4, readings: 14 });
    assert_eq!(sink.retain(Retention { from_ns: Some(1) }).await.unwrap(), Trimmed::default(), "the record never goes back");
    let reader = TimescaleReader::new(&config(&schema.name, User::Viewer)).unwrap();
    assert_eq!(reader.retained_from().await.unwrap(), from_ns);
    let kept = reader.readings(&reader.series().await.unwrap()[0], i64::MIN..i64::MAX, 100).await.unwrap();
    assert_eq!((kept.len(), Some(kept[0].time_ns)), (26, from_ns));
}

/// A worker that was stopped in mid-transaction holds its partition until the server ends the transaction.
#[tokio::test]
async fn a_writer_that_was_stopped_in_mid_write_holds_its_partition_and_no_other() {
    let Some(schema) = migrated().await else { return };
    let mut interner = SeriesInterner::new(10);
    let columns = readings(&mut interner, [1]);
    let config = PostgresConfig { timeout: Duration::from_secs(1), ..config(&schema.name, User::Worker) };
    let sink = sink_of(&config, "c", interner.table());
    start(&sink).await.unwrap();
    let other = Assigned { partition: TopicPartition::new("mantis.readings", 1), committed: None, log_start: 0, log_end: 9 };
    sink.start(std::slice::from_ref(&other)).await.unwrap();
    let held = schema.begin("SELECT next_offset FROM ledger WHERE partition = 0 FOR UPDATE").unwrap();
    assert!(matches!(write(&sink, &columns, 0).await, Err(Fault::Retry { .. })), "within its bound");
    let spans = [Span { partition: other.partition, from: 0, next: 1 }];
    let part = Part { columns: &columns, rows: 0..1, spans: &spans, last: true };
    assert!(matches!(sink.write(part).await, Ok(Outcome::Ended { written: 1, advanced: true, .. })));
    held.end();
    assert!(matches!(write(&sink, &columns, 0).await, Ok(Outcome::Ended { duplicates: 1, advanced: true, .. })));
}

#[tokio::test]
async fn a_server_that_is_away_or_never_answers_is_passing_trouble_within_a_bound() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for address in [silent.local_addr().unwrap().to_string(), "127.0.0.1:1".to_owned()] {
        let url = format!("postgresql://mantis_worker@{address}/mantis?sslmode=disable");
        let config = PostgresConfig { timeout: Duration::from_millis(300), ..PostgresConfig::new(url, None) };
        let Err(Fault::Retry { reason, .. }) = start(&sink_of(&config, "c", SeriesTable::default())).await else {
            panic!("it cannot be started")
        };
        assert!(reason.contains("answer"), "{reason}");
    }
}

#[tokio::test]
async fn the_servers_certificate_is_checked_against_the_named_authority() {
    let Some(schema) = migrated().await else { return };
    let database = Database::new("timescaledb").unwrap();
    let authority = std::fs::read(database.authority_file()).unwrap();
    let url = database.url(User::Worker).replace("disable", "require");
    let encrypted = PostgresConfig { url, authorities_pem: Some(authority), ..config(&schema.name, User::Worker) };
    start(&sink_of(&encrypted, "c", SeriesTable::default())).await.unwrap();
    let other = include_bytes!("../src/postgres/test-authority.pem").to_vec();
    let config = PostgresConfig { authorities_pem: Some(other), ..encrypted };
    let Err(Fault::Retry { reason, .. }) = start(&sink_of(&config, "c", SeriesTable::default())).await else {
        panic!("the server is not the one that was named")
    };
    assert!(reason.contains("certificate"), "{reason}");
}

#[tokio::test]
async fn a_position_that_was_forgotten_is_read_again_from_the_start_of_the_log() {
    let Some(schema) = migrated().await else { return };
    let mut interner = SeriesInterner::new(10);
    let columns = readings(&mut interner, [1]);
    let worker = config(&schema.name, User::Worker);
    let sink = sink_of(&worker, "c", interner.table());
    start(&sink).await.unwrap();
    write(&sink, &columns, 7).await.unwrap();
    assert_eq!(forget_position(&worker, &partition()).await.unwrap(), [8]);
    assert_eq!(forget_position(&worker, &partition()).await.unwrap(), [0_i64; 0]);
}

/// data-loss bug #20: whether the batch of a connection that broke was committed is not known; it is written again, and nothing
/// of it twice.
#[tokio::test]
async fn a_connection_that_was_ended_by_the_server_is_made_anew() {
    let Some(schema) = migrated().await else { return };
    let mut interner = SeriesInterner::new(10);
    let columns = readings(&mut interner, [1, 2]);
    let mut config = config(&schema.name, User::Worker);
    config.url += &format!("&application_name={}", schema.name);
    let sink = sink_of(&config, "c", interner.table());
    start(&sink).await.unwrap();
    write(&sink, &columns, 0).await.unwrap();
    schema.end_connections_named_after_it().unwrap();
    let again = async {
        loop {
            if let Ok(outcome) = write(&sink, &columns, 1).await {
                return outcome;
            }
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(30), again).await.unwrap();
    assert!(matches!(outcome, Outcome::Ended { duplicates: 2, advanced: true, .. }), "{outcome:?}");
}
