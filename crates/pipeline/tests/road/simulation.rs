//! Seeded schedules of everything that goes wrong at once, and the oracle's verdict on each.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant as Clock},
};

use mantis_pipeline::TopicPartition;
use tokio::time::{Instant, sleep, sleep_until};

use crate::world::{Chances, Ends, Fate, Keeps, Plain, Random, Row, Sent, Worker, World, small_limits};

const SCHEDULES: u64 = 6_000;
const TROUBLE_MS: u64 = 12_000;
const SETTLE_MS: u64 = 300_000;

/// `MANTIS_SIM_SEEDS` sets how many schedules are run, `MANTIS_SIM_SEED` runs one of them alone.
#[test]
fn no_schedule_of_faults_crashes_and_rebalances_loses_a_row_or_commits_too_far() {
    if let Some(seed) = variable("MANTIS_SIM_SEED") {
        run_schedule(seed, Plain).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        return;
    }
    let (count, began) = (variable("MANTIS_SIM_SEEDS").unwrap_or(SCHEDULES), Clock::now());
    let failed = first_failure(0..count, Plain);
    if let Some((seed, violation)) = failed {
        panic!(
            "seed {seed}: {violation}\nrun it alone: MANTIS_SIM_SEED={seed} cargo test -p mantis-pipeline --test road -- no_schedule"
        );
    }
    println!("{count} schedules in {:.1} s", began.elapsed().as_secs_f64());
}

/// A schedule that meets nothing proves nothing.
#[test]
fn the_schedules_meet_every_kind_of_trouble() {
    let mut met = BTreeMap::new();
    for seed in 0..300 {
        let world = run_schedule(seed, Plain).unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        let state = world.state();
        for (what, times) in &state.met {
            *met.entry(*what).or_insert(0) += times;
        }
        let accounts = state.workers.iter().flat_map(|worker| worker.status.snapshot().topics.into_values());
        for account in accounts.flat_map(|topic| topic.partitions.into_values()) {
            *met.entry("records put back").or_insert(0) += account.records_discarded;
            *met.entry("gap offsets").or_insert(0) += account.gap_offsets;
        }
    }
    let kinds = [
        "a revocation",
        "a loss of partitions",
        "a gap",
        "a seek",
        "a pause",
        "a ledger that moved",
        "a chain that moved",
        "a link that came too late",
        "a refused part",
        "records put back",
        "gap offsets",
        "a crash in a call",
    ];
    for kind in kinds {
        assert!(met.get(kind).copied().unwrap_or(0) > 0, "{kind} is never met: {met:?}");
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

/// Runs schedules on two threads; the lowest seed that fails, if one does.
pub fn first_failure(seeds: std::ops::Range<u64>, ends: impl Ends + Sync) -> Option<(u64, String)> {
    let next = Mutex::new(seeds);
    let failed: Mutex<Option<(u64, String)>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let Some(seed) = next.lock().unwrap().next() else { break };
                    if let Err(violation) = run_schedule(seed, ends) {
                        let mut failed = failed.lock().unwrap();
                        if failed.as_ref().is_none_or(|(before, _)| seed < *before) {
                            *failed = Some((seed, violation));
                        }
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

fn run_schedule(seed: u64, ends: impl Ends) -> Result<Arc<World>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(Schedule::new(seed, ends).run())
}

/// One run: producers, workers, and what happens to them.
struct Schedule<E> {
    ends: E,
    random: Random,
    world: Arc<World>,
    workers: Vec<Worker>,
    workers_max: usize,
    partitions: Vec<TopicPartition>,
    values: u64,
    disturbed: bool,
    retention: bool,
    restores: bool,
    /// An older copy of the store and its ledger.
    copy: Option<(BTreeMap<u64, u64>, BTreeMap<TopicPartition, i64>)>,
}

impl<E: Ends> Schedule<E> {
    fn new(seed: u64, ends: E) -> Self {
        let mut random = Random::new(seed);
        let mut limits = small_limits(seed);
        limits.lanes_max = *random.pick(&[1, 1, 3]);
        limits.rows_max = *random.pick(&[4, 12, 40]);
        let keeps = *random.pick(&[Keeps::Nothing, Keeps::Ledger, Keeps::FencedLedger, Keeps::Chain]);
        let disturbed = random.chance(900);
        let mut some = |permille| if disturbed && random.chance(400) { random.within(1, permille) } else { 0 };
        let chances = Chances {
            source_error: some(60),
            commit_error: some(400),
            commit_ambiguous: some(300),
            start_error: some(500),
            write_error: some(300),
            write_ambiguous: some(200),
            write_stall: some(80),
            write_detached: some(500),
            throttle: some(150),
            credentials: some(80),
            letter_error: some(300),
            letter_ambiguous: some(300),
            letter_stall: some(80),
            latency_max_ms: *random.pick(&[0, 5, 30, 120]),
        };
        let topics: &[(&str, i32)] = random.pick::<&[(&str, i32)]>(&[&[("a", 1)], &[("a", 3)], &[("a", 3), ("b", 2)]]);
        let world = World::new(random.next(), topics, limits, keeps, chances);
        let partitions = world.state().logs.keys().cloned().collect();
        let restores = disturbed && keeps != Keeps::Nothing && random.chance(200);
        Self {
            ends,
            workers_max: random.within(1, 4) as usize,
            retention: disturbed && !restores && random.chance(200),
            restores,
            copy: None,
            world,
            workers: Vec::new(),
            partitions,
            values: 0,
            disturbed,
            random,
        }
    }

    async fn run(mut self) -> Result<Arc<World>, String> {
        self.produce_some(40);
        while self.workers.len() < self.workers_max {
            self.start_worker();
        }
        let trouble_ends = Instant::now() + Duration::from_millis(TROUBLE_MS);
        while Instant::now() < trouble_ends {
            sleep(Duration::from_millis(self.random.within(1, 900))).await;
            self.happens().await?;
            self.world.check_now()?;
        }
        self.world.heal();
        sleep(Duration::from_millis(1)).await;
        self.reap().await?;
        while self.workers.len() < self.workers_max {
            self.start_worker();
        }
        for partition in self.partitions.clone() {
            self.produce(&partition);
        }
        self.settle().await?;
        for worker in std::mem::take(&mut self.workers) {
            worker.stop().await?;
        }
        // Writes whose callers are gone still land.
        sleep(Duration::from_secs(20)).await;
        self.world.check_at_rest(self.disturbed)?;
        Ok(self.world)
    }

    /// I8: when nothing fails any more, everything gets done.
    async fn settle(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_millis(SETTLE_MS);
        while !self.world.is_settled() {
            self.world.check_now()?;
            if let Some(at) = self.workers.iter().position(Worker::has_ended) {
                return Err(format!("a worker ended by itself: {:?}", self.workers.swap_remove(at).ended().await));
            }
            if Instant::now() > deadline {
                let states: Vec<_> = self.workers.iter().map(|worker| format!("{:#?}", worker.status.snapshot())).collect();
                let group = format!("{:#?}", self.world.state().group);
                return Err(format!("I8: no progress after the trouble was over\n{}\n{group}", states.join("\n")));
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    fn start_worker(&mut self) {
        self.workers.push(Worker::start(&self.world, self.ends));
    }

    fn produce_some(&mut self, most: u64) {
        for _ in 0..self.random.within(1, most + 1) {
            let partition = self.random.pick(&self.partitions).clone();
            self.produce(&partition);
        }
    }

    fn produce(&mut self, partition: &TopicPartition) {
        let keys = (self.partitions.iter().position(|known| known == partition).unwrap() as u64) << 32;
        let sent = match self.random.within(0, 100) {
            0..4 => Sent::unreadable(self.random.next()),
            4..7 => Sent::tombstone(),
            kind => {
                let count = if kind < 60 { 1 } else { self.random.within(0, 9) };
                let bad = self.random.chance(200);
                let rows = (0..count).map(|_| self.row(keys, bad));
                Sent::rows(rows.collect())
            }
        };
        let skip = if self.random.chance(80) { self.random.within(1, 5) as i64 } else { 0 };
        self.world.produce(partition, sent, skip);
    }

    fn row(&mut self, keys: u64, bad: bool) -> Row {
        // A copy that comes back between two writes of one batch cannot be told from no copy: not even by a ledger.
        let fate = if bad && self.restores {
            Fate::BadRow
        } else if bad {
            *self.random.pick(&[Fate::Stored, Fate::Stored, Fate::BadRow, Fate::Rejected, Fate::Poison])
        } else {
            Fate::Stored
        };
        self.values += 1;
        // Some keys come again with another value: the last by offset wins.
        let key = if self.random.chance(150) { self.random.within(0, 6) } else { 100 + self.values };
        Row { key: keys | key, value: self.values, fate }
    }

    /// One thing that happens to the world.
    async fn happens(&mut self) -> Result<(), String> {
        if !self.disturbed {
            self.produce_some(20);
            return Ok(());
        }
        match self.random.within(0, 14) {
            0..5 => self.produce_some(20),
            5 => self.world.rebalance(true),
            6 => self.world.rebalance(false),
            7 => self.crash(true).await,
            8 => self.crash(false).await,
            9 if !self.workers.is_empty() => {
                let at = self.random.within(0, self.workers.len() as u64) as usize;
                let worker = self.workers.swap_remove(at);
                let number = worker.number;
                worker.stop().await?;
                // It may have been cut off on its way out.
                self.world.leave(number);
                self.start_worker();
            }
            10 if !self.workers.is_empty() => self.world.fence(self.random.pick(&self.workers).number),
            11 => self.outage(),
            12 if self.retention => {
                let partition = self.random.pick(&self.partitions).clone();
                let (start, end) = {
                    let state = self.world.state();
                    (state.logs[&partition].start, state.logs[&partition].end)
                };
                let at = start + self.random.within(0, (end - start).unsigned_abs() + 1) as i64;
                // Before the group's first commit nobody can know that there was anything.
                if self.world.state().group.committed.contains_key(&partition) {
                    self.world.remove_before(&partition, at);
                }
            }
            13 if self.restores => self.restore(),
            _ => {}
        }
        self.reap().await
    }

    /// Cuts a worker off now, or at one of its next calls, and starts another.
    async fn crash(&mut self, at_once: bool) {
        if self.workers.is_empty() {
            return;
        }
        let at = self.random.within(0, self.workers.len() as u64) as usize;
        if at_once {
            let worker = self.workers.swap_remove(at);
            let number = worker.number;
            worker.crash().await;
            self.gone(number).await;
        } else {
            let calls = self.random.within(0, 12);
            let number = self.workers[at].number;
            self.world.state().crash_in_calls.insert(number, calls);
        }
    }

    /// Workers that were cut off in a call make room for new ones.
    async fn reap(&mut self) -> Result<(), String> {
        while let Some(at) = self.workers.iter().position(Worker::has_ended) {
            let worker = self.workers.swap_remove(at);
            let number = worker.number;
            worker.ended().await?;
            self.gone(number).await;
        }
        Ok(())
    }

    async fn gone(&mut self, number: usize) {
        let session_ends = Instant::now() + Duration::from_millis(self.random.within(0, 800));
        if self.random.chance(500) {
            self.start_worker();
        }
        sleep_until(session_ends).await;
        self.world.leave(number);
        if self.workers.len() < self.workers_max {
            self.start_worker();
        }
    }

    fn outage(&mut self) {
        let until = Some(Instant::now() + Duration::from_millis(self.random.within(100, 5_000)));
        let mut state = self.world.state();
        match self.random.within(0, 4) {
            0 => state.letters_down_until = until,
            1 => state.credentials_wrong = !state.credentials_wrong,
            _ => state.store_down_until = until,
        }
    }

    /// The store is set back to an older copy, ledger and all.
    fn restore(&mut self) {
        let state = &mut *self.world.state();
        let now = (state.store.clone(), state.ledger.clone());
        if let Some((store, ledger)) = self.copy.replace(now) {
            state.store_was_restored = true;
            for (name, at) in &mut state.ledger {
                *at = ledger.get(name).copied().unwrap_or(0);
            }
            state.store = store;
        }
    }
}
