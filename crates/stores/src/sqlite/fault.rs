//! What a failure of SQLite means for the road.

use std::path::Path;

use mantis_pipeline::Fault;
use rusqlite::{Error, ErrorCode};

/// What to do about `error` of the file at `path`.
pub(super) fn fault(path: &Path, error: &Error) -> Fault {
    let file = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Fault::retry(format!(
            "the disk of {file} is full ({error}): nothing is taken until there is room; free space or set a retention for this store"
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
        _ => Fault::Fatal { reason: format!("{file} does not behave as expected ({error}): going on could lose rows") },
    }
}
