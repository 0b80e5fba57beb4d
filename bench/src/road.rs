//! The embedded road, all in one process: producer, broker, raw worker, raw store.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use mantis_pipeline::{Limits, Shutdown, Status};
use mantis_schemas::DecoderConfig;
use mantis_stores::{
    ReadingReader,
    raw::{RawPlace, sqlite::SqliteRawReader},
};
use mantis_workers::raw::{GROUP, Kept, RecordDecoder, Worker};
use tokio::time::{Instant, sleep};

use crate::{
    embedded::{self, Embedded},
    figures::{Figure, median},
    process::{bytes_below, cpu_seconds},
    workload::Packing,
};

/// Rows of the raw worker's batches by default.
const BATCH_ROWS: usize = 20_000;
const POLL: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Messages of 50 readings
    #[arg(long, default_value_t = 200_000)]
    road_messages: u64,
    /// Runs of the road
    #[arg(long, default_value_t = 3)]
    road_runs: usize,
}

/// Readings per second from the first produce until the store's ledger has reached the end of the log.
pub async fn run(args: &Args) -> Result<Vec<Figure>> {
    let (mut rates, mut per_cpu) = (Vec::new(), Vec::new());
    let mut stored_bytes = 0.0;
    for _ in 0..args.road_runs {
        let folder = tempfile::tempdir()?;
        let broker = Embedded::start(folder.path()).await?;
        let store = folder.path().join("raw.db");
        let decoder = RecordDecoder::new(DecoderConfig::default())?;
        let stop = Shutdown::new();
        let worker = Worker {
            client: broker.client.clone(),
            cluster_id: broker.cluster_id.clone(),
            store: RawPlace::Sqlite(store.clone()),
            kept: Kept::default(),
            decoder,
            limits: Limits { rows_max: BATCH_ROWS, ..Limits::default() },
            status: Arc::<Status>::default(),
        };
        let cluster_id = broker.cluster_id.clone();
        let working = tokio::spawn(worker.run(stop.clone()));
        let (began, cpu) = (Instant::now(), cpu_seconds(std::process::id())?);
        embedded::fill(&broker.client, Packing::Columns, args.road_messages).await?;
        let reader = SqliteRawReader::open(&store).context("the raw worker has made no store")?;
        loop {
            ensure!(!working.is_finished(), "the raw worker has stopped");
            let ledger = reader.ledger(&cluster_id, GROUP).await?;
            let done: i64 = ledger.iter().map(|(_, _, next)| next).sum();
            if u64::try_from(done)? >= args.road_messages {
                break;
            }
            sleep(POLL).await;
        }
        let readings = (args.road_messages * Packing::Columns.rows() as u64) as f64;
        rates.push(readings / began.elapsed().as_secs_f64());
        per_cpu.push(readings / (cpu_seconds(std::process::id())? - cpu));
        stop.cancel();
        working.await??;
        broker.stop().await?;
        stored_bytes = bytes_below(folder.path()) as f64 / readings;
    }
    eprintln!("readings/s of each run: {rates:?}");
    Ok(vec![
        Figure::at_least("embedded road, column batch, 50 readings", median(rates), "readings/s", 300e3),
        Figure::plain("embedded road, per CPU second", median(per_cpu), "readings/CPU s"),
        Figure::plain("embedded road, log and store on disk", stored_bytes, "B/reading"),
    ])
}
