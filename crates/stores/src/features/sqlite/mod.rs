//! The embedded feature store: one SQLite file that anyone can read with the `sqlite3` shell, best through its view
//! `features_by_name`.
//!
//! What it guarantees: a write that ended is on disk (WAL, `synchronous=FULL`); the ledger moves in the transaction of
//! the rows it covers, so it is never ahead of them, and says where the worker starts; memory and the write-ahead log are
//! bounded.
//!
//! Idempotency key of features: (asset, sensor, length of the window, start), the greater rank wins; of readings: (asset,
//! sensor, source time), the last by offset wins.

mod read;
mod retention;
mod schema;
mod write;

pub use read::SqliteFeatureReader;
use schema::KIND;
pub use write::SqliteFeatures;

use std::path::Path;

use mantis_pipeline::TopicPartition;

pub use crate::sqlite::{LedgerIdentity, OpenError, SqliteConfig};

/// Forgets the position of a partition in the feature store at `path`: its worker reads the log from its start again, and what the
/// store has already is a duplicate. Returns the positions that were there. No worker may run meanwhile.
///
/// # Errors
/// There is no such file, or it is no feature store.
pub fn forget_position(path: &Path, partition: &TopicPartition) -> Result<Vec<i64>, OpenError> {
    crate::sqlite::forget(path, &KIND, partition)
}
