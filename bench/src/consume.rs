//! Consume, decode and drop, beside librdkafka alone over the same topic: CPU of the client's process.

use std::{
    hint::black_box,
    process::{self, Command},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use mantis_kafka::{ClientConfig, Consumer, ConsumerConfig};
use mantis_pipeline::{
    Assigned, Columns, DeadLetter, DeadLetters, Decoder, Event, Fault, Limits, Moved, Outcome, Part, RecordBatch, Shutdown, Sink,
    Source, Span, Start, Status,
};
use mantis_schemas::{DecoderConfig, topics};
use mantis_stores::raw::RawColumns;
use mantis_workers::raw::RecordDecoder;
use serde::{Deserialize, Serialize};

use crate::{
    allocations,
    embedded::{self, Embedded, PARTITIONS},
    figures::{Figure, median},
    process::cpu_seconds,
    raw_loop,
    workload::Packing,
};

/// Pairs of runs; every second one in the other order.
const PAIRS: usize = 5;
/// Rows after which columns are dropped: a batch of the raw worker.
const BATCH_ROWS: usize = 20_000;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Messages of one reading as JSON
    #[arg(long, default_value_t = 4_000_000)]
    json_messages: u64,
    /// Messages of 50 readings
    #[arg(long, default_value_t = 3_000_000)]
    column_messages: u64,
    /// Compression of the topic
    #[arg(long, default_value = "none")]
    compression: String,
    /// Pairs of runs
    #[arg(long, default_value_t = PAIRS)]
    pairs: usize,
    /// Only fill the topic with column batches and serve it until standard input ends: for profilers of `client`
    #[arg(long)]
    hold: bool,
}

/// Which client a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Client {
    /// librdkafka alone, with its own defaults
    Raw,
    /// librdkafka alone, with the settings of our consumer
    RawTuned,
    /// Our consumer and decoder
    Ours,
    /// Our consumer and decoder on the road, with a sink that drops
    Road,
}

#[derive(Debug, clap::Args)]
pub struct ClientArgs {
    #[arg(value_enum)]
    client: Client,
    #[arg(long)]
    brokers: String,
    #[arg(long)]
    messages: u64,
    #[arg(long)]
    readings: u64,
}

/// Shares of librdkafka's own speed, per CPU second.
pub async fn run(args: &Args) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let workloads = [(Packing::Columns, args.column_messages, 0.6), (Packing::Json, args.json_messages, 0.5)];
    for (packing, messages, wanted) in workloads {
        let folder = tempfile::tempdir()?;
        let broker = Embedded::start(folder.path()).await?;
        let mut filler = broker.client.clone();
        filler.properties.insert("compression.type".into(), args.compression.clone());
        embedded::fill(&filler, packing, messages).await?;
        let readings = messages * packing.rows() as u64;
        if args.hold {
            eprintln!("--brokers {} --messages {messages} --readings {readings}", broker.client.brokers);
            tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
            break;
        }
        let cost = async |client| spawn(client, &broker.client.brokers, messages, readings).await;
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for pair in 0..args.pairs {
            if pair % 2 == 0 {
                raw.push(cost(Client::Raw).await?.cpu_s);
                ours.push(cost(Client::Ours).await?.cpu_s);
            } else {
                ours.push(cost(Client::Ours).await?.cpu_s);
                raw.push(cost(Client::Raw).await?.cpu_s);
            }
        }
        let (road, tuned) = (cost(Client::Road).await?, cost(Client::RawTuned).await?.cpu_s);
        let name = packing.name();
        eprintln!("CPU seconds, {name}: raw {raw:?}, ours {ours:?}, on the road {}, raw tuned {tuned}", road.cpu_s);
        let share = median(raw.iter().zip(&ours).map(|(raw, ours)| raw / ours).collect());
        let (raw, ours) = (median(raw), median(ours));
        let per_reading = road.allocations as f64 / readings as f64;
        figures.push(Figure::at_least(
            &format!("consume + decode + drop beside librdkafka alone, {name}"),
            share,
            "of its speed",
            wanted,
        ));
        figures.push(Figure::plain(&format!("consume + decode + drop, {name}"), readings as f64 / ours, "readings/CPU s"));
        figures.push(Figure::plain(&format!("librdkafka alone, {name}"), readings as f64 / raw, "readings/CPU s"));
        figures.push(Figure::plain(
            &format!("the road with a sink that drops, {name}"),
            readings as f64 / road.cpu_s,
            "readings/CPU s",
        ));
        figures.push(Figure::at_most(
            &format!("the road with a sink that drops, {name}: allocations"),
            per_reading,
            "per reading",
            0.01,
        ));
        broker.stop().await?;
    }
    Ok(figures)
}

/// What a client's process took.
#[derive(Debug, Deserialize, Serialize)]
struct Cost {
    cpu_s: f64,
    allocations: u64,
}

/// Runs a client in a process of its own.
async fn spawn(client: Client, brokers: &str, messages: u64, readings: u64) -> Result<Cost> {
    let mut command = Command::new(std::env::current_exe()?);
    let name = client.to_possible_value().context("a client has a name")?;
    command.args(["client", name.get_name(), "--brokers", brokers]);
    command.args(["--messages", &messages.to_string(), "--readings", &readings.to_string()]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "the client failed: {text}\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).with_context(|| format!("the client says {text}"))
}

/// Runs one client and prints what its process took.
pub async fn client(args: &ClientArgs) -> Result<()> {
    match args.client {
        Client::Raw => raw(args, &[])?,
        Client::RawTuned => raw(
            args,
            &[
                ("check.crcs", "true"),
                ("queued.max.messages.kbytes", "8192"),
                ("queued.min.messages", "20000"),
                ("fetch.max.bytes", "2097152"),
                ("max.partition.fetch.bytes", "262144"),
                ("fetch.queue.backoff.ms", "5"),
            ],
        )?,
        Client::Ours => tokio::spawn(ours(args.brokers.clone(), args.readings)).await??,
        Client::Road => road(args).await?,
    }
    let cost = Cost { cpu_s: cpu_seconds(process::id())?, allocations: allocations::count() };
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

fn raw(args: &ClientArgs, tuning: &[(&str, &str)]) -> Result<()> {
    let group = [("bootstrap.servers", args.brokers.as_str()), ("group.id", "bench-raw"), ("enable.auto.commit", "false")];
    let bytes = raw_loop::consume(&[&group, tuning].concat(), topics::READINGS, PARTITIONS, args.messages)?;
    ensure!(black_box(bytes) > 0, "the topic is empty");
    Ok(())
}

fn consumer(brokers: &str) -> Result<Consumer> {
    // A name of its own, so that no run waits for an earlier member.
    let group = format!("bench-{}", process::id());
    Ok(Consumer::new(&ClientConfig::new(brokers), &ConsumerConfig::new(group, [topics::READINGS]))?)
}

async fn ours(brokers: String, readings: u64) -> Result<()> {
    let mut consumer = consumer(&brokers)?;
    let mut decoder = RecordDecoder::new(DecoderConfig::default())?;
    let mut columns = decoder.columns(topics::READINGS);
    let mut rejects = Vec::new();
    let mut dropped = 0;
    while dropped < readings {
        match consumer.next().await? {
            Event::Assigned(assigned) => {
                let at: Vec<_> = assigned.into_iter().map(|assigned| (assigned.partition, assigned.log_start)).collect();
                consumer.start(&at).await?;
            }
            Event::Records(batch) => {
                for index in 0..batch.len() {
                    decoder
                        .decode(&batch.record(index), &mut columns, &mut rejects)
                        .map_err(|reason| anyhow::anyhow!("{reason}"))?;
                    if columns.rows() >= BATCH_ROWS {
                        dropped += drop_rows(&mut columns);
                    }
                }
                // What is left at the end of the topic counts too.
                if dropped + columns.rows() as u64 >= readings {
                    dropped += drop_rows(&mut columns);
                }
            }
            other => bail!("an event that was not expected: {other:?}"),
        }
    }
    ensure!(rejects.is_empty(), "the workload has rows that are refused: {:?}", rejects.first());
    consumer.close().await;
    Ok(())
}

fn drop_rows(columns: &mut RawColumns) -> u64 {
    let rows = black_box(&*columns).rows() as u64;
    columns.truncate(0);
    rows
}

async fn road(args: &ClientArgs) -> Result<()> {
    let decoder = RecordDecoder::new(DecoderConfig::default())?;
    let stop = Shutdown::new();
    let sink = Dropping { left: (args.readings as i64).into(), done: stop.clone() };
    let limits = Limits { rows_max: BATCH_ROWS, ..Limits::default() };
    let status = Arc::<Status>::default();
    let road = mantis_pipeline::run(consumer(&args.brokers)?, decoder, Arc::new(sink), Arc::new(NoLetters), limits, status, stop);
    tokio::spawn(road).await??;
    Ok(())
}

/// A sink that drops rows and ends the road after the last.
struct Dropping {
    left: std::sync::atomic::AtomicI64,
    done: Shutdown,
}

impl Sink for Dropping {
    type Columns = RawColumns;

    async fn start(&self, assigned: &[Assigned]) -> Result<Vec<Start>, Fault> {
        Ok(assigned.iter().map(|assigned| Start::At(assigned.log_start)).collect())
    }

    async fn write(&self, part: Part<'_, RawColumns>) -> Result<Outcome, Fault> {
        let written = black_box(part.rows).len();
        if self.left.fetch_sub(written as i64, std::sync::atomic::Ordering::Relaxed) <= written as i64 {
            self.done.cancel();
        }
        Ok(Outcome::Ended { written, duplicates: 0, conflicts: 0, rejected: Vec::new(), advanced: true })
    }

    async fn advance(&self, _: &[Span]) -> Result<Option<Vec<Moved>>, Fault> {
        Ok(None)
    }
}

struct NoLetters;

impl DeadLetters for NoLetters {
    async fn send(&self, letters: &[DeadLetter]) -> Result<(), Fault> {
        Err(Fault::Fatal { reason: format!("the workload has records that are refused: {:?}", letters.first()) })
    }
}
