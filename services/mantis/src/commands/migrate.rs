//! `mantis migrate`.

use std::io::Write;

use anyhow::{Result, anyhow};
use mantis_stores::{
    features::timescale,
    postgres::{Migrated, MigrationEnd},
};
use serde_json::json;

use crate::{
    cli,
    config::Config,
    exit::{Exit, Usage},
    output,
};

/// Brings the tables of the configured databases up to date.
pub async fn migrate(config: &Config, args: &cli::Migrate, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let Some(mut database) = config.timescaledb.clone() else {
        let why = anyhow!(
            "there is nothing to migrate: mantis.toml has no [timescaledb]; embedded stores are brought up to date by their workers"
        );
        return Err(Usage(why).into());
    };
    if let Some(url) = &args.url {
        database.url.clone_from(url);
        database.password_file.clone_from(&args.password_file);
    }
    for migrated in timescale::migrate(&database.connection().map_err(Usage)?, args.dry_run).await? {
        show("timescaledb", &migrated, as_json, out)?;
    }
    Ok(Exit::Done)
}

fn show(database: &str, migrated: &Migrated, as_json: bool, out: &mut impl Write) -> Result<()> {
    let Migrated { version, name, end } = migrated;
    let (word, said) = match end {
        MigrationEnd::Applied => ("applied", "applied"),
        MigrationEnd::Present => ("present", "there already"),
        MigrationEnd::Pending => ("pending", "would be applied"),
        MigrationEnd::NotLicensed => ("not_licensed", "left out: it needs TimescaleDB's Community licence"),
    };
    if as_json {
        output::json_line(out, &json!({ "database": database, "version": version, "name": name, "end": word }))
    } else {
        Ok(writeln!(out, "{database}  {version:04} {name}: {said}")?)
    }
}
