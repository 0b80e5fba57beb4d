//! The `mantis` binary: parses, builds the parts, waits.

// A binary prints, and has no public items for others.
#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub, missing_docs)]

mod cli;
mod commands;
mod config;
mod console;
mod demo;
mod exit;
mod jobs;
mod live;
mod metrics;
mod output;
mod parts;
mod report;
mod roles;
mod run_file;
mod servers;
mod signals;
mod topics;
mod up;

use std::{
    io::{BufWriter, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Parser;

use crate::{
    cli::{Cli, Command},
    config::Config,
    exit::{Exit, Usage},
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let exit = start(cli).unwrap_or_else(|error| {
        let exit = exit::of_error(&error);
        if exit != Exit::Done {
            eprintln!("mantis: {}", exit::sentence(&error));
        }
        exit
    });
    exit.into()
}

fn start(cli: Cli) -> Result<Exit> {
    let mut config = Config::load(cli.global.config.as_deref()).map_err(Usage)?;
    if let Some(data_dir) = &cli.global.data_dir {
        config.data_dir.clone_from(data_dir);
    }
    let told = match cli.command {
        Command::Worker(_) => "info",
        // On a terminal the live view says what goes on; a log file should tell the whole story.
        Command::Up(_) if !std::io::stderr().is_terminal() => "info",
        _ => "warn",
    };
    mantis_telemetry::init_logs(told).map_err(|error| Usage(error.into()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let exit = runtime.block_on(dispatch(cli, config));
    // Blocking calls that are still under way must not hold the exit up.
    runtime.shutdown_background();
    exit
}

async fn dispatch(cli: Cli, config: Config) -> Result<Exit> {
    let json = cli.global.json;
    let mut stdout = BufWriter::new(std::io::stdout());
    let out = &mut stdout;
    let exit = match cli.command {
        Command::Up(args) => up::up(config, args, json).await,
        Command::Worker(args) => up::worker(config, args).await,
        Command::Replay(args) => commands::replay::replay(&config, &args, json, out).await,
        Command::Status => commands::status::status(&config, json, out).await,
        Command::Query(query) => commands::query::query(&config, &query, json, out).await.map(|()| Exit::Done),
        Command::Sensors(args) => commands::sensors::sensors(&config, &args, json, out).await,
        Command::Dlq(dlq) => commands::dlq::dlq(&config, &dlq, json, out).await,
        Command::Audit(args) => commands::audit::audit(&config, &args, json, out).await,
        Command::Archive(command) => commands::archive::archive(&config, &command, json, out).await,
        Command::Export(args) => commands::export::export(&parts::raw_reader(&config)?, &args, json).await,
        Command::Ledger(cli::LedgerCommand::Reset { store, partition }) => {
            commands::ledger::reset(&config, store, &partition, json, out).await
        }
        Command::Migrate(args) => commands::migrate::migrate(&config, &args, json, out).await,
        Command::Config(cli::ConfigCommand::Check) => {
            commands::config_check::check(&config, cli.global.config.as_deref(), json, out)
        }
    }?;
    stdout.flush()?;
    Ok(exit)
}
