//! `mantis dlq`: dead letters, by the position of the record that was refused.

mod list;
mod replay;
mod show;
mod text;

use std::io::Write;

use anyhow::{Result, bail};
use mantis_kafka::{ClientConfig, letters::Filter};
use mantis_schemas::topics::{FEATURES, SOURCES};

use crate::{
    cli::{self, Dlq, DlqFilter},
    config::Config,
    exit::{Exit, Usage},
    parts,
};

/// Lists, shows or replays dead letters.
pub async fn dlq(config: &Config, dlq: &Dlq, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    if let Dlq::List(DlqFilter { topic: Some(topic), .. }) | Dlq::Replay(DlqFilter { topic: Some(topic), .. }) = dlq
        && !SOURCES.contains(&topic.as_str())
        && topic != FEATURES
    {
        bail!(Usage(anyhow::anyhow!("{topic} has no dead letters: use one of {}, {FEATURES}", SOURCES.join(", "))));
    }
    match dlq {
        Dlq::List(filter) => list::list(&client(config, &filter.source)?, &wanted(filter), as_json, out).await,
        Dlq::Show { position, source } => show::show(&client(config, source)?, position, as_json, out).await,
        Dlq::Replay(filter) => replay::replay(&client(config, &filter.source)?, &wanted(filter), as_json, out).await,
    }
}

fn client(config: &Config, source: &cli::DlqSource) -> Result<ClientConfig> {
    parts::connect(config, source.brokers.as_deref())
}

/// The letters that a command's arguments mean.
fn wanted(filter: &DlqFilter) -> Filter {
    let DlqFilter { topic, reason, position, all, from, .. } = filter.clone();
    Filter { topic, reason, position, all, from }
}
