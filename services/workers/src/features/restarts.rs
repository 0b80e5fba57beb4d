//! What ends anywhere, starts again, or goes on although it was thought dead: the rows that a store keeps are those of an
//! undisturbed run.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use mantis_pipeline::{Assigned, Fault, Outcome, Part, Sink, Span, Start, Status, TopicPartition};
use mantis_schemas::{Feature, Quality, ReadingColumns, SeriesInterner, topics};
use mantis_stores::raw::RawColumns;
use proptest::prelude::*;

use super::{
    FeatureConfig,
    decode::FeatureInput,
    emit::{Emission, Emitter},
    frames::FrameWindows,
    owned::Owned,
    sink::FeatureSink,
    state_log::{StateLog, StateRecord},
    state_topic::StateTopic,
};
use crate::sensors::SensorRegistry;

const S: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * S;
const PARTITIONS: usize = 2;
/// Small enough for a snapshot to take many records.
const CHUNK_BYTES: usize = 16;

/// A compacted topic in memory.
#[derive(Clone)]
struct FakeLog(Arc<Mutex<Inner>>);

struct Inner {
    partitions: Vec<BTreeMap<i64, (String, Vec<u8>)>>,
    ends: Vec<i64>,
    /// Records that are taken before the next append fails.
    room: usize,
}

impl FakeLog {
    fn new(partitions: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            partitions: vec![BTreeMap::new(); partitions],
            ends: vec![0; partitions],
            room: usize::MAX,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Leaves the last record of each key.
    fn compact(&self, partition: usize) {
        let mut inner = self.lock();
        let records = &mut inner.partitions[partition];
        let last: BTreeMap<String, i64> = records.iter().map(|(offset, (key, _))| (key.clone(), *offset)).collect();
        records.retain(|offset, (key, _)| last[key] == *offset);
    }
}

impl StateLog for FakeLog {
    async fn source_partitions(&self) -> Result<usize, Fault> {
        Ok(self.lock().partitions.len())
    }

    async fn bounds(&self, partition: i32) -> Result<(i64, i64), Fault> {
        Ok((0, self.lock().ends[partition as usize]))
    }

    async fn read(
        &self,
        partition: i32,
        from: i64,
        to: i64,
        mut take: impl FnMut(StateRecord<'_>) -> Result<(), Fault> + Send,
    ) -> Result<(), Fault> {
        let records = self.lock().partitions[partition as usize].clone();
        for (offset, (key, payload)) in records.range(from..to) {
            take(StateRecord { offset: *offset, written_ms: 1, key: key.as_bytes(), payload })?;
        }
        Ok(())
    }

    async fn append(&self, partition: i32, records: Vec<(String, Vec<u8>)>) -> Result<Option<i64>, Fault> {
        let mut inner = self.lock();
        let mut first = None;
        for record in records {
            if inner.room == 0 {
                inner.room = usize::MAX;
                return Err(Fault::retry("the worker was cut off"));
            }
            inner.room -= 1;
            let offset = inner.ends[partition as usize];
            inner.partitions[partition as usize].insert(offset, record);
            inner.ends[partition as usize] += 1;
            first = first.or(Some(offset));
        }
        Ok(first)
    }
}

/// A reading: sensor, time, value, quality.
type Reading = (u32, i64, f64, Quality);

fn place(partition: usize) -> TopicPartition {
    TopicPartition::new(topics::READINGS, partition as i32)
}

/// A process.
struct Worker {
    sink: FeatureSink<FakeLog>,
    /// Where it goes on reading, of the partitions that it believes to own.
    at: [Option<i64>; PARTITIONS],
}

impl Worker {
    async fn new(log: FakeLog, config: &FeatureConfig, cluster: &str) -> Self {
        let mut series = SeriesInterner::new(100);
        for sensor in 0..6 {
            series.intern("press", &format!("s{sensor}")).unwrap();
        }
        let sink = FeatureSink {
            config: config.clone(),
            series: series.table(),
            snapshots: StateTopic::with_chunks(log, cluster.into(), CHUNK_BYTES).await.unwrap(),
            emitter: Arc::new(Emitter::default()),
            frames: Arc::new(Mutex::new(FrameWindows::new(SensorRegistry::default()))),
            owned: Arc::new(Owned::new(usize::MAX)),
            status: Arc::new(Status::default()),
        };
        Self { sink, at: [None; PARTITIONS] }
    }

    /// Gets the partition, whose log begins at `log_start`; returns where it goes on.
    async fn start(&mut self, partition: usize, committed: Option<i64>, log_start: i64) -> Result<i64, Fault> {
        let assigned = Assigned { partition: place(partition), committed, log_start, log_end: i64::MAX };
        let starts = self.sink.start(&[assigned]).await?;
        let [Start::At(at)] = starts[..] else { panic!("{starts:?}") };
        self.at[partition] = Some(at);
        Ok(at)
    }
}

/// The log, the topics and the stores, and the processes that work on them.
struct World {
    config: FeatureConfig,
    /// Of each partition the readings of each record.
    log: [Vec<Vec<Reading>>; PARTITIONS],
    state: FakeLog,
    workers: Vec<Worker>,
    /// By partition, the worker whom the group knows as its owner.
    owner: [usize; PARTITIONS],
    committed: [Option<i64>; PARTITIONS],
    compacted: [bool; PARTITIONS],
    kept: BTreeMap<(String, i64, i64), Feature>,
    letters: BTreeSet<(usize, i64, usize)>,
}

impl World {
    async fn new(config: FeatureConfig, log: [Vec<Vec<Reading>>; PARTITIONS]) -> Self {
        let state = FakeLog::new(PARTITIONS);
        let mut world = Self {
            workers: vec![Worker::new(state.clone(), &config, "here").await],
            config,
            log,
            state,
            owner: [0; PARTITIONS],
            committed: [None; PARTITIONS],
            compacted: [false; PARTITIONS],
            kept: BTreeMap::new(),
            letters: BTreeSet::new(),
        };
        for partition in 0..PARTITIONS {
            world.workers[0].start(partition, None, 0).await.unwrap();
        }
        world
    }

    /// What a feature store does with rows: the one with the higher rank stays.
    fn keep(&mut self, emitted: Vec<Emission>) {
        for Emission { series, row, .. } in emitted {
            let key = (series.sensor.to_string(), row.window_ns, row.start_ns);
            match self.kept.get(&key) {
                Some(before) if before.rank() >= row.rank() => {}
                _ => drop(self.kept.insert(key, row)),
            }
        }
    }

    fn acknowledge(&mut self, worker: usize, rows: usize) {
        let emitted = self.workers[worker].sink.emitter.acknowledge(rows);
        self.keep(emitted);
    }

    /// Writes up to `records` records; where `settles` is false the batch never ends: its dead letters are not written.
    async fn take(&mut self, worker: usize, partition: usize, records: usize, settles: bool) {
        let Some(from) = self.workers[worker].at[partition] else { return };
        let next = (from + records as i64).min(self.log[partition].len() as i64);
        if from == next {
            return;
        }
        let (mut readings, mut offsets) = (ReadingColumns::default(), Vec::new());
        for offset in from..next {
            for (sensor, time_ns, value, quality) in &self.log[partition][offset as usize] {
                readings.series.push(mantis_schemas::SeriesId(*sensor));
                readings.time_ns.push(*time_ns);
                readings.value.push(*value);
                readings.quality.push(*quality);
                readings.arrival_ms.push(0);
                offsets.push(offset);
            }
        }
        let spans = [Span { partition: place(partition), from, next }];
        let rows = 0..offsets.len();
        let first = |offset: i64| offsets.iter().position(|found| *found == offset).unwrap();
        let columns = FeatureInput { rows: RawColumns::Readings(readings), offsets: offsets.clone(), traces: Vec::new() };
        let part = Part { columns: &columns, rows, spans: &spans, last: true };
        match self.workers[worker].sink.write(part).await.unwrap() {
            Outcome::Moved(moved) => self.workers[worker].at[partition] = Some(moved[0].1),
            Outcome::Ended { rejected, advanced, .. } => {
                assert_eq!(advanced, rejected.is_empty());
                if !rejected.is_empty() {
                    if !settles {
                        return;
                    }
                    let places = rejected.iter().map(|(row, _)| (partition, offsets[*row], row - first(offsets[*row])));
                    self.letters.extend(places);
                    assert_eq!(self.workers[worker].sink.advance(&spans).await, Ok(None));
                }
                self.workers[worker].at[partition] = Some(next);
            }
            Outcome::Refused(reason) => panic!("{reason:?}"),
        }
    }

    async fn idle(&mut self, worker: usize) {
        for held in self.workers[worker].sink.owned.all() {
            self.workers[worker].sink.look_after(&held).await.unwrap();
        }
    }

    async fn snapshot(&mut self, worker: usize, partition: usize, acknowledged: bool, room: usize) {
        if acknowledged {
            self.acknowledge(worker, usize::MAX);
        }
        let Some(held) = self.workers[worker].sink.owned.find(&place(partition)) else { return };
        let before = self.state.lock().ends[partition];
        let missing = self.workers[worker].sink.emitter.rows() < held.progress.lock().await.emitted;
        self.state.lock().room = room;
        let written = self.workers[worker].sink.flush(&[place(partition)]).await;
        self.state.lock().room = usize::MAX;
        if missing {
            assert_eq!(self.state.lock().ends[partition], before, "a snapshot covers rows that no store has");
        }
        if written.is_ok() && self.owner[partition] == worker {
            self.committed[partition] = self.committed[partition].max(Some(held.durable()));
        }
    }

    /// The owner ends, or is only thought to have; another worker gets its partition.
    async fn replace(&mut self, partition: usize, dead: bool, rows: usize) {
        let before = self.owner[partition];
        if dead {
            self.acknowledge(before, rows);
            self.workers[before].at = [None; PARTITIONS];
        }
        self.workers.push(Worker::new(self.state.clone(), &self.config, "here").await);
        let new = self.workers.len() - 1;
        let owned = self.owner;
        for partition in (0..PARTITIONS).filter(|other| *other == partition || dead && owned[*other] == before) {
            let committed = self.committed[partition];
            let at = self.workers[new].start(partition, committed, 0).await.unwrap();
            if !self.compacted[partition] {
                assert!(at >= committed.unwrap_or(0), "it begins at {at} though a snapshot lies at {committed:?}");
            }
            self.owner[partition] = new;
        }
    }

    async fn finish(&mut self) {
        for partition in 0..PARTITIONS {
            let owner = self.owner[partition];
            while self.workers[owner].at[partition].is_some_and(|at| at < self.log[partition].len() as i64) {
                self.take(owner, partition, 3, true).await;
            }
            self.idle(owner).await;
        }
        for worker in 0..self.workers.len() {
            if self.workers[worker].at.iter().any(Option::is_some) {
                self.acknowledge(worker, usize::MAX);
            }
        }
    }

    /// The rows without what may differ between runs.
    fn rows(&self) -> BTreeMap<(String, i64, i64), Feature> {
        let same = |row: &Feature| Feature { processed_ms: 0, ..row.clone() };
        self.kept.iter().map(|(key, row)| (key.clone(), same(row))).collect()
    }
}

/// What happens next. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Step {
    Take { worker: usize, partition: usize, records: usize, settles: bool },
    Idle { worker: usize },
    Acknowledge { worker: usize, rows: usize },
    Snapshot { worker: usize, partition: usize, acknowledged: bool, room: usize },
    Replace { partition: usize, dead: bool, rows: usize },
    Compact { partition: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let (worker, partition) = (0..9_usize, 0..PARTITIONS);
    prop_oneof![
        8 => (worker.clone(), partition.clone(), 1..6_usize, prop::bool::weighted(0.8))
            .prop_map(|(worker, partition, records, settles)| Step::Take { worker, partition, records, settles }),
        2 => worker.clone().prop_map(|worker| Step::Idle { worker }),
        2 => (worker.clone(), 0..9_usize).prop_map(|(worker, rows)| Step::Acknowledge { worker, rows }),
        4 => (worker, partition.clone(), prop::bool::weighted(0.8), prop_oneof![3 => Just(usize::MAX), 1 => 0..20_usize])
            .prop_map(|(worker, partition, acknowledged, room)| Step::Snapshot { worker, partition, acknowledged, room }),
        2 => (partition.clone(), any::<bool>(), 0..9_usize)
            .prop_map(|(partition, dead, rows)| Step::Replace { partition, dead, rows }),
        1 => partition.prop_map(|partition| Step::Compact { partition }),
    ]
}

fn log_of(partition: u32) -> impl Strategy<Value = Vec<Vec<Reading>>> {
    let quality = prop_oneof![8 => Just(Quality::Good), 1 => Just(Quality::Uncertain), 1 => Just(Quality::Bad)];
    // Time goes on by some seconds a record; a reading lies up to five minutes behind, so some are too late.
    let behind = prop_oneof![3 => 0..10_i64, 1 => 0..300_i64];
    let record = prop::collection::vec((0..3_u32, behind, -5..5_i32, quality), 1..4);
    prop::collection::vec((1..20_i64, record), 1..40).prop_map(move |records| {
        let mut now = DAY;
        let mut log = Vec::new();
        for (seconds, readings) in records {
            now += seconds * S;
            let reading =
                |(sensor, behind, value, quality)| (partition * 3 + sensor, now - behind * S, f64::from(value), quality);
            log.push(readings.into_iter().map(reading).collect());
        }
        log
    })
}

/// Few samples, so that their bound is met too.
fn config() -> FeatureConfig {
    FeatureConfig {
        samples_max: 8,
        idle: Duration::ZERO,
        snapshot_interval: Duration::from_secs(3_600),
        ..FeatureConfig::default()
    }
}

async fn run(log: [Vec<Vec<Reading>>; PARTITIONS], steps: Vec<Step>) -> World {
    let mut world = World::new(config(), log).await;
    for step in steps {
        let workers = world.workers.len();
        match step {
            Step::Take { worker, partition, records, settles } => {
                world.take(worker % workers, partition, records, settles).await;
            }
            Step::Idle { worker } => world.idle(worker % workers).await,
            Step::Acknowledge { worker, rows } => world.acknowledge(worker % workers, rows),
            Step::Snapshot { worker, partition, acknowledged, room } => {
                world.snapshot(worker % workers, partition, acknowledged, room).await;
            }
            Step::Replace { partition, dead, rows } => world.replace(partition, dead, rows).await,
            Step::Compact { partition } => {
                world.state.compact(partition);
                world.compacted[partition] = true;
            }
        }
    }
    world.finish().await;
    world
}

/// Waits pass at once.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(work)
}

proptest! {
    #[test]
    fn restarts_zombies_torn_and_old_snapshots_change_no_row_and_no_letter(
        first in log_of(0),
        second in log_of(1),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let log = [first, second];
        let undisturbed = block_on(run(log.clone(), Vec::new()));
        let disturbed = block_on(run(log, steps));
        prop_assert_eq!(disturbed.rows(), undisturbed.rows());
        prop_assert_eq!(disturbed.letters, undisturbed.letters);
    }
}

/// Twenty readings of a sensor, a second apart, a record each.
fn twenty() -> [Vec<Vec<Reading>>; PARTITIONS] {
    [(0..20).map(|second| vec![(0, DAY + second * S, 1.0, Quality::Good)]).collect(), Vec::new()]
}

async fn at_a_snapshot_of_ten_records() -> World {
    let mut world = World::new(config(), twenty()).await;
    world.take(0, 0, 10, true).await;
    world.snapshot(0, 0, true, usize::MAX).await;
    assert_eq!(world.committed[0], Some(10));
    world
}

fn fatal<T: std::fmt::Debug>(result: Result<T, Fault>) -> String {
    match result {
        Err(Fault::Fatal { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_begins_at_the_snapshot_that_was_promised_however_much_a_zombie_wrote_behind_it() {
    block_on(async {
        let mut world = World::new(config(), twenty()).await;
        world.take(0, 0, 5, true).await;
        world.replace(0, false, 0).await;
        world.take(1, 0, 10, true).await;
        world.snapshot(1, 0, true, usize::MAX).await;
        for _ in 0..40 {
            // The zombie's snapshots: each takes records, and all of them lie behind the owner's.
            world.workers[0].sink.owned.find(&place(0)).unwrap().progress.lock().await.next = 5;
            world.take(0, 0, 1, true).await;
            world.snapshot(0, 0, true, usize::MAX).await;
        }
        let mut next = Worker::new(world.state.clone(), &config(), "here").await;
        assert_eq!(next.start(0, world.committed[0], 0).await, Ok(10));
    });
}

#[test]
fn a_state_without_the_records_behind_it_stops_the_worker() {
    block_on(async {
        let world = at_a_snapshot_of_ten_records().await;
        let mut next = Worker::new(world.state.clone(), &config(), "here").await;
        let reason = fatal(next.start(0, Some(10), 12).await);
        assert!(reason.contains("the records of mantis.readings/0 from 10 to 12 are gone"), "{reason}");
        assert_eq!(next.start(0, Some(10), 10).await, Ok(10), "the first record that is needed is there");
    });
}

#[test]
fn a_state_that_is_gone_stops_the_worker_unless_the_log_has_everything() {
    block_on(async {
        let mut next = Worker::new(FakeLog::new(PARTITIONS), &config(), "here").await;
        let reason = fatal(next.start(0, Some(10), 4).await);
        assert!(reason.contains("there is no state of mantis.readings/0") && reason.contains("before 4 are gone"), "{reason}");
        assert_eq!(next.start(0, Some(10), 0).await, Ok(0), "everything is computed anew");
        assert_eq!(next.start(1, None, 4).await, Ok(4), "the group never read this log");
    });
}

#[test]
fn a_state_of_another_cluster_is_none() {
    block_on(async {
        let world = at_a_snapshot_of_ten_records().await;
        let mut elsewhere = Worker::new(world.state.clone(), &config(), "elsewhere").await;
        assert_eq!(elsewhere.start(0, None, 0).await, Ok(0));
    });
}

#[test]
fn another_number_of_partitions_stops_the_worker() {
    block_on(async {
        let world = at_a_snapshot_of_ten_records().await;
        world.state.lock().partitions.push(BTreeMap::new());
        world.state.lock().ends.push(0);
        let assigned = Assigned { partition: place(1), committed: None, log_start: 0, log_end: 0 };
        let reason = fatal(world.workers[0].sink.start(&[assigned]).await);
        assert!(reason.contains("has 3 partitions and had 2 when this worker started"), "{reason}");
        let mut next = Worker::new(world.state.clone(), &config(), "here").await;
        let reason = fatal(next.start(0, Some(10), 0).await);
        assert!(reason.contains("had 2 partitions when its state was written and has 3 now"), "{reason}");
    });
}

#[test]
fn records_that_were_removed_before_they_were_read_stop_the_worker_and_those_of_waveforms_do_not() {
    block_on(async {
        let world = at_a_snapshot_of_ten_records().await;
        let gap = |partition| world.workers[0].sink.gap(&Span { partition, from: 10, next: 12 });
        let reason = fatal(gap(place(0)));
        assert!(reason.contains("mantis.readings/0 from 10 to 12 were removed before they could be read"), "{reason}");
        assert_eq!(gap(TopicPartition::new(topics::WAVEFORMS, 0)), Ok(()));
    });
}
