//! What a partition log answers when it cannot do what it was asked.

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why a log operation failed. The variants differ in what the caller does next; the texts are for people.
#[derive(Debug, Error)]
pub enum LogError {
    /// The disk has no room. Nothing of the append was kept; the same append may be tried again when there is room.
    #[error("no space left on the disk of {path}: nothing was appended; free space and send again")]
    DiskFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The partition takes and serves nothing until it is opened again.
    #[error("partition in {dir} is offline: {reason}; reopen it so that recovery can decide what is durable")]
    Offline {
        /// The partition's folder.
        dir: PathBuf,
        /// What put it offline.
        reason: String,
    },
    /// Bytes that were durable are damaged. The log refuses to open (or to serve them) rather than to drop what follows.
    #[error(
        "{path} is corrupt at byte {position}: {what}; restore the file, or move the partition's folder away and reset the positions of its readers (docs/broker.md)"
    )]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// First byte that is not as it should be.
        position: u64,
        /// What is wrong there.
        what: String,
    },
    /// A segment file that must exist does not.
    #[error(
        "the log in {dir} has no segment for offsets {from}..{to}: a file is missing; restore it, or move the folder away and reset the positions of its readers (docs/broker.md)"
    )]
    MissingSegment {
        /// The partition's folder.
        dir: PathBuf,
        /// First offset that is missing.
        from: i64,
        /// First offset that is there again.
        to: i64,
    },
    /// The offset lies outside of what is readable.
    #[error("offset {offset} is outside of the log, which holds {start}..{end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: i64,
        /// Log start offset.
        start: i64,
        /// End of what may be read (high watermark).
        end: i64,
    },
    /// A gap in an idempotent producer's sequence (Kafka's `OUT_OF_ORDER_SEQUENCE_NUMBER`).
    #[error(
        "producer {producer_id} sent sequence {sequence}, expected {expected}: a batch before it is missing or was sent too long ago"
    )]
    OutOfOrderSequence {
        /// The producer.
        producer_id: i64,
        /// Base sequence of the refused batch.
        sequence: i32,
        /// The sequence that would have been accepted.
        expected: i32,
    },
    /// A zombie producer (Kafka's `INVALID_PRODUCER_EPOCH`).
    #[error("producer {producer_id} sent epoch {epoch}, but epoch {current} was seen already: another instance took over")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: i64,
        /// Epoch of the refused batch.
        epoch: i16,
        /// The highest epoch seen.
        current: i16,
    },
    /// The log cannot give out more offsets.
    #[error("the log in {dir} has no offsets left")]
    OffsetsExhausted {
        /// The partition's folder.
        dir: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer of the system.
        source: io::Error,
    },
}

impl LogError {
    /// Whether what was durable is damaged or gone, so that trying again does not help.
    pub fn is_damage(&self) -> bool {
        match self {
            LogError::Corrupt { .. } | LogError::MissingSegment { .. } => true,
            LogError::Io { source, .. } => {
                let is_unreadable = source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error());
                is_unreadable || matches!(source.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound)
            }
            _ => false,
        }
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> LogError {
        let path = path.into();
        move |source| LogError::Io { action, path, source }
    }
}
