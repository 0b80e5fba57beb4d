//! `mantis up` when nothing comes, when it starts, and when its store is stalled.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use mantis_kafka::{ClientConfig, Producer};
use rusqlite::Connection;
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::{
    embedded::{self, Embedded, records, send},
    features::mantis_program,
    figures::{Figure, median},
    process::{cpu_seconds, rss_anon},
    up::Up,
    workload::{Messages, Packing},
};

const MB: f64 = 1e6;
const STARTS: usize = 5;
/// Messages of 50 readings that lie in the log and the store before it is killed.
const MESSAGES_BEFORE_KILL: u64 = 40_000;
/// The load on a stalled store: 100,000 readings a second.
const LOAD_MESSAGES_PER_S: usize = 2_000;
const LOAD_INTERVAL: Duration = Duration::from_millis(50);
/// Load before `mantis up` is measured: beyond the longest window and the lateness (60 s and 120 s) the state of the features
/// worker grows no more.
const WINDOWS_FILL: Duration = Duration::from_secs(190);
/// Under that load the archive gathers an object for 80 s and then encodes it: two of them.
const ARCHIVE_CYCLES_S: u64 = 180;
/// Time for the first work after a start to settle.
const SETTLE: Duration = Duration::from_secs(3);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The program [default: `mantis` beside this one]
    #[arg(long)]
    mantis: Option<PathBuf>,
    /// Seconds without load
    #[arg(long, default_value_t = 60)]
    idle_s: u64,
    /// Seconds with a stalled store, and at least as many before
    #[arg(long, default_value_t = 60)]
    stall_s: u64,
}

/// Starts, idleness, stall.
pub async fn run(args: &Args) -> Result<Vec<Figure>> {
    let mantis = mantis_program(args.mantis.as_ref())?;
    let mut figures = starts(&mantis).await?;
    figures.extend(idle(&mantis, args.idle_s).await?);
    figures.extend(stall(&mantis, args.stall_s).await?);
    Ok(figures)
}

async fn starts(mantis: &Path) -> Result<Vec<Figure>> {
    let (mut clean, mut killed) = (Vec::new(), Vec::new());
    let folder = tempfile::tempdir()?;
    for _ in 0..STARTS {
        let folder = tempfile::tempdir()?;
        clean.push(start(mantis, folder.path()).await?.ready_after.as_secs_f64());
    }
    // Each start is followed by load, in the middle of which it is killed.
    let mut up = start(mantis, folder.path()).await?;
    for _ in 0..STARTS {
        let client = up.client.clone();
        embedded::fill(&client, Packing::Columns, MESSAGES_BEFORE_KILL).await?;
        drop(up);
        up = start(mantis, folder.path()).await?;
        killed.push(up.ready_after.as_secs_f64());
    }
    eprintln!("seconds to ready: clean {clean:?}, after a kill {killed:?}");
    Ok(vec![
        Figure::at_most("mantis up: ready after a clean start", median(clean), "s", 1.0),
        Figure::at_most("mantis up: ready after kill -9 under load", median(killed), "s", 1.0),
    ])
}

async fn idle(mantis: &Path, seconds: u64) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let up = start(mantis, folder.path()).await?;
    sleep(SETTLE).await;
    let (began, cpu) = (Instant::now(), cpu_seconds(up.pid())?);
    let mut rss: f64 = 0.0;
    while began.elapsed() < Duration::from_secs(seconds) {
        rss = rss.max(rss_anon(up.pid())?);
        sleep(Duration::from_millis(500)).await;
    }
    let share = (cpu_seconds(up.pid())? - cpu) / began.elapsed().as_secs_f64();
    Ok(vec![
        Figure::at_most("mantis up, idle: RssAnon", rss / MB, "MB", 80.0),
        Figure::at_most("mantis up, idle: CPU", share * 100.0, "% of a core", 2.0),
    ])
}

/// The raw worker alone, whose store it is, and `mantis up`, whose other workers go on.
async fn stall(mantis: &Path, seconds: u64) -> Result<Vec<Figure>> {
    let folder = tempfile::tempdir()?;
    let broker = Embedded::start(folder.path()).await?;
    let (program, data_dir, brokers) = (mantis.to_owned(), folder.path().to_owned(), broker.client.brokers.clone());
    let worker = tokio::task::spawn_blocking(move || Up::worker(&program, &data_dir, "raw", &brokers)).await??;
    let warm_up = WarmUp { before: SETTLE, measured_s: seconds };
    let alone = stalled(&worker, &broker.client, folder.path(), &warm_up, seconds).await?;
    drop(worker);
    broker.stop().await?;

    let folder = tempfile::tempdir()?;
    let up = start(mantis, folder.path()).await?;
    let warm_up = WarmUp { before: WINDOWS_FILL, measured_s: seconds.max(ARCHIVE_CYCLES_S) };
    let all = stalled(&up, &up.client, folder.path(), &warm_up, seconds).await?;
    Ok(vec![
        Figure::plain("mantis worker raw under 100,000 readings/s: RssAnon, most", most(&alone.before) / MB, "MB"),
        Figure::at_most("mantis worker raw, store stalled under that load: growth of RssAnon", alone.growth() / MB, "MB", 32.0),
        Figure::plain("mantis up under 100,000 readings/s: RssAnon, median", median(all.before.clone()) / MB, "MB"),
        Figure::plain("mantis up under 100,000 readings/s: RssAnon, most", most(&all.before) / MB, "MB"),
        Figure::at_most("mantis up, store stalled under that load: growth of RssAnon", all.growth() / MB, "MB", 32.0),
    ])
}

/// What goes before a stall, s.
struct WarmUp {
    before: Duration,
    measured_s: u64,
}

/// Samples of RssAnon, bytes.
struct Stalled {
    before: Vec<f64>,
    during: Vec<f64>,
}

impl Stalled {
    /// The most against the most: memory that is taken and given back in turns counts in both.
    fn growth(&self) -> f64 {
        most(&self.during) - most(&self.before)
    }
}

/// Holds the raw store's write lock while the load goes on.
async fn stalled(up: &Up, client: &ClientConfig, data_dir: &Path, warm_up: &WarmUp, seconds: u64) -> Result<Stalled> {
    let load = tokio::spawn(load(client.clone()));
    sleep(warm_up.before).await;
    let before = rss_anon_samples(up, &load, warm_up.measured_s).await?;
    let store = Connection::open(data_dir.join("raw.db"))?;
    store.busy_timeout(Duration::from_secs(10))?;
    store.execute_batch("BEGIN IMMEDIATE")?;
    let during = rss_anon_samples(up, &load, seconds).await?;
    store.execute_batch("ROLLBACK")?;
    load.abort();
    Ok(Stalled { before, during })
}

/// Samples of some seconds under load, bytes.
async fn rss_anon_samples(up: &Up, load: &JoinHandle<Result<()>>, seconds: u64) -> Result<Vec<f64>> {
    let began = Instant::now();
    let mut samples = Vec::new();
    while began.elapsed() < Duration::from_secs(seconds) {
        samples.push(rss_anon(up.pid())?);
        anyhow::ensure!(!load.is_finished(), "the load has ended");
        sleep(Duration::from_millis(200)).await;
    }
    Ok(samples)
}

fn most(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(0.0, f64::max)
}

async fn start(mantis: &Path, data_dir: &Path) -> Result<Up> {
    let (mantis, data_dir) = (mantis.to_owned(), data_dir.to_owned());
    tokio::task::spawn_blocking(move || Up::start(&mantis, &data_dir)).await?
}

/// A steady load, until it is aborted.
async fn load(client: ClientConfig) -> Result<()> {
    let producer = Arc::new(Producer::new(&client)?);
    let mut workload = Messages::new(Packing::Columns);
    let mut turns = interval(LOAD_INTERVAL);
    turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let per_turn = LOAD_MESSAGES_PER_S * LOAD_INTERVAL.as_millis() as usize / 1_000;
    loop {
        turns.tick().await;
        send(&producer, &records(&mut workload, per_turn)).await?;
    }
}
