//! The workers behind the raw one: features per core, the way into the cache, all of them together.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use mantis_kafka::{Admin, OutRecord, Producer};
use mantis_pipeline::{Shutdown, Status};
use mantis_schemas::{DecoderConfig, Quality, Reading, Series, encode, topics};
use mantis_signal::SpectrumPlanner;
use mantis_stores::{
    cache::{
        Cache as _,
        memory::{CacheConfig, MemoryCache},
    },
    features::FeaturePlace,
    raw::RawPlace,
};
use mantis_workers::cache::{ValueDecoder, Worker};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    embedded::{self, Embedded, send},
    features::{caught_up, mantis_program},
    figures::{Figure, median},
    process::cpu_seconds,
    up::Up,
    workload::Packing,
};

const POLL: Duration = Duration::from_millis(20);
/// Samples and rate of the frames whose spectrum is timed.
const FRAME_SAMPLES: usize = 4_096;
const FRAME_RATE_HZ: f64 = 12_000.0;
const FRAMES: usize = 2_000;
/// The load on the cache: 50 readings, one a message, a hundred times a second.
const CACHE_TURN: Duration = Duration::from_millis(10);
const CACHE_TURN_READINGS: usize = 50;
const CACHE_SENSORS: usize = 10_000;
/// Longest wait for a reading to be seen.
const SEEN_WAIT: Duration = Duration::from_secs(10);
/// Turns at the start that do not count: connections are made, topics found.
const WARM_TURNS: usize = 200;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The program [default: `mantis` beside this one]
    #[arg(long)]
    workers_mantis: Option<PathBuf>,
    /// Messages of 50 readings
    #[arg(long, default_value_t = 100_000)]
    workers_messages: u64,
    /// Seconds of load on the cache
    #[arg(long, default_value_t = 20)]
    cache_s: usize,
}

pub async fn run(args: &Args) -> Result<Vec<Figure>> {
    let mantis = mantis_program(args.workers_mantis.as_ref())?;
    let mut figures = vec![spectrum()?];
    figures.extend(features(&mantis, args.workers_messages).await?);
    figures.extend(cache(args.cache_s).await?);
    figures.extend(together(&mantis, args.workers_messages).await?);
    Ok(figures)
}

/// The spectrum of a frame, planned before.
fn spectrum() -> Result<Figure> {
    let samples: Vec<f64> = (0..FRAME_SAMPLES).map(|n| (n as f64 * 0.7).sin() + (n as f64 * 0.11).cos()).collect();
    let mut planner = SpectrumPlanner::default();
    let mut times = Vec::with_capacity(FRAMES);
    for _ in 0..FRAMES {
        let began = std::time::Instant::now();
        let spectrum = planner.spectrum(&samples, FRAME_RATE_HZ)?.context("the frame has no spectrum")?;
        std::hint::black_box(spectrum.dominant_frequency_hz());
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Figure::at_most("spectrum of a frame of 4,096 samples", median(times), "us", 60.0))
}

/// What a features worker, a process of its own, takes of a log that is there already.
async fn features(mantis: &Path, messages: u64) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let broker = Embedded::start(folder.path()).await?;
    embedded::fill(&broker.client, Packing::Columns, messages).await?;
    let (program, data_dir, brokers) = (mantis.to_owned(), folder.path().to_owned(), broker.client.brokers.clone());
    let began = Instant::now();
    let worker = tokio::task::spawn_blocking(move || Up::worker(&program, &data_dir, "features", &brokers)).await??;
    while !caught_up(&broker.client).await? {
        sleep(POLL).await;
    }
    let (seconds, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds(worker.pid())?);
    drop(worker);
    broker.stop().await?;
    let readings = (messages * Packing::Columns.rows() as u64) as f64;
    Ok(vec![
        Figure::at_least("features worker, column batches, per CPU second", readings / cpu, "readings/CPU s", 500e3),
        Figure::plain("features worker, from its start to its snapshot at the end", readings / seconds, "readings/s"),
    ])
}

/// From the produce call until the cache gives the reading out, broker and worker in this process.
async fn cache(seconds: usize) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let broker = Embedded::start(folder.path()).await?;
    let cache = MemoryCache::new(CacheConfig::default());
    let stop = Shutdown::new();
    let worker = Worker {
        client: broker.client.clone(),
        cluster_id: broker.cluster_id.clone(),
        cache: cache.clone(),
        raw: RawPlace::Sqlite(folder.path().join("raw.db")),
        features: FeaturePlace::Sqlite(folder.path().join("features.db")),
        decoder: ValueDecoder::new(DecoderConfig::default())?,
        limits: mantis_workers::cache::limits(),
        status: Arc::<Status>::default(),
    };
    let working = tokio::spawn(worker.run(stop.clone()));
    let producer = Arc::new(Producer::new(&broker.client)?);
    let mut turns = interval(CACHE_TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut seen = JoinSet::new();
    let turns_max = seconds * 1_000 / CACHE_TURN.as_millis() as usize;
    for turn in 0..turns_max + WARM_TURNS {
        turns.tick().await;
        let (records, mut unseen) = turn_records(turn);
        let (producer, cache) = (producer.clone(), cache.clone());
        seen.spawn(async move {
            let began = Instant::now();
            let sending = tokio::spawn(async move { send(&producer, &records).await });
            let mut took = Vec::with_capacity(unseen.len());
            let visible = async {
                while !unseen.is_empty() {
                    let mut left = Vec::with_capacity(unseen.len());
                    for (series, time_ns) in unseen.drain(..) {
                        match cache.reading(&series).await.ok().flatten() {
                            Some(reading) if reading.time_ns >= time_ns => took.push(began.elapsed().as_secs_f64() * 1e3),
                            _ => left.push((series, time_ns)),
                        }
                    }
                    unseen = left;
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(SEEN_WAIT, visible).await.context("a reading was not seen in the cache")?;
            sending.await??;
            anyhow::Ok((turn, took))
        });
    }
    let mut took = Vec::new();
    while let Some(one) = seen.join_next().await {
        let (turn, ms) = one??;
        took.extend(ms.into_iter().filter(|_| turn >= WARM_TURNS));
    }
    stop.cancel();
    working.await??;
    broker.stop().await?;
    took.sort_by(f64::total_cmp);
    let p99 = took.get(took.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    Ok(vec![
        Figure::plain("produce call to visible in the cache, 5,000 readings/s: p50", median(took), "ms"),
        Figure::at_most("produce call to visible in the cache, 5,000 readings/s: p99", p99, "ms", 50.0),
    ])
}

/// The messages of a turn, and what each of them holds.
fn turn_records(turn: usize) -> (Vec<OutRecord>, Vec<(Series, i64)>) {
    let topic: Arc<str> = topics::READINGS.into();
    let mut held = Vec::with_capacity(CACHE_TURN_READINGS);
    let records = (0..CACHE_TURN_READINGS).map(|place| {
        let sensor = (turn * CACHE_TURN_READINGS + place) % CACHE_SENSORS;
        let asset = format!("press-{:03}", sensor / 10);
        let name = format!("temperature-{}", sensor % 10);
        let time_ns = 1_767_225_600_000_000_000 + turn as i64 * 1_000_000;
        let mut payload = Vec::new();
        let reading = Reading { sensor: &name, time_ns, value: place as f64, quality: Quality::Good, seq: None };
        encode::avro::reading(&mut payload, &asset, &reading);
        let record = OutRecord {
            topic: topic.clone(),
            key: Some(asset.clone().into_bytes()),
            payload: Some(payload),
            ..OutRecord::default()
        };
        held.push((Series { asset: asset.into(), sensor: name.into() }, time_ns));
        record
    });
    (records.collect(), held)
}

/// `mantis up` with all its workers, from the first produce until none of them has a lag.
async fn together(mantis: &Path, messages: u64) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let (program, data_dir) = (mantis.to_owned(), folder.path().to_owned());
    let up = Arc::new(tokio::task::spawn_blocking(move || Up::start(&program, &data_dir)).await??);
    let began = Instant::now();
    embedded::fill(&up.client, Packing::Columns, messages).await?;
    let admin = Admin::new(&up.client)?;
    loop {
        let status = up.clone();
        let lags = tokio::task::spawn_blocking(move || status.lags()).await??;
        ensure!(!lags.is_empty(), "`mantis up` has no workers");
        // A worker that has not looked yet has no lag either: the log itself says how much there is.
        let readings = admin.lag("mantis-raw", &[topics::READINGS]).await?;
        if lags.iter().all(|lag| *lag == 0) && readings.iter().map(|lag| lag.log_end).sum::<i64>() >= i64::try_from(messages)? {
            break;
        }
        sleep(POLL).await;
    }
    let readings = (messages * Packing::Columns.rows() as u64) as f64;
    Ok(vec![Figure::at_least("mantis up, all workers together", readings / began.elapsed().as_secs_f64(), "readings/s", 150e3)])
}
