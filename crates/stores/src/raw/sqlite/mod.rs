//! The embedded raw store: one SQLite file that anyone can read with the `sqlite3` shell.
//!
//! What it guarantees: a write that ended is on disk (WAL, `synchronous=FULL`); the ledger moves in the transaction of
//! the rows it covers, so it is never ahead of them, and says where the worker starts; memory and the write-ahead log are
//! bounded.
//!
//! Idempotency key: (asset, sensor, source time in ns). The same value again is a duplicate and changes nothing; another
//! value replaces the stored one and is counted as a conflict. Values are compared bit by bit.

mod oldest;
mod read;
mod retention;
mod schema;
mod write;

pub use read::SqliteRawReader;
pub use retention::{Retention, Trimmed};
use schema::KIND;
pub use write::SqliteRaw;

use std::path::Path;

use mantis_pipeline::TopicPartition;

pub use crate::sqlite::{LedgerIdentity, OpenError, SqliteConfig};

/// Forgets the position of a partition in the raw store at `path`: its worker reads the log from its start again, and what the
/// store has already is a duplicate. Returns the positions that were there. No worker may run meanwhile.
///
/// # Errors
/// There is no such file, or it is no raw store.
pub fn forget_position(path: &Path, partition: &TopicPartition) -> Result<Vec<i64>, OpenError> {
    crate::sqlite::forget(path, &KIND, partition)
}
