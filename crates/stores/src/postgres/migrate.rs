//! Migrations: versioned, checksummed, one at a time, and none on a database that a newer program has changed.

use mantis_pipeline::Fault;
use tokio_postgres::{Client, error::SqlState};

use super::{PostgresConfig, PostgresError, config::Target, fault::fault, sessions::connect};

/// Taken while migrations run, so that of two programs one waits.
const LOCK: i64 = 0x4D41_4E54_4953;

/// A step from one version of the tables to the next. Never changed once it was given out, only followed by others.
#[derive(Debug)]
pub(crate) struct Migration {
    pub(crate) version: i32,
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
    pub(crate) only: Only,
}

/// Where a migration is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Only {
    /// Everywhere.
    Always,
    /// On a server whose TimescaleDB has the Community licence.
    Community,
}

impl Migration {
    fn checksum(&self) -> String {
        format!("{:08x}", crc32c::crc32c(self.sql.as_bytes()))
    }
}

/// What became of a migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// Its number.
    pub version: i32,
    /// Its name.
    pub name: &'static str,
    /// What became of it.
    pub end: MigrationEnd,
}

/// How a migration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationEnd {
    /// It was run now.
    Applied,
    /// It was run before.
    Present,
    /// It would be run.
    Pending,
    /// It is for servers with TimescaleDB's Community licence.
    NotLicensed,
}

/// Why a database could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] PostgresError),
    /// The server.
    #[error(transparent)]
    Server(#[from] Fault),
    /// A newer program was here.
    #[error("{place} has version {found}, this program knows up to {known}: use the newer program")]
    Newer {
        /// The database.
        place: String,
        /// Its version.
        found: i32,
        /// The version of this program.
        known: i32,
    },
    /// A migration that was run is not the one of this program.
    #[error(
        "{place}: migration {version} ({name}) was run with another text than this program has: use the program that ran it, or a new schema"
    )]
    Changed {
        /// The database.
        place: String,
        /// Its number.
        version: i32,
        /// Its name.
        name: &'static str,
    },
    /// A migration failed; nothing of it is left.
    #[error("{place}: migration {version} ({name}) failed and was undone: {reason}")]
    Failed {
        /// The database.
        place: String,
        /// Its number.
        version: i32,
        /// Its name.
        name: &'static str,
        /// What the server said.
        reason: Fault,
    },
}

/// Brings a database up to date; `dry`: tells what would be done, and does nothing.
pub(crate) async fn migrate(config: &PostgresConfig, migrations: &[Migration], dry: bool) -> Result<Vec<Migrated>, MigrateError> {
    let target = Target::new(config)?;
    let mut client = connect(&target).await?;
    let failed = |error| fault(&target.place, &error);
    // Tables of a plant are large and another program may be at it: what takes long here takes long.
    client.batch_execute("SET statement_timeout = 0; SET lock_timeout = 0").await.map_err(failed)?;
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.map_err(failed)?;
    let present = present(&client).await.map_err(failed)?;
    check(&target.place, migrations, &present)?;
    if present.is_empty() && !dry {
        let begin = format!(
            "CREATE SCHEMA IF NOT EXISTS {};
             CREATE TABLE IF NOT EXISTS migrations
                 (version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
            target.schema
        );
        client.batch_execute(&begin).await.map_err(failed)?;
    }
    let mut ends = Vec::with_capacity(migrations.len());
    for migration in migrations {
        let end = if present.iter().any(|(version, _)| *version == migration.version) {
            MigrationEnd::Present
        } else if migration.only == Only::Community && !is_community(&client).await.map_err(failed)? {
            MigrationEnd::NotLicensed
        } else if dry {
            MigrationEnd::Pending
        } else {
            apply(&mut client, migration).await.map_err(|error| MigrateError::Failed {
                place: target.place.clone(),
                version: migration.version,
                name: migration.name,
                reason: failed(error),
            })?;
            MigrationEnd::Applied
        };
        ends.push(Migrated { version: migration.version, name: migration.name, end });
    }
    Ok(ends)
}

/// With its record, or not at all.
async fn apply(client: &mut Client, migration: &Migration) -> Result<(), tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(migration.sql).await?;
    let record = "INSERT INTO migrations (version, name, checksum) VALUES ($1, $2, $3)";
    transaction.execute(record, &[&migration.version, &migration.name, &migration.checksum()]).await?;
    transaction.commit().await
}

/// Versions that were run, with their checksums; none where there is no table of them.
async fn present(client: &Client) -> Result<Vec<(i32, String)>, tokio_postgres::Error> {
    match client.query("SELECT version, checksum FROM migrations ORDER BY version", &[]).await {
        Ok(rows) => rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect(),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn check(place: &str, migrations: &[Migration], present: &[(i32, String)]) -> Result<(), MigrateError> {
    let known = migrations.last().map_or(0, |migration| migration.version);
    for (found, checksum) in present {
        match migrations.iter().find(|migration| migration.version == *found) {
            None => return Err(MigrateError::Newer { place: place.to_owned(), found: *found, known }),
            Some(Migration { version, name, .. })
                if migrations.iter().all(|of| of.version != *version || of.checksum() != *checksum) =>
            {
                return Err(MigrateError::Changed { place: place.to_owned(), version: *version, name });
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// The extension may not be there yet, and then its setting is not either.
async fn is_community(client: &Client) -> Result<bool, tokio_postgres::Error> {
    let row = client.query_one("SELECT coalesce(current_setting('timescaledb.license', true), '')", &[]).await?;
    Ok(row.try_get::<_, String>(0)? == "timescale")
}

/// Refuses to work on tables that are not those of this program.
pub(super) async fn require(client: &Client, place: &str, migrations: &[Migration]) -> Result<(), Fault> {
    let present = present(client).await.map_err(|error| fault(place, &error))?;
    check(place, migrations, &present).map_err(|error| Fault::Fatal { reason: error.to_string() })?;
    let lacks = |migration: &&Migration| {
        migration.only == Only::Always && present.iter().all(|(version, _)| *version != migration.version)
    };
    match migrations.iter().find(lacks) {
        Some(Migration { version, name, .. }) => Err(Fault::Credentials {
            reason: format!("{place} lacks migration {version} ({name}): run `mantis migrate`; the worker waits for it"),
        }),
        None => Ok(()),
    }
}
