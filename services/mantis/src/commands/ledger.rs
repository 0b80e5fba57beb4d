//! `mantis ledger`.

use std::io::Write;

use anyhow::{Context, Result, anyhow};
use mantis_pipeline::TopicPartition;
use mantis_stores::{
    features::{self, FeaturePlace},
    raw,
};
use serde_json::json;

use crate::{
    cli::LedgerStore,
    config::Config,
    exit::{Exit, Usage},
    output, parts,
    run_file::Held,
};

/// Forgets the position of a partition in a store of the data folder, which nobody may be writing to; exit code 3 if there is
/// none.
pub async fn reset(config: &Config, store: LedgerStore, partition: &str, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let place = place(partition).map_err(Usage)?;
    if store == LedgerStore::Raw && config.influxdb.is_some() {
        return Err(
            Usage(anyhow!("the raw store is InfluxDB, which keeps no positions: reset the group mantis-raw in Kafka")).into()
        );
    }
    let _held = Held::take(&config.data_dir)?;
    let forgotten = match store {
        LedgerStore::Raw => raw::sqlite::forget_position(&parts::raw_path(config), &place)?,
        LedgerStore::Timescale => match parts::feature_place(config)? {
            FeaturePlace::Sqlite(path) => features::sqlite::forget_position(&path, &place)?,
            FeaturePlace::Timescale(config) => features::timescale::forget_position(&config, &place).await?,
        },
    };
    if as_json {
        output::json_line(out, &json!({ "partition": partition, "forgotten": forgotten }))?;
    } else if forgotten.is_empty() {
        writeln!(out, "the store has no position of {place}: `mantis status` names what its worker reads")?;
    } else {
        for position in &forgotten {
            writeln!(out, "forgot the position {position} of {place}")?;
        }
        writeln!(
            out,
            "the worker reads the log from its start when it runs again; what the store has already is not stored twice"
        )?;
    }
    Ok(if forgotten.is_empty() { Exit::Attention } else { Exit::Done })
}

fn place(text: &str) -> Result<TopicPartition> {
    let parts = text.rsplit_once('/').and_then(|(topic, number)| Some((topic, number.parse::<i32>().ok()?)));
    let (topic, number) = parts.with_context(|| format!("{text} is no partition: give topic/number, as mantis.readings/0"))?;
    Ok(TopicPartition::new(topic, number))
}
