//! Benchmarks behind `scripts/bench`: one table for people, JSON for comparisons.

// A binary prints, and has no public items for others.
#![allow(clippy::print_stdout, clippy::print_stderr, unreachable_pub, missing_docs)]

mod decode;
mod figures;
mod workload;

use std::{io, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::figures::{Figure, table};

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
    /// Decoding alone, on one core
    Decode,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let figures: Vec<Figure> = match cli.what {
        What::Decode => decode::run()?,
    };
    table(&figures, &mut io::stdout().lock())?;
    if let Some(path) = cli.json {
        let text = serde_json::to_vec_pretty(&figures)?;
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
