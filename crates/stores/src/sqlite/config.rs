//! Settings of an embedded store.

use std::time::Duration;

/// Bounds of the store's memory, log and waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqliteConfig {
    /// Memory for pages of the writing connection.
    pub cache_bytes: u64,
    /// The write-ahead log is carried over into the file when it reaches this size.
    pub wal_checkpoint_bytes: u64,
    /// While a reader of another process keeps the log from being carried over, it may grow to this size; then nothing
    /// more is taken until the reader is done.
    pub wal_bytes_max: u64,
    /// How long a write or a query waits for another process's lock before it is reported.
    pub busy_timeout: Duration,
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self {
            cache_bytes: 16 << 20,
            wal_checkpoint_bytes: 64 << 20,
            wal_bytes_max: 512 << 20,
            busy_timeout: Duration::from_secs(5),
        }
    }
}
