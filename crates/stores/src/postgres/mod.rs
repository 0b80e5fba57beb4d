//! What engines on PostgreSQL share: how the server is reached, what its errors mean, migrations, the ledger, binary COPY.
//!
//! A write that ended is on disk: PostgreSQL commits synchronously unless it is told otherwise. The ledger moves in the
//! transaction of the rows it covers, and its row is locked for the length of it, so that of two writers of a partition the
//! second sees what the first did. As in the embedded stores the ledger is the truth about progress: a partition that the
//! database knows nothing of starts at the beginning of the log, whatever was committed.

mod config;
mod copy;
mod fault;
mod ledger;
mod migrate;
mod series;
mod sessions;

pub use config::{PostgresConfig, PostgresError};
pub(crate) use copy::CopyRows;
pub(crate) use fault::Failure;
pub(crate) use ledger::Ledger;
pub use migrate::{MigrateError, Migrated, MigrationEnd};
pub(crate) use migrate::{Migration, Only, migrate};
pub(crate) use series::StoredIds;
pub(crate) use sessions::Sessions;
