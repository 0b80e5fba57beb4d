//! TimescaleDB: what the sink brings in, as a share of what the server takes from COPY alone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use mantis_pipeline::{Assigned, Columns, Outcome, Part, Sink, Span, TopicPartition};
use mantis_schemas::{Feature, FeatureColumns, Figure as Named, ReadingColumns, SeriesInterner, SeriesTable};
use mantis_stores::{
    LedgerIdentity, ValueColumns,
    features::timescale::{TimescaleFeatures, migrate},
    postgres::PostgresConfig,
};
use mantis_testing::{Schema, User};
use tokio_postgres::{Client, NoTls};

use crate::{
    figures::{Figure, median},
    process::cpu_seconds,
    workload::{SENSORS, START_NS, readings},
};

/// Rows of a batch, as the worker makes them.
const BATCH_ROWS: usize = 20_000;
const BATCHES: usize = 40;
const FEATURE_ROWS: usize = 5_000;
const FEATURE_BATCHES: usize = 20;
const ROUNDS: usize = 3;

/// Readings beside COPY into the same table, ABBA, and features.
pub async fn run() -> Result<Vec<Figure>> {
    let absent = |why: String| anyhow!(why);
    drop(Schema::new("timescaledb").map_err(absent)?);
    let (mut sink_s, mut copy_s, mut cpu_s) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                let (seconds, cpu) = by_sink().await?;
                sink_s.push(seconds);
                cpu_s.push(cpu);
            } else {
                copy_s.push(by_copy().await?);
            }
        }
    }
    let rows = (BATCHES * BATCH_ROWS) as f64;
    let (sink_s, copy_s, cpu_s) = (median(sink_s), median(copy_s), median(cpu_s));
    Ok(vec![
        Figure::plain("TimescaleDB: readings by the sink, one connection", rows / sink_s, "rows/s"),
        Figure::plain("TimescaleDB: readings by binary COPY alone, one connection", rows / copy_s, "rows/s"),
        Figure::at_least("TimescaleDB: the sink's share of COPY", copy_s / sink_s, "", 0.5),
        Figure::plain("TimescaleDB: CPU of the sink per reading", cpu_s / rows * 1e9, "ns"),
        Figure::at_least("TimescaleDB: features by the sink", features().await?, "rows/s", 20e3),
    ])
}

async fn place() -> Result<(Schema, PostgresConfig)> {
    let schema = Schema::new("timescaledb").map_err(|why| anyhow!(why))?;
    let of = |user| PostgresConfig {
        schema: schema.name.clone(),
        timeout: Duration::from_secs(120),
        ..PostgresConfig::new(schema.database().url(user), Some(schema.database().password(user)))
    };
    migrate(&of(User::Owner), false).await?;
    let worker = of(User::Worker);
    Ok((schema, worker))
}

fn partition() -> TopicPartition {
    TopicPartition::new("mantis.readings", 0)
}

async fn sink(config: &PostgresConfig, series: SeriesTable) -> Result<TimescaleFeatures> {
    let identity = LedgerIdentity { cluster_id: "bench".into(), group: "bench".into() };
    let sink = TimescaleFeatures::new(config, series, identity)?;
    sink.start(&[Assigned { partition: partition(), committed: None, log_start: 0, log_end: 1 }]).await?;
    Ok(sink)
}

async fn write(sink: &TimescaleFeatures, columns: &ValueColumns, batch: usize) -> Result<()> {
    let spans = [Span { partition: partition(), from: batch as i64, next: batch as i64 + 1 }];
    let rows = columns.rows();
    match sink.write(Part { columns, rows: 0..rows, spans: &spans, last: true }).await? {
        Outcome::Ended { written, .. } if written == rows => Ok(()),
        other => bail!("a batch was not written whole: {other:?}"),
    }
}

/// Seconds, and seconds of our CPU.
async fn by_sink() -> Result<(f64, f64)> {
    let (_schema, config) = place().await?;
    let mut interner = SeriesInterner::new(SENSORS);
    let batches: Vec<ValueColumns> = (0..BATCHES)
        .map(|batch| Ok(ValueColumns::Readings(readings(&mut interner, batch, BATCH_ROWS)?)))
        .collect::<Result<_>>()?;
    let sink = sink(&config, interner.table()).await?;
    let (began, cpu) = (Instant::now(), cpu_seconds(std::process::id())?);
    for (batch, columns) in batches.iter().enumerate() {
        write(&sink, columns, batch).await?;
    }
    Ok((began.elapsed().as_secs_f64(), cpu_seconds(std::process::id())? - cpu))
}

/// The same rows, made ready before, straight into the table; each batch a transaction.
async fn by_copy() -> Result<f64> {
    let (schema, _) = place().await?;
    let mut interner = SeriesInterner::new(SENSORS);
    let bodies: Vec<Bytes> =
        (0..BATCHES).map(|batch| Ok(body(&readings(&mut interner, batch, BATCH_ROWS)?))).collect::<Result<_>>()?;
    let client = connect(&schema).await?;
    let began = Instant::now();
    for body in bodies {
        let into = client.copy_in("COPY readings (series, time_ns, value, quality, arrival_ms) FROM STDIN BINARY").await?;
        let mut into = std::pin::pin!(into);
        into.send(body).await?;
        into.finish().await?;
    }
    Ok(began.elapsed().as_secs_f64())
}

async fn connect(schema: &Schema) -> Result<Client> {
    let mut config: tokio_postgres::Config = schema.database().url(User::Owner).parse()?;
    config.password(schema.database().password(User::Owner)).options(format!("-c search_path={},public", schema.name));
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn body(readings: &ReadingColumns) -> Bytes {
    let mut body = BytesMut::new();
    body.put_slice(b"PGCOPY\n\xff\r\n\0");
    body.put_i64(0);
    for row in 0..readings.len() {
        body.put_i16(5);
        body.put_i32(4);
        body.put_i32(readings.series[row].0 as i32 + 1);
        body.put_i32(8);
        body.put_i64(readings.time_ns[row]);
        body.put_i32(8);
        body.put_f64(readings.value[row]);
        body.put_i32(2);
        body.put_i16(0);
        body.put_i32(8);
        body.put_i64(readings.arrival_ms[row]);
    }
    body.put_i16(-1);
    body.freeze()
}

/// Rows per second of new windows.
async fn features() -> Result<f64> {
    const WINDOW_NS: i64 = 10_000_000_000;
    let (_schema, config) = place().await?;
    let mut interner = SeriesInterner::new(SENSORS);
    let mut batches = Vec::new();
    for batch in 0..FEATURE_BATCHES {
        let mut columns = FeatureColumns::default();
        for row in 0..FEATURE_ROWS {
            let (sensor, turn) = (row % SENSORS, batch * (FEATURE_ROWS / SENSORS) + row / SENSORS);
            let series = interner.intern(&format!("press-{:02}", sensor / 10), &format!("temperature-{}", sensor % 10));
            let start_ns = START_NS + turn as i64 * WINDOW_NS;
            let mut feature =
                Feature { window_ns: WINDOW_NS, start_ns, end_ns: start_ns + WINDOW_NS, count: 100, ..Feature::default() };
            Named::ALL.into_iter().for_each(|figure| feature.figures.set(figure, Some(row as f64 / 7.0)));
            columns.push(series.context("too many series")?, feature);
        }
        batches.push(ValueColumns::Features(columns));
    }
    let sink = sink(&config, interner.table()).await?;
    let began = Instant::now();
    for (batch, columns) in batches.iter().enumerate() {
        write(&sink, columns, batch).await?;
    }
    Ok((FEATURE_BATCHES * FEATURE_ROWS) as f64 / began.elapsed().as_secs_f64())
}
