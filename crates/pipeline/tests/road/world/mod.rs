//! A world in memory: a log with a consumer group, a store, dead letters, and an oracle that knows every record.

mod cluster;
mod letters;
mod oracle;
mod random;
mod records;
mod sink;
mod source;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use mantis_pipeline::{Limits, Retry, Status, TopicPartition};
use tokio::{sync::Notify, time::Instant};

pub use cluster::{Group, Log};
pub use letters::Letters;
pub use random::Random;
pub use records::{Batch, Fate, Row, RowDecoder, Rows, Sent};
pub use sink::{Link, Store};
pub use source::Consumer;
pub use worker::{Ends, Plain, Worker};

/// Chances in a thousand per call, until [`World::heal`].
#[derive(Clone, Debug, Default)]
pub struct Chances {
    pub source_error: u64,
    pub commit_error: u64,
    /// The group has it, the caller does not know.
    pub commit_ambiguous: u64,
    pub start_error: u64,
    pub write_error: u64,
    /// The store has it, the caller does not know.
    pub write_ambiguous: u64,
    pub write_stall: u64,
    /// The write goes on though its caller is gone.
    pub write_detached: u64,
    pub throttle: u64,
    pub credentials: u64,
    pub letter_error: u64,
    /// Some or all of the letters are kept, the caller does not know.
    pub letter_ambiguous: u64,
    pub letter_stall: u64,
    pub latency_max_ms: u64,
}

pub struct World {
    state: Mutex<State>,
    pub changed: Notify,
    pub limits: Limits,
    pub keeps: Keeps,
}

/// What a store knows beside its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    Nothing,
    /// Where each partition ends.
    Ledger,
    /// And a call that began before the last question for it takes no effect after that.
    FencedLedger,
    /// It gathers rows and stores them with the ledger from time to time; until then a worker's rows are in its memory alone.
    Chain,
}

pub struct State {
    pub random: Random,
    pub chances: Chances,
    pub logs: BTreeMap<TopicPartition, Log>,
    pub group: Group,
    pub workers: Vec<WorkerState>,
    pub store: BTreeMap<u64, u64>,
    pub ledger: BTreeMap<TopicPartition, i64>,
    /// What workers hold of a chain's next link.
    pub links: BTreeMap<(usize, TopicPartition), Link>,
    /// Calls of the store by the order of their beginning, and how many had begun when a partition's position was last asked for.
    pub calls: u64,
    pub asked: BTreeMap<TopicPartition, u64>,
    /// How often a worker's sink has taken a partition over since it was released.
    pub taken_over: BTreeMap<(usize, TopicPartition), u32>,
    pub letters: BTreeMap<(TopicPartition, i64), BTreeSet<u32>>,
    pub whole_letters: BTreeSet<(TopicPartition, i64)>,
    /// Until when each end answers nothing but errors.
    pub store_down_until: Option<Instant>,
    pub letters_down_until: Option<Instant>,
    /// The store answers 401.
    pub credentials_wrong: bool,
    /// Calls of the sink that were begun: (when, worker, rows).
    pub writes: Vec<(Instant, usize, std::ops::Range<usize>)>,
    pub rows_applied: u64,
    /// The next call at which a worker is cut off, by worker.
    pub crash_in_calls: BTreeMap<usize, u64>,
    /// What the environment did that loosens a check.
    pub store_was_restored: bool,
    /// Writes may land late, and nothing in the store keeps an older value from replacing a newer one.
    pub late_writes: bool,
    /// A worker may not know that it lost its partitions.
    pub zombies: bool,
    pub fenced: bool,
    pub violation: Option<String>,
    /// What the workers met, by name.
    pub met: BTreeMap<&'static str, u64>,
    pub durable_checked: BTreeMap<TopicPartition, i64>,
    pub last_offset_of_value: BTreeMap<u64, i64>,
}

/// One start of a worker.
pub struct WorkerState {
    pub held_bytes: usize,
    pub held_bytes_peak: usize,
    pub writing: Vec<TopicPartition>,
    pub writes_under_way: usize,
    pub status: Arc<Status>,
    pub crash: Arc<Notify>,
}

impl World {
    pub fn new(seed: u64, partitions: &[(&str, i32)], limits: Limits, keeps: Keeps, chances: Chances) -> Arc<Self> {
        let logs = partitions
            .iter()
            .flat_map(|(topic, count)| (0..*count).map(|number| (TopicPartition::new(*topic, number), Log::default())))
            .collect();
        let late_writes = chances.write_detached + chances.write_ambiguous + chances.write_stall > 0;
        let state = State {
            random: Random::new(seed),
            chances,
            logs,
            group: Group::default(),
            workers: Vec::new(),
            store: BTreeMap::new(),
            ledger: BTreeMap::new(),
            links: BTreeMap::new(),
            calls: 0,
            asked: BTreeMap::new(),
            taken_over: BTreeMap::new(),
            letters: BTreeMap::new(),
            whole_letters: BTreeSet::new(),
            store_down_until: None,
            letters_down_until: None,
            credentials_wrong: false,
            writes: Vec::new(),
            rows_applied: 0,
            crash_in_calls: BTreeMap::new(),
            store_was_restored: false,
            late_writes,
            zombies: false,
            fenced: matches!(keeps, Keeps::FencedLedger | Keeps::Chain),
            violation: None,
            met: BTreeMap::new(),
            durable_checked: BTreeMap::new(),
            last_offset_of_value: BTreeMap::new(),
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), limits, keeps })
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A place where a call takes time and its worker may be cut off.
    pub async fn point(&self, worker: usize) {
        let (latency_ms, crash) = {
            let state = &mut *self.state();
            let max = state.chances.latency_max_ms;
            let latency_ms = if max == 0 || state.random.chance(300) { 0 } else { state.random.within(0, max) };
            let crash = match state.crash_in_calls.get_mut(&worker) {
                Some(0) => true,
                Some(calls) => {
                    *calls -= 1;
                    false
                }
                None => false,
            };
            if crash {
                state.meet("a crash in a call");
            }
            (latency_ms, crash.then(|| state.workers[worker].crash.clone()))
        };
        if let Some(crash) = crash {
            crash.notify_one();
            std::future::pending::<()>().await;
        }
        if latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(latency_ms)).await;
        }
    }

    /// From now on every call succeeds.
    pub fn heal(&self) {
        let mut state = self.state();
        state.chances = Chances { latency_max_ms: state.chances.latency_max_ms.min(5), ..Chances::default() };
        state.store_down_until = None;
        state.letters_down_until = None;
        state.credentials_wrong = false;
        state.crash_in_calls.clear();
        drop(state);
        self.changed.notify_waiters();
    }
}

impl State {
    pub fn meet(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    pub fn violate(&mut self, what: impl Into<String>) {
        self.violation.get_or_insert(what.into());
    }
}

/// Bounds so small that every one of them is met.
pub fn small_limits(seed: u64) -> Limits {
    Limits {
        rows_max: 12,
        bytes_max: 600,
        linger_ms: 20,
        lanes_max: 1,
        held_bytes_max: 1_500,
        stall_pause_ms: 400,
        commit_interval_ms: 200,
        release_wait_ms: 2_000,
        shutdown_wait_ms: 3_000,
        letters_bytes_max: 200,
        retry: Retry { first_ms: 20, max_ms: 1_000, credentials_ms: 1_500, retry_after_max_ms: 5_000, seed },
    }
}
