//! The embedded raw store: one SQLite file that anyone can read with the `sqlite3` shell.
//!
//! What it guarantees: a write that ended is on disk (WAL, `synchronous=FULL`); the ledger moves in the transaction of
//! the rows it covers, so it is never ahead of them; memory and the write-ahead log are bounded.
//!
//! Idempotency key: (asset, sensor, source time in ns). The same value again is a duplicate and changes nothing; another
//! value replaces the stored one and is counted as a conflict. Values are compared bit by bit.
//!
//! The ledger is the truth about progress, not the group's commit: it says where the *file* ends. A partition that the
//! file knows nothing of starts at the beginning of the log, whatever was committed, so that a store that was deleted is
//! rebuilt instead of skipped. Ledgers of other clusters are kept and ignored.

mod config;
mod encode;
mod oldest;
mod read;
mod retention;
mod schema;
mod write;

pub use config::{LedgerIdentity, SqliteConfig};
pub use read::SqliteRawReader;
pub use retention::{Retention, Trimmed};
pub use schema::OpenError;
pub use write::SqliteRaw;

use std::path::Path;

use mantis_pipeline::Fault;
use rusqlite::{Error, ErrorCode};

/// What a failure of SQLite means for the road.
fn fault(path: &Path, error: &Error) -> Fault {
    let file = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Fault::retry(format!(
            "the disk of {file} is full ({error}): nothing is taken until there is room; free space or set a retention for raw readings"
        )),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Fault::retry(format!("{file} is locked by another process ({error}): end the program that writes to it"))
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Fault::Fatal {
            reason: format!(
                "{file} is damaged ({error}): move it and its -wal file away and start again; the store is rebuilt from what the log still holds"
            ),
        },
        Some(
            ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::OutOfMemory
            | ErrorCode::OperationInterrupted
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::SchemaChanged,
        ) => Fault::retry(format!(
            "{file} cannot be used now ({error}): nothing is taken until it can; check the disk and its permissions"
        )),
        _ => Fault::Fatal { reason: format!("{file} does not behave as expected ({error}): going on could lose readings") },
    }
}
