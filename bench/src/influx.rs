//! InfluxDB: what the sink brings in, as a share of what the server takes from a plain loader with the same bodies.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::{Result, anyhow, bail};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use mantis_pipeline::{Outcome, Part, Sink, Span, TopicPartition};
use mantis_schemas::SeriesInterner;
use mantis_stores::raw::{
    RawColumns,
    influx::{InfluxConfig, InfluxRaw},
};
use mantis_testing::{Bucket, ORG};
use tokio::task::JoinSet;

use crate::{
    figures::{Figure, median},
    process::cpu_seconds,
    workload::{SENSORS, readings},
};

/// Rows of a request.
const BATCH_ROWS: usize = 5_000;
const BATCHES: usize = 300;
/// Requests under way at once.
const CONNECTIONS: usize = 4;
const ROUNDS: usize = 3;

/// The sink beside the loader, ABBA.
pub async fn run() -> Result<Vec<Figure>> {
    let mut interner = SeriesInterner::new(SENSORS);
    let batches: Vec<RawColumns> =
        (0..BATCHES).map(|batch| Ok(RawColumns::Readings(readings(&mut interner, batch, BATCH_ROWS)?))).collect::<Result<_>>()?;
    let batches = Arc::new(batches);
    let bodies: Arc<Vec<Bytes>> = Arc::new(batches.iter().map(body).collect::<Result<_>>()?);
    let (mut sink_s, mut plain_s, mut cpu_s) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for turn in 0..2 {
            let bucket = Bucket::new(0).map_err(|why| anyhow!(why))?;
            let token = std::fs::read_to_string(bucket.token_file())?;
            let config = InfluxConfig::new(bucket.url(), ORG, &bucket.name, token);
            if (round + turn) % 2 == 0 {
                let sink = Arc::new(InfluxRaw::new(&config, interner.table())?);
                let cpu = cpu_seconds(std::process::id())?;
                sink_s.push(by_sink(sink, batches.clone()).await?);
                cpu_s.push(cpu_seconds(std::process::id())? - cpu);
            } else {
                plain_s.push(by_loader(&config, bodies.clone()).await?);
            }
        }
    }
    let rows = (BATCHES * BATCH_ROWS) as f64;
    let (sink_s, plain_s, cpu_s) = (median(sink_s), median(plain_s), median(cpu_s));
    Ok(vec![
        Figure::plain("InfluxDB: readings by the sink, 4 connections", rows / sink_s, "readings/s"),
        Figure::plain("InfluxDB: readings by a plain loader with bodies made before", rows / plain_s, "readings/s"),
        Figure::at_least("InfluxDB: the sink's share of the loader", plain_s / sink_s, "", 0.9),
        Figure::plain("InfluxDB: CPU of the sink per reading", cpu_s / rows * 1e9, "ns"),
    ])
}

/// The lines that the sink writes, by hand.
fn body(columns: &RawColumns) -> Result<Bytes> {
    let RawColumns::Readings(readings) = columns else { bail!("readings were made") };
    let mut body = GzEncoder::new(Vec::new(), Compression::fast());
    for row in 0..readings.len() {
        let sensor = row % SENSORS;
        let (asset, name) = (sensor / 10, sensor % 10);
        let (value, time_ns, arrival_ms) = (readings.value[row], readings.time_ns[row], readings.arrival_ms[row]);
        writeln!(
            body,
            "readings,asset=press-{asset:02},sensor=temperature-{name} value={value},quality=0i,arrival_ms={arrival_ms}i {time_ns}"
        )?;
    }
    Ok(body.finish()?.into())
}

async fn by_sink(sink: Arc<InfluxRaw>, batches: Arc<Vec<RawColumns>>) -> Result<f64> {
    side_by_side(move |batch| {
        let (sink, batches) = (sink.clone(), batches.clone());
        async move {
            let spans = [Span { partition: TopicPartition::new("mantis.readings", 0), from: 0, next: 1 }];
            let part = Part { columns: &batches[batch], rows: 0..BATCH_ROWS, spans: &spans, last: true };
            match sink.write(part).await? {
                Outcome::Ended { written: BATCH_ROWS, .. } => Ok(()),
                other => bail!("a batch was not written whole: {other:?}"),
            }
        }
    })
    .await
}

async fn by_loader(config: &InfluxConfig, bodies: Arc<Vec<Bytes>>) -> Result<f64> {
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
    let url = format!("{}/api/v2/write?org={}&bucket={}&precision=ns", config.url, config.org, config.bucket);
    let authorization = format!("Token {}", config.token.trim());
    side_by_side(move |batch| {
        let request = client.post(&url).header("Authorization", &authorization).header("Content-Encoding", "gzip");
        let request = request.body(bodies[batch].clone());
        async move {
            request.send().await?.error_for_status()?;
            Ok(())
        }
    })
    .await
}

/// Seconds that all batches take, with as many under way as there are connections.
async fn side_by_side<F>(work: impl Fn(usize) -> F + Clone + Send + 'static) -> Result<f64>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (began, next) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (work, next) = (work.clone(), next.clone());
        workers.spawn(async move {
            loop {
                let batch = next.fetch_add(1, Ordering::Relaxed);
                if batch >= BATCHES {
                    return Ok::<_, anyhow::Error>(());
                }
                work(batch).await?;
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended??;
    }
    Ok(began.elapsed().as_secs_f64())
}
