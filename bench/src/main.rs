//! Benchmarks behind `scripts/bench`: one table for people, JSON for comparisons.

// A binary prints, and has no public items for others.
#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub, missing_docs)]

mod allocations;
mod archive;
mod consume;
mod decode;
mod embedded;
mod features;
mod figures;
mod idle;
mod influx;
mod process;
mod raw_loop;
mod road;
mod timescale;
mod up;
mod workers;
mod workload;

use std::{io, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::figures::{Figure, table};

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

#[derive(Debug, Parser)]
struct Cli {
    /// Also write the figures to this file, as JSON
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Everything below, one after the other
    All(All),
    /// Decoding alone, on one core
    Decode,
    /// Consume, decode and drop beside librdkafka alone
    Consume(consume::Args),
    /// One run of `consume`, in a process of its own; prints what it took
    #[command(hide = true)]
    Client(consume::ClientArgs),
    /// The embedded road, all in one process
    Road(road::Args),
    /// `mantis up`: time to ready, idle memory and CPU, memory while the store is stalled
    Idle(idle::Args),
    /// The workers behind the raw one: features per core, the way into the cache, all together
    Workers(workers::Args),
    /// `mantis worker features` with many sensors: memory, and time to ready after kill -9
    Features(features::Args),
    /// What the sinks bring into the servers of `scripts/stack`, beside what the servers take
    Servers,
    /// Bytes of a reading in the archive
    Archive(archive::Args),
}

#[derive(Debug, clap::Args)]
struct All {
    #[command(flatten)]
    consume: consume::Args,
    #[command(flatten)]
    road: road::Args,
    #[command(flatten)]
    idle: idle::Args,
    #[command(flatten)]
    workers: workers::Args,
    #[command(flatten)]
    features: features::Args,
    #[command(flatten)]
    archive: archive::Args,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let figures: Vec<Figure> = match cli.what {
        What::All(All { consume, road, idle, workers, features, archive }) => {
            let mut figures = decode::run()?;
            figures.extend(runtime.block_on(consume::run(&consume))?);
            figures.extend(runtime.block_on(road::run(&road))?);
            figures.extend(runtime.block_on(idle::run(&idle))?);
            figures.extend(runtime.block_on(workers::run(&workers))?);
            figures.extend(runtime.block_on(features::run(&features))?);
            figures.extend(archive::run(&archive)?);
            figures
        }
        What::Decode => decode::run()?,
        What::Consume(args) => runtime.block_on(consume::run(&args))?,
        What::Client(args) => return runtime.block_on(consume::client(&args)),
        What::Road(args) => runtime.block_on(road::run(&args))?,
        What::Idle(args) => runtime.block_on(idle::run(&args))?,
        What::Workers(args) => runtime.block_on(workers::run(&args))?,
        What::Features(args) => runtime.block_on(features::run(&args))?,
        What::Servers => {
            let mut figures = runtime.block_on(timescale::run())?;
            figures.extend(runtime.block_on(influx::run())?);
            figures
        }
        What::Archive(args) => archive::run(&args)?,
    };
    table(&figures, &mut io::stdout().lock())?;
    if let Some(path) = cli.json {
        let text = serde_json::to_vec_pretty(&figures)?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
