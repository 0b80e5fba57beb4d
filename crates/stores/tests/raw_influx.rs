//! InfluxDB passes the suite of raw stores.

// A test ends at the first thing that is not as it must be, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    ops::Range,
    time::{SystemTime, UNIX_EPOCH},
};

use mantis_pipeline::{Fault, Outcome, Part, Sink, Span, TopicPartition};
use mantis_schemas::{Quality, ReadingColumns, Series, SeriesInterner, SeriesTable};
use mantis_stores::{
    ReadingReader,
    raw::{
        RawColumns,
        conformance::Engine,
        influx::{InfluxConfig, InfluxRaw, InfluxRawReader},
    },
};
use mantis_testing::{Bucket, ORG, server, skipped};

struct Influx;

fn config(bucket: &str) -> InfluxConfig {
    let server = server("influxdb").unwrap();
    let token = std::fs::read_to_string(server.secret_file("influxdb-admin-token")).unwrap();
    InfluxConfig::new(format!("http://{}", server.address), ORG, bucket, token)
}

impl Engine for Influx {
    type Sink = InfluxRaw;
    type Reader = InfluxRawReader;
    type Place = Bucket;
    const LEDGER: bool = false;
    const COUNTS: bool = false;

    fn absent() -> Option<String> {
        server("influxdb").err()
    }

    fn place() -> Bucket {
        Bucket::new(0).unwrap()
    }

    async fn sink(place: &str, _cluster_id: &str, series: SeriesTable) -> InfluxRaw {
        InfluxRaw::new(&config(place), series).unwrap()
    }

    async fn reader(place: &str) -> InfluxRawReader {
        InfluxRawReader::new(&config(place)).unwrap()
    }
}

mantis_stores::raw_conformance!(Influx);

/// A sink of a bucket, and readings at some times of a sensor.
fn readings(config: &InfluxConfig, times_ns: &[i64]) -> (InfluxRaw, RawColumns) {
    let mut interner = SeriesInterner::new(10);
    let columns = RawColumns::Readings(ReadingColumns {
        series: vec![interner.intern("pump", "flow").unwrap(); times_ns.len()],
        time_ns: times_ns.to_vec(),
        value: vec![1.5; times_ns.len()],
        quality: vec![Quality::Good; times_ns.len()],
        arrival_ms: vec![0; times_ns.len()],
    });
    (InfluxRaw::new(config, interner.table()).unwrap(), columns)
}

async fn write(sink: &InfluxRaw, columns: &RawColumns, rows: Range<usize>) -> Result<Outcome, Fault> {
    let spans = [Span { partition: TopicPartition::new("mantis.readings", 0), from: 0, next: 1 }];
    sink.write(Part { columns, rows, spans: &spans, last: true }).await
}

/// data-loss bug #17, data-loss bug #18: the answer names no row, so the road bisects; what is good goes in, what is old is refused alone.
#[tokio::test]
async fn points_behind_the_retention_are_refused_and_those_beside_them_go_in() {
    let bucket = match Bucket::new(3_600) {
        Ok(bucket) => bucket,
        Err(why) => return skipped(&why),
    };
    let config = config(&bucket.name);
    let now_ns = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap();
    let (sink, columns) = readings(&config, &[now_ns, 1_577_836_800_000_000_000, now_ns + 1]);
    let Ok(Outcome::Refused(reason)) = write(&sink, &columns, 0..3).await else { panic!("one of them is old") };
    assert!(reason.code == "refused-by-store" && reason.detail.contains("retention"), "{reason}");
    assert!(matches!(write(&sink, &columns, 1..2).await, Ok(Outcome::Refused(_))));
    for row in [0..1, 2..3] {
        assert!(matches!(write(&sink, &columns, row).await, Ok(Outcome::Ended { written: 1, .. })));
    }
    let series = Series { asset: "pump".into(), sensor: "flow".into() };
    let stored = InfluxRawReader::new(&config).unwrap().readings(&series, i64::MIN..i64::MAX, 10).await.unwrap();
    assert_eq!(stored.iter().map(|reading| reading.time_ns).collect::<Vec<_>>(), [now_ns, now_ns + 1]);
}

/// data-loss bug #4
#[tokio::test]
async fn wrong_credentials_and_a_bucket_that_is_not_there_pause_the_worker_and_drop_nothing() {
    let bucket = match Bucket::new(0) {
        Ok(bucket) => bucket,
        Err(why) => return skipped(&why),
    };
    for config in [InfluxConfig { token: "wrong".into(), ..config(&bucket.name) }, config("no-such-bucket")] {
        let (sink, columns) = readings(&config, &[1]);
        let Err(Fault::Credentials { reason }) = write(&sink, &columns, 0..1).await else { panic!("it must not be written") };
        assert!(reason.contains(&config.bucket) && !reason.contains("wrong"), "{reason}");
    }
}
