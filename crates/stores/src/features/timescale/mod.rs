//! TimescaleDB as the feature store: a schema of a PostgreSQL database that anyone can query, best through its views
//! `features_by_name` and `readings_by_name`.
//!
//! Rows are copied in binary into a temporary table of the connection and go on from there with one statement that leaves alone
//! what is as good already, in one transaction with the ledger: a batch is there as a whole, and the ledger is never ahead of it.
//!
//! Idempotency key of features: (asset, sensor, length of the window, start), the greater rank wins; of readings: (asset,
//! sensor, source time), the last by offset wins.

mod features;
mod read;
mod readings;
mod write;

use mantis_pipeline::TopicPartition;

pub use read::TimescaleReader;
pub use write::TimescaleFeatures;

use crate::postgres::{Failure, MigrateError, Migrated, Migration, Only, PostgresConfig, PostgresError, Sessions};

/// The tables. A file is never changed once it was given out.
static MIGRATIONS: [Migration; 3] = [
    Migration {
        version: 1,
        name: "stores",
        sql: include_str!("../../../../../infrastructure/migrations/timescaledb/0001_stores.sql"),
        only: Only::Always,
    },
    Migration {
        version: 2,
        name: "roles",
        sql: include_str!("../../../../../infrastructure/migrations/timescaledb/0002_roles.sql"),
        only: Only::Always,
    },
    Migration {
        version: 3,
        name: "community",
        sql: include_str!("../../../../../infrastructure/migrations/timescaledb/0003_community.sql"),
        only: Only::Community,
    },
];

/// Connections of a reader: questions that are under way at once.
const READERS_MAX: usize = 4;

/// Makes the tables, or brings them up to date; `dry`: tells what would be done, and does nothing. The user becomes the owner of what is
/// made: it may create the schema, roles and, if it is not there yet, the extension.
///
/// # Errors
/// The server cannot be reached, a migration fails, or a newer program was here.
pub async fn migrate(config: &PostgresConfig, dry: bool) -> Result<Vec<Migrated>, MigrateError> {
    crate::postgres::migrate(config, &MIGRATIONS, dry).await
}

/// Forgets the position of a partition, of every cluster and group: its worker reads the log from its start again, and what the
/// store has already is a duplicate. Returns the positions that were there. No worker may run meanwhile.
///
/// # Errors
/// The configuration cannot be used, or the server does not do it.
pub async fn forget_position(config: &PostgresConfig, partition: &TopicPartition) -> Result<Vec<i64>, MigrateError> {
    let sessions = Sessions::new(config, &MIGRATIONS, "", 1)?;
    let forget = async {
        let session = sessions.session().await?;
        let delete = "DELETE FROM ledger WHERE topic = $1 AND partition = $2 RETURNING next_offset";
        let rows = session.query(delete, &[&&*partition.topic, &partition.partition]).await;
        let forgotten = rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect()).map_err(Failure::from);
        sessions.answer(session, forgotten)
    };
    Ok(sessions.within(forget).await?)
}

fn sessions(config: &PostgresConfig, prepare: &'static str, max: usize) -> Result<Sessions, PostgresError> {
    Sessions::new(config, &MIGRATIONS, prepare, max)
}
