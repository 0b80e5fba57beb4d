//! The settings of one partition's log: those of its topic that the log itself acts on.

/// Settings of a log; they may be changed while it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// A segment is rolled before it would grow beyond this (`segment.bytes`); at most [`LogConfig::SEGMENT_BYTES_MAX`].
    pub segment_bytes: u64,
    /// A segment is rolled when its first append is older than this (`segment.ms`).
    pub segment_ms: i64,
    /// Whole segments go, oldest first, while the log is larger (`retention.bytes`); `None` for no limit.
    pub retention_bytes: Option<u64>,
    /// Segments go whose newest record is older (`retention.ms`); `None` for no limit.
    pub retention_ms: Option<i64>,
    /// Whose time the records carry (`message.timestamp.type`).
    pub timestamps: Timestamps,
    /// What is cleaned and how (`cleanup.policy`).
    pub cleanup: Cleanup,
    /// How long a compacted log keeps tombstones (`delete.retention.ms`).
    pub delete_retention_ms: i64,
}

impl LogConfig {
    /// Positions inside of a segment fit into 32 bits with room for one batch.
    pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            segment_bytes: 64 << 20,
            segment_ms: 7 * 24 * 3_600_000,
            retention_bytes: None,
            retention_ms: Some(7 * 24 * 3_600_000),
            timestamps: Timestamps::Create,
            cleanup: Cleanup::Delete,
            delete_retention_ms: 24 * 3_600_000,
        }
    }
}

/// Whose time the records carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timestamps {
    /// The producer's (`CreateTime`).
    Create,
    /// The broker's at the append (`LogAppendTime`).
    Append,
}

/// What happens to old records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Retention deletes whole segments (`delete`).
    Delete,
    /// Only the last record of each key is kept (`compact`).
    Compact,
    /// Both (`compact,delete`).
    CompactAndDelete,
}

impl Cleanup {
    /// Whether retention by age and bytes applies.
    pub fn deletes(self) -> bool {
        matches!(self, Cleanup::Delete | Cleanup::CompactAndDelete)
    }

    /// Whether compaction applies.
    pub fn compacts(self) -> bool {
        matches!(self, Cleanup::Compact | Cleanup::CompactAndDelete)
    }
}
