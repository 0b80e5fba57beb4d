//! One partition in the running broker: the lock around its log, one sync for many appends, and those who wait for either.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use kafka_protocol::ResponseError;
use tokio::{sync::watch, task};

use super::TopicSettings;
use crate::{
    log::{self, Appended, BatchError, LogError, LogSlice, PartitionLog},
    sync::{Waiters, lock},
};

/// A partition of a topic.
#[derive(Debug)]
pub(crate) struct Partition {
    topic: String,
    index: i32,
    dir: PathBuf,
    state: Mutex<State>,
    /// Fetches that wait for records.
    pub(crate) readers: Waiters,
    /// The damage that was logged last, by the offset that was asked for: readers ask for it again and again.
    damage_told: AtomicI64,
}

#[derive(Debug)]
struct State {
    /// `None` once the broker shuts down or the topic is deleted.
    log: Option<PartitionLog>,
    /// A task is syncing; it sees what is appended meanwhile.
    syncing: bool,
    /// End of what is durable. When the partition goes offline it is dropped for a new one: whoever waits then learns that
    /// its records are lost, and is not misled by what is appended after a reopening.
    durable: watch::Sender<i64>,
}

/// An append that is not durable yet.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) appended: Appended,
    durable: watch::Receiver<i64>,
}

impl Written {
    /// Waits until the records are durable.
    pub(crate) async fn durable(&mut self) -> Result<(), ResponseError> {
        let end = self.appended.next_offset;
        self.durable.wait_for(|durable| *durable >= end).await.map(drop).map_err(|_| ResponseError::KafkaStorageError)
    }
}

/// What a reader found.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) slice: Result<LogSlice, ResponseError>,
    pub(crate) offsets: Offsets,
}

/// Where a log begins and ends for readers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Offsets {
    pub(crate) start: i64,
    pub(crate) high_watermark: i64,
}

impl Partition {
    /// Opens the log in `dir`. Blocks.
    pub(crate) fn open(
        topic: &str,
        index: i32,
        dir: PathBuf,
        settings: &TopicSettings,
        now_ms: i64,
    ) -> Result<Partition, LogError> {
        let (log, recovery) = PartitionLog::open(&dir, settings.log.clone(), now_ms)?;
        if recovery.cut_bytes > 0 {
            tracing::warn!(
                topic,
                partition = index,
                cut_bytes = recovery.cut_bytes,
                "cut a torn tail: no producer had an answer for it, unless the disk lost what it had synced"
            );
        }
        let durable = watch::Sender::new(log.high_watermark());
        let state = Mutex::new(State { log: Some(log), syncing: false, durable });
        Ok(Partition { topic: topic.into(), index, dir, state, readers: Waiters::default(), damage_told: AtomicI64::new(-1) })
    }

    /// Runs `operation` on the log. Blocks as long as the log does.
    pub(crate) fn with_log<T>(
        &self,
        operation: impl FnOnce(&mut PartitionLog) -> Result<T, LogError>,
    ) -> Result<T, ResponseError> {
        let mut state = lock(&self.state);
        let log = state.log.as_mut().ok_or(ResponseError::NotLeaderOrFollower)?;
        operation(log).map_err(|error| self.answer(&error))
    }

    /// Checks and appends produced batches and sees to it that they are synced. Blocks.
    pub(crate) fn append(
        self: &Arc<Self>,
        records: &[u8],
        message_bytes_max: usize,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Written, (ResponseError, String)> {
        let batches = log::validate(records, message_bytes_max).map_err(|error| (refusal(&error), error.to_string()))?;
        let mut state = lock(&self.state);
        let Some(log) = state.log.as_mut() else {
            return Err((ResponseError::NotLeaderOrFollower, "the partition is closed".into()));
        };
        let appended = log.append(&batches, leader_epoch, now_ms).map_err(|error| (self.answer(&error), error.to_string()))?;
        let undurable = log.sync_handle().is_some();
        let durable = state.durable.subscribe();
        if undurable && !state.syncing {
            state.syncing = true;
            let partition = Arc::clone(self);
            drop(task::spawn_blocking(move || partition.sync_until_idle()));
        }
        Ok(Written { appended, durable })
    }

    /// At most `bytes_max` bytes of durable batches from `offset` on (one batch at least).
    pub(crate) fn read(&self, offset: i64, bytes_max: usize) -> Result<Read, ResponseError> {
        self.with_log(|log| {
            let offsets = Offsets { start: log.start_offset(), high_watermark: log.high_watermark() };
            Ok(Read { slice: log.read(offset, bytes_max).map_err(|error| self.cannot_read(offset, &error)), offsets })
        })
    }

    /// What a reader is told who asked for `offset` and cannot have it.
    pub(crate) fn cannot_read(&self, offset: i64, error: &LogError) -> ResponseError {
        if error.is_damage() { self.damaged(offset, error) } else { self.answer(error) }
    }

    /// What a reader is told whose records at `offset` are damaged: an error that clients show, and not one that they retry
    /// in silence.
    pub(crate) fn damaged(&self, offset: i64, what: &dyn fmt::Display) -> ResponseError {
        if self.damage_told.swap(offset, Ordering::Relaxed) != offset {
            let dir = self.dir.display();
            tracing::error!(
                topic = self.topic, partition = self.index, offset, %dir, %what,
                "the log is damaged: restore the file, or delete the records up to behind the damage; it is not read on"
            );
        }
        ResponseError::CorruptMessage
    }

    /// Where the log begins and ends for readers.
    pub(crate) fn offsets(&self) -> Result<Offsets, ResponseError> {
        self.with_log(|log| Ok(Offsets { start: log.start_offset(), high_watermark: log.high_watermark() }))
    }

    /// Opens a log again that a failed sync has put offline; recovery decides what is durable. Blocks.
    pub(crate) fn reopen_if_offline(&self, settings: &TopicSettings, now_ms: i64) {
        let mut state = lock(&self.state);
        if state.syncing || state.log.as_ref().is_none_or(|log| log.offline().is_none()) {
            return;
        }
        match PartitionLog::open(&self.dir, settings.log.clone(), now_ms) {
            Ok((log, recovery)) => {
                tracing::warn!(topic = self.topic, partition = self.index, ?recovery, "partition is online again");
                // A new one: whoever still waits for a record of before must not see other records pass its offset.
                state.durable = watch::Sender::new(log.high_watermark());
                state.log = Some(log);
                drop(state);
                self.readers.wake();
            }
            Err(error) => tracing::error!(topic = self.topic, partition = self.index, %error, "partition stays offline"),
        }
    }

    /// Ends the partition: nothing is appended or read any more. Syncs and writes checkpoints if `keep`. Blocks.
    pub(crate) fn close(&self, keep: bool) {
        let log = {
            let mut state = lock(&self.state);
            state.durable = watch::Sender::new(-1);
            state.log.take()
        };
        self.readers.wake();
        if let Some(Err(error)) = log.filter(|_| keep).map(PartitionLog::close) {
            tracing::error!(topic = self.topic, partition = self.index, %error, "partition was not closed cleanly");
        }
    }

    /// Syncs until nothing is left to sync, so that what arrives during one sync shares the next.
    fn sync_until_idle(&self) {
        loop {
            let handle = {
                let mut state = lock(&self.state);
                match state.log.as_ref().and_then(PartitionLog::sync_handle) {
                    Some(handle) => handle,
                    None => {
                        state.syncing = false;
                        // Rolling a segment syncs too: what was appended may have become durable by the way.
                        match state.log.as_ref().map(|log| (log.high_watermark(), log.offline().is_some())) {
                            Some((end, false)) => {
                                state.durable.send_replace(end);
                            }
                            Some((_, true)) => state.durable = watch::Sender::new(-1),
                            None => {}
                        }
                        drop(state);
                        self.readers.wake();
                        return;
                    }
                }
            };
            let outcome = handle.sync();
            let mut state = lock(&self.state);
            let Some(log) = state.log.as_mut() else {
                state.syncing = false;
                return;
            };
            match log.complete_sync(outcome) {
                Ok(end) => {
                    state.durable.send_replace(end);
                }
                Err(error) => {
                    tracing::error!(topic = self.topic, partition = self.index, %error, "sync failed: partition is offline");
                    state.syncing = false;
                    state.durable = watch::Sender::new(-1);
                    drop(state);
                    self.readers.wake();
                    return;
                }
            }
            drop(state);
            self.readers.wake();
        }
    }

    /// What a client is told about `error`; what it cannot mend is logged.
    fn answer(&self, error: &LogError) -> ResponseError {
        match error {
            LogError::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
            LogError::OutOfOrderSequence { .. } => ResponseError::OutOfOrderSequenceNumber,
            LogError::InvalidProducerEpoch { .. } => ResponseError::InvalidProducerEpoch,
            _ => {
                tracing::error!(topic = self.topic, partition = self.index, %error, "log operation failed");
                ResponseError::KafkaStorageError
            }
        }
    }
}

fn refusal(error: &BatchError) -> ResponseError {
    match error {
        BatchError::Corrupt { .. } => ResponseError::CorruptMessage,
        BatchError::TooLarge { .. } => ResponseError::MessageTooLarge,
        BatchError::UnsupportedMagic { .. } => ResponseError::UnsupportedForMessageFormat,
        BatchError::InvalidRecord { .. } => ResponseError::InvalidRecord,
        BatchError::Transactional => ResponseError::InvalidTxnState,
    }
}
