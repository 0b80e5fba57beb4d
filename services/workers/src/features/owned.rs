//! The partitions that are owned: what others see of them, and what their states may take together.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Instant,
};

use mantis_pipeline::{Fault, State, Status, TopicPartition};

use super::{Counts, SnapshotAccount, StateAccount, StateSize, partition::PartitionState, traces::Traces};

/// The partitions that this process owns.
#[derive(Debug)]
pub(super) struct Owned {
    partitions: Mutex<HashMap<TopicPartition, Arc<Held>>>,
    /// Bytes that the states of all partitions may take together.
    bytes_max: usize,
    /// Snapshots that were written, since the start of the process.
    written: AtomicU64,
    /// Snapshots that could not be written.
    failed: AtomicU64,
}

/// A partition that is owned.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) partition: TopicPartition,
    pub(super) progress: tokio::sync::Mutex<Progress>,
    /// Where the newest snapshot lies.
    durable: AtomicI64,
    account: Mutex<Account>,
}

/// How far a partition is in the state.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) state: PartitionState,
    /// Everything before it is in the state, and what was refused of it has its dead letters.
    pub(super) next: i64,
    /// The end of a batch whose rows are in the state and whose dead letters are still on their way: no snapshot may begin here.
    pub(super) unsettled: Option<i64>,
    /// Rows that were emitted from it, by the emitter's count.
    pub(super) emitted: u64,
    pub(super) last_write: Instant,
    pub(super) last_snapshot: Instant,
    pub(super) traces: Traces,
}

/// What is known of a partition without waiting for whoever works on its state.
#[derive(Clone, Copy, Debug)]
struct Account {
    counts: Counts,
    size: StateSize,
    /// When the newest snapshot was written, ms since the epoch.
    snapshot_ms: Option<i64>,
}

impl Owned {
    /// None yet.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { partitions: Mutex::default(), bytes_max, written: AtomicU64::new(0), failed: AtomicU64::new(0) }
    }

    pub(super) fn add(&self, held: Held) {
        self.lock().insert(held.partition.clone(), Arc::new(held));
    }

    pub(super) fn find(&self, partition: &TopicPartition) -> Option<Arc<Held>> {
        self.lock().get(partition).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Held>> {
        self.lock().values().cloned().collect()
    }

    /// Gives partitions up; their troubles are no longer those of this worker.
    pub(super) fn release(&self, partitions: &[TopicPartition], status: &Status) {
        let mut owned = self.lock();
        for partition in partitions {
            if owned.remove(partition).is_some() {
                status.recovered(&snapshot_place(partition));
            }
        }
    }

    /// Readings by what became of them.
    pub(super) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        self.lock().values().for_each(|held| sum.add(&held.account().counts));
        sum
    }

    /// What is held, and where its snapshots lie.
    pub(super) fn state(&self) -> StateAccount {
        let owned = self.lock();
        let snapshot = |held: &Arc<Held>| {
            let (partition, offset) = (held.partition.partition, held.durable());
            held.account().snapshot_ms.map(|written_ms| SnapshotAccount { partition, offset, written_ms })
        };
        let mut snapshots: Vec<_> = owned.values().filter_map(snapshot).collect();
        snapshots.sort_unstable_by_key(|snapshot| snapshot.partition);
        StateAccount {
            size: size(&owned),
            bytes_max: self.bytes_max,
            snapshots_written: self.written.load(Ordering::Relaxed),
            snapshots_failed: self.failed.load(Ordering::Relaxed),
            snapshots,
        }
    }

    /// Whether the state may grow, with `more` beside what is held.
    ///
    /// Nothing is folded or dropped instead: a sensor's figures would follow from what other sensors send.
    ///
    /// # Errors
    /// It may not.
    pub(super) fn room(&self, more: StateSize) -> Result<(), Fault> {
        let mut held = size(&self.lock());
        held += more;
        if held.bytes < self.bytes_max {
            return Ok(());
        }
        Err(Fault::retry(format!(
            "the state of {} sensors takes {} bytes and features.state_bytes_max is {}: no more readings are taken, they stay in the \
             log. Raise it if there is memory, start another worker, or shorten features.lateness_s or features.windows",
            held.sensors, held.bytes, self.bytes_max
        )))
    }

    /// Notes how a snapshot up to `next` ended, for all who look. One of a partition that was given up meanwhile troubles nobody.
    pub(super) fn note_snapshot(&self, held: &Held, next: i64, written_ms: i64, ended: &Result<(), Fault>, status: &Status) {
        let owned = self.lock();
        let still = owned.get(&held.partition).is_some_and(|now| std::ptr::eq(&**now, held));
        let place = snapshot_place(&held.partition);
        match ended {
            Ok(()) => {
                self.written.fetch_add(1, Ordering::Relaxed);
                held.durable.store(next, Ordering::Release);
                held.lock().snapshot_ms = Some(written_ms);
                if still {
                    status.recovered(&place);
                }
            }
            Err(fault) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let state = match fault {
                    Fault::Retry { .. } => State::Retrying,
                    Fault::Credentials { .. } => State::Paused,
                    // It is told as the reason why the worker ends.
                    Fault::Fatal { .. } => return,
                };
                if still {
                    status.failed(&place, state, &fault.to_string());
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TopicPartition, Arc<Held>>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// A partition whose newest snapshot lies at the position of `progress`, if there is one.
    pub(super) fn new(partition: TopicPartition, progress: Progress, snapshot_ms: Option<i64>) -> Self {
        let account = Account { counts: progress.state.counts, size: progress.state.size(), snapshot_ms };
        let durable = progress.next.into();
        Self { partition, progress: tokio::sync::Mutex::new(progress), durable, account: Mutex::new(account) }
    }

    /// Where the newest snapshot lies.
    pub(super) fn durable(&self) -> i64 {
        self.durable.load(Ordering::Acquire)
    }

    /// True if `durable` is where a snapshot lies, and not where reading began without one.
    pub(super) fn has_snapshot(&self) -> bool {
        self.account().snapshot_ms.is_some()
    }

    /// Notes what the state holds now; returns the counts of before.
    pub(super) fn note(&self, state: &PartitionState) -> Counts {
        let mut account = self.lock();
        account.size = state.size();
        std::mem::replace(&mut account.counts, state.counts)
    }

    /// Looks at the state while nothing is written to it.
    pub(super) async fn look<T>(&self, look: impl FnOnce(&PartitionState) -> T) -> T {
        look(&self.progress.lock().await.state)
    }

    fn account(&self) -> Account {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(owned: &HashMap<TopicPartition, Arc<Held>>) -> StateSize {
    let mut size = StateSize::default();
    owned.values().for_each(|held| size += held.account().size);
    size
}

/// The name under which a snapshot's trouble is told.
fn snapshot_place(partition: &TopicPartition) -> String {
    format!("snapshot of {partition}")
}

#[cfg(test)]
mod tests {
    use mantis_schemas::{Series, topics};

    use super::{super::sensor::SensorState, *};

    fn held(number: i32, sensors: u32) -> Held {
        let mut state = PartitionState::new(number, 2);
        for sensor in 0..sensors {
            let series = Series { asset: "pump".into(), sensor: format!("flow-{sensor}").into() };
            state.restore(series, SensorState::default());
        }
        let now = Instant::now();
        let (next, traces) = (7, Traces::default());
        let progress = Progress { state, next, unsettled: None, emitted: 0, last_write: now, last_snapshot: now, traces };
        Held::new(TopicPartition::new(topics::READINGS, number), progress, None)
    }

    #[test]
    fn there_is_room_until_the_states_of_all_partitions_together_take_their_bound() {
        let one = held(0, 10).account().size;
        let owned = Owned::new(2 * one.bytes);
        owned.add(held(0, 10));
        owned.room(StateSize::default()).unwrap();
        owned.room(StateSize { bytes: one.bytes - 1, ..one }).unwrap();
        assert!(matches!(owned.room(one), Err(Fault::Retry { .. })), "a state that would be loaded beside it");
        owned.add(held(1, 10));
        let message = owned.room(StateSize::default()).unwrap_err().to_string();
        let expected = format!("the state of 20 sensors takes {0} bytes and features.state_bytes_max is {0}", 2 * one.bytes);
        assert!(message.starts_with(&expected), "{message}");
        owned.release(&[TopicPartition::new(topics::READINGS, 1)], &Status::default());
        owned.room(StateSize::default()).unwrap();
    }

    #[test]
    fn a_snapshot_that_fails_is_a_trouble_until_one_is_written_or_the_partition_is_given_up() {
        let (owned, status) = (Owned::new(1), Status::default());
        owned.add(held(0, 1));
        let first = owned.all().remove(0);
        let failed = Err(Fault::retry("the topic mantis.feature-state takes nothing"));
        let trouble = || status.snapshot().troubles.get("snapshot of mantis.readings/0").map(|trouble| trouble.error.clone());
        owned.note_snapshot(&first, 20, 1_000, &failed, &status);
        assert_eq!(trouble().as_deref(), Some("the topic mantis.feature-state takes nothing"));
        assert_eq!(status.snapshot().state, State::Retrying);
        assert_eq!((owned.state().snapshots_written, owned.state().snapshots_failed), (0, 1));
        assert_eq!((first.durable(), owned.state().snapshots), (7, Vec::new()));

        owned.note_snapshot(&first, 30, 2_000, &Ok(()), &status);
        assert_eq!((trouble(), status.snapshot().state), (None, State::Running));
        let snapshot = SnapshotAccount { partition: 0, offset: 30, written_ms: 2_000 };
        assert_eq!((owned.state().snapshots_written, owned.state().snapshots), (1, vec![snapshot]));

        owned.note_snapshot(&first, 40, 3_000, &failed, &status);
        owned.release(std::slice::from_ref(&first.partition), &status);
        assert_eq!(trouble(), None);
        owned.note_snapshot(&first, 40, 4_000, &failed, &status);
        assert_eq!(trouble(), None, "it ended after the partition was given up");
    }
}
