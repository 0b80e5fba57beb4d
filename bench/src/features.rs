//! The features worker with many sensors: what their windows take, and how soon a killed worker has them again.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use mantis_kafka::{Admin, ClientConfig, OutRecord, Producer};
use mantis_schemas::{Quality, Reading, encode, topics};
use mantis_workers::features::GROUP;
use tokio::time::sleep;

use crate::{
    embedded::{Embedded, send},
    figures::Figure,
    process::rss_anon,
    up::Up,
};

const MB: f64 = 1e6;
/// Source time of the first readings: 2026-01-01T00:00:00Z.
const START_NS: i64 = 1_767_225_600_000_000_000;
const SENSORS_PER_ASSET: usize = 100;
/// What stamps are apart from whole milliseconds, a multiple each, where they are finer.
const FINE_NS: i64 = 7_001;
/// Messages of one call to the producer.
const CALL_MESSAGES: usize = 2_000;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The program [default: `mantis` beside this one]
    #[arg(long)]
    features_mantis: Option<PathBuf>,
    /// Sensors, with a reading each per second of their own time
    #[arg(long, default_value_t = 100_000)]
    sensors: usize,
    /// Seconds of the sensors' time: beyond lateness and longest window the state grows no more
    #[arg(long, default_value_t = 240)]
    seconds: i64,
}

/// With stamps in whole milliseconds, as most gateways send them, and with finer ones, which take more memory.
pub async fn run(args: &Args) -> Result<Vec<Figure>> {
    let mut figures = measure(args, "ms", 0).await?;
    figures.extend(measure(args, "us", FINE_NS).await?);
    Ok(figures)
}

/// Feeds a worker as fast as it takes it, then kills and restarts it. Event time alone decides, so the state is that of a
/// plant that runs for so long.
async fn measure(args: &Args, stamps: &str, fine_ns: i64) -> Result<Vec<Figure>> {
    let mantis = mantis_program(args.features_mantis.as_ref())?;
    let folder = tempfile::tempdir()?;
    let data_dir = folder.path().to_owned();
    let start = async |brokers: &str| {
        let (mantis, data_dir, brokers) = (mantis.clone(), data_dir.clone(), brokers.to_owned());
        tokio::task::spawn_blocking(move || Up::worker(&mantis, &data_dir, "features", &brokers)).await?
    };

    let broker = Embedded::start(&data_dir).await?;
    let worker = start(&broker.client.brokers).await?;
    let feeding = tokio::spawn(feed(broker.client.clone(), args.sensors, args.seconds, fine_ns));
    let mut most: f64 = 0.0;
    while !(feeding.is_finished() && caught_up(&broker.client).await?) {
        most = most.max(rss_anon(worker.pid())?);
        sleep(SAMPLE_INTERVAL).await;
    }
    feeding.await??;
    let settled = rss_anon(worker.pid())?;
    // With the broker restarted too, as a machine is, no session of the killed worker has to run out first.
    drop(worker);
    broker.stop().await?;
    let broker = Embedded::start(&data_dir).await?;
    let worker = start(&broker.client.brokers).await?;
    let (ready_s, restored) = (worker.ready_after.as_secs_f64(), rss_anon(worker.pid())?);
    drop(worker);
    broker.stop().await?;
    let name = format!("features worker, {} sensors, stamps in {stamps}", args.sensors);
    Ok(vec![
        Figure::at_most(&format!("{name}: most RssAnon while fed"), most / MB, "MB", 512.0),
        Figure::plain(&format!("{name}: RssAnon at its end"), settled / MB, "MB"),
        Figure::at_most(&format!("{name}: ready after kill -9"), ready_s, "s", 5.0),
        Figure::plain(&format!("{name}: RssAnon then"), restored / MB, "MB"),
    ])
}

/// The program that is named, or the one beside this one.
pub fn mantis_program(named: Option<&PathBuf>) -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("mantis");
    named.unwrap_or(&beside).canonicalize().context("there is no `mantis`: name it")
}

/// True when the group has committed all there is: its snapshots cover it.
pub async fn caught_up(client: &ClientConfig) -> Result<bool> {
    let lags = Admin::new(client)?.lag(GROUP, &[topics::READINGS]).await?;
    Ok(lags.iter().all(|lag| lag.committed.unwrap_or(lag.log_start) == lag.log_end))
}

/// Second by second a message of each asset, as gateways send them.
async fn feed(client: ClientConfig, sensors: usize, seconds: i64, fine_ns: i64) -> Result<()> {
    let producer = Producer::new(&client)?;
    let topic: Arc<str> = topics::READINGS.into();
    let names: Vec<String> = (0..SENSORS_PER_ASSET).map(|sensor| format!("temperature-{sensor:02}")).collect();
    let mut records = Vec::with_capacity(CALL_MESSAGES);
    for second in 0..seconds {
        for asset in 0..sensors.div_ceil(SENSORS_PER_ASSET) {
            let name = format!("line-{}-press-{asset}", asset / 50);
            let rows: Vec<Reading<'_>> = names
                .iter()
                .zip(asset * SENSORS_PER_ASSET..sensors)
                .map(|(name, sensor)| Reading {
                    sensor: name,
                    time_ns: START_NS + second * 1_000_000_000 + fine_ns * ((sensor as i64 + second * 31) % 997),
                    value: 60.0 + ((second * 37 + sensor as i64) % 1_000) as f64 / 64.0,
                    quality: Quality::Good,
                    seq: None,
                })
                .collect();
            let mut payload = Vec::with_capacity(rows.len() * 40);
            encode::avro::readings(&mut payload, &name, &rows);
            let key = Some(name.into_bytes());
            records.push(OutRecord { topic: topic.clone(), key, payload: Some(payload), ..OutRecord::default() });
            if records.len() == CALL_MESSAGES {
                send(&producer, &records).await?;
                records.clear();
            }
        }
    }
    send(&producer, &records).await
}
