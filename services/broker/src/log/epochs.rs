//! The leader epochs of a partition: from which offset on each of them wrote.
//!
//! Rules of `OffsetForLeaderEpoch` as in Apache Kafka's `LeaderEpochFileCache.endOffsetFor`.

use std::path::{Path, PathBuf};

use super::{
    EpochEnd, LogError,
    checkpoint::{self, Fields, Importance},
};

/// Epochs that are remembered; one is added per start of the broker that appends, the oldest go first.
pub const EPOCHS_MAX: usize = 4096;

const EPOCHS: &str = "leader-epochs.checkpoint";
const EPOCHS_MAGIC: [u8; 8] = *b"MANTEPO1";

/// Epochs with their start offsets, both ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Epochs {
    path: PathBuf,
    starts: Vec<(i32, i64)>,
}

impl Epochs {
    pub(super) fn load(dir: &Path) -> Result<Epochs, LogError> {
        let path = dir.join(EPOCHS);
        let payload = checkpoint::read(&path, EPOCHS_MAGIC)?.unwrap_or_default();
        let mut fields = Fields(&payload);
        let mut starts = Vec::new();
        while let (Some(epoch), Some(start)) = (fields.take().map(i32::from_le_bytes), fields.i64()) {
            starts.push((epoch, start));
        }
        Ok(Epochs { path, starts })
    }

    /// Largest epoch, -1 for none.
    pub(super) fn last(&self) -> i32 {
        self.starts.last().map_or(-1, |&(epoch, _)| epoch)
    }

    /// Notes durably that `epoch` writes from `offset` on, if it is a new one.
    pub(super) fn assign(&mut self, epoch: i32, offset: i64) -> Result<(), LogError> {
        if epoch <= self.last() {
            return Ok(());
        }
        let mut starts = self.starts.clone();
        // An epoch that wrote nothing has no records to answer for.
        starts.retain(|&(_, start)| start < offset);
        if starts.len() >= EPOCHS_MAX {
            starts.remove(0);
        }
        starts.push((epoch, offset));
        self.replace(starts)
    }

    /// Forgets what starts at or behind the end of the log: its records are not there.
    pub(super) fn truncate(&mut self, end_offset: i64) -> Result<(), LogError> {
        let starts: Vec<_> = self.starts.iter().copied().filter(|&(_, start)| start < end_offset).collect();
        if starts.len() == self.starts.len() { Ok(()) } else { self.replace(starts) }
    }

    /// The end of `requested` in a log that ends at `end_offset` and whose leader is in epoch `current`.
    pub(super) fn end(&self, requested: i32, current: i32, end_offset: i64) -> Option<EpochEnd> {
        if requested < 0 {
            return None;
        }
        if requested == current.max(self.last()) {
            return Some(EpochEnd { leader_epoch: requested, end_offset });
        }
        let after = self.starts.partition_point(|&(epoch, _)| epoch <= requested);
        // Nobody knows about epochs above the leader's; the leader's own starts at the end as long as it wrote nothing.
        let end_offset = match self.starts.get(after) {
            Some(&(_, start)) => start,
            None if requested < current => end_offset,
            None => return None,
        };
        let floor = after.checked_sub(1).and_then(|at| self.starts.get(at)).map_or(requested, |&(epoch, _)| epoch);
        Some(EpochEnd { leader_epoch: floor, end_offset })
    }

    fn replace(&mut self, starts: Vec<(i32, i64)>) -> Result<(), LogError> {
        let mut payload = Vec::with_capacity(starts.len() * 12);
        for (epoch, start) in &starts {
            payload.extend_from_slice(&epoch.to_le_bytes());
            payload.extend_from_slice(&start.to_le_bytes());
        }
        checkpoint::write(&self.path, EPOCHS_MAGIC, &payload, Importance::Durable)?;
        self.starts = starts;
        Ok(())
    }
}
