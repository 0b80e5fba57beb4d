//! What a worker tells of itself on `/status`, and how `mantis status` and the live view of `mantis up` show it.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    io::{self, Write},
    sync::{Arc, Mutex, OnceLock},
    time::{Instant, SystemTime},
};

use jiff::Timestamp;
use mantis_pipeline::{Snapshot, State, Status, TopicPartition};
use mantis_workers::features::{StateAccount, StateSize};
use serde::{Deserialize, Serialize};

use crate::output::{grouped, table};

/// Seconds over which rates are taken.
const RATE_SAMPLES: usize = 10;

/// A worker at one moment.
#[derive(Debug, Serialize, Deserialize)]
pub struct WorkerReport {
    pub name: String,
    pub group: String,
    pub state: String,
    pub since: Timestamp,
    /// What fails now, by place.
    pub troubles: BTreeMap<String, String>,
    /// What another member of the group has taken from it, as a sentence.
    #[serde(default)]
    pub displaced: Option<String>,
    pub last_error: Option<ErrorReport>,
    pub last_commit: Option<Timestamp>,
    pub held_bytes: usize,
    /// Of the features worker: what it holds of sensors, and where it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_state: Option<StateAccount>,
    pub topics: Vec<TopicReport>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorReport {
    pub error: String,
    pub at: Timestamp,
}

/// A topic as its worker sees it. Counts are since the start of the process.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct TopicReport {
    pub topic: String,
    /// Records in the log that the worker has not finished; absent while Kafka does not say.
    pub lag: Option<i64>,
    pub records: u64,
    pub rows: u64,
    pub rows_in_flight: u64,
    pub rows_per_s: f64,
    pub written: u64,
    pub duplicates: u64,
    pub conflicts: u64,
    pub rejected: u64,
    pub dead_letters: u64,
    /// Offsets that retention removed before they were read.
    pub gap_offsets: u64,
    pub partitions: Vec<PartitionReport>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct PartitionReport {
    pub partition: i32,
    pub reading: String,
    pub done: Option<i64>,
    pub committed: Option<i64>,
    pub lag: Option<i64>,
}

/// Rows that ended, by topic.
type RowsByTopic = HashMap<Arc<str>, u64>;

/// A running worker, watched.
#[derive(Debug)]
pub struct Watched {
    pub name: &'static str,
    pub group: &'static str,
    pub status: Arc<Status>,
    /// All members of the group write to one place, so that it does not matter who has which partition.
    shared: bool,
    /// Why the worker has ended by itself, also where it never came to its road.
    ended: OnceLock<String>,
    samples: Mutex<VecDeque<(Instant, RowsByTopic)>>,
}

impl Watched {
    /// Begins to watch.
    pub fn new(name: &'static str, group: &'static str, shared: bool, status: Arc<Status>) -> Self {
        Self { name, group, shared, status, ended: OnceLock::new(), samples: Mutex::default() }
    }

    /// Notes that the worker has ended by itself.
    pub fn ended(&self, why: String) {
        // The first reason is the one that counts.
        let _ = self.ended.set(why);
    }

    /// What it is doing, also where it ended before or beside its road.
    pub fn state(&self, snapshot: &Snapshot) -> State {
        if self.ended.get().is_some() { State::Stopped } else { snapshot.state }
    }

    /// Takes a sample for the rates; once a second.
    pub fn sample(&self) {
        let rows = self.status.snapshot().topics.into_iter().map(|(topic, t)| (topic, stored(&t))).collect();
        let mut samples = self.samples.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        samples.push_back((Instant::now(), rows));
        if samples.len() > RATE_SAMPLES {
            samples.pop_front();
        }
    }

    /// The partitions that were ever assigned to the worker.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        let snapshot = self.status.snapshot();
        let of_topic = |(topic, t): (&Arc<str>, &mantis_pipeline::TopicStatus)| -> Vec<_> {
            t.partitions.keys().map(|number| TopicPartition::new(topic.clone(), *number)).collect()
        };
        snapshot.topics.iter().flat_map(of_topic).collect()
    }

    /// Whether the group has given this worker partitions and all of them are read; what is missing if not.
    pub fn missing(&self) -> Option<String> {
        if let Some(why) = self.ended.get() {
            return Some(format!("the {} worker has stopped: {why}", self.name));
        }
        let snapshot = self.status.snapshot();
        let named =
            || snapshot.topics.iter().flat_map(|(topic, t)| t.partitions.iter().map(move |(number, p)| (topic, number, p)));
        let partitions = || named().map(|(_, _, partition)| partition);
        let stopped = named().find_map(|(topic, number, p)| match &p.reading {
            mantis_pipeline::Reading::Stopped(why) => Some(format!("{topic}/{number}: {why}")),
            _ => None,
        });
        let reading = partitions().any(|p| p.reading == mantis_pipeline::Reading::Reading);
        let starting = partitions().any(|p| p.reading == mantis_pipeline::Reading::Starting);
        if let Some(why) = stopped {
            return Some(format!("the {} worker does not read {why}", self.name));
        }
        if let Some(trouble) = snapshot.troubles.values().next() {
            return Some(format!("the {} worker is {}: {}", self.name, snapshot.state.name(), trouble.error));
        }
        // A member that others have taken everything from stands by.
        let stands_by = self.shared && taken(&snapshot) > 0;
        let none = || (starting || !(reading || stands_by)).then(|| format!("the {} worker has no partitions yet", self.name));
        self.displaced(&snapshot).or_else(none)
    }

    /// What another member of the group has taken from this worker, if anything.
    fn displaced(&self, snapshot: &Snapshot) -> Option<String> {
        let taken = taken(snapshot);
        let (name, group) = (self.name, self.group);
        (taken > 0 && !self.shared).then(|| {
            format!(
                "another member of the group {group} has {taken} partitions of the {name} worker: what they bring goes to its store"
            )
        })
    }

    /// The report; `log_ends` are the ends of the log where they are known.
    pub fn report(&self, log_ends: &HashMap<TopicPartition, i64>) -> WorkerReport {
        let snapshot = self.status.snapshot();
        let rates = self.rates(&snapshot);
        let topics = snapshot
            .topics
            .iter()
            .map(|(topic, t)| {
                let partitions: Vec<_> = t
                    .partitions
                    .iter()
                    .map(|(number, p)| {
                        let end = log_ends.get(&TopicPartition::new(topic.clone(), *number));
                        PartitionReport {
                            partition: *number,
                            reading: reading_name(&p.reading),
                            done: p.done,
                            committed: p.committed,
                            lag: end.zip(p.done).map(|(end, done)| (end - done).max(0)),
                        }
                    })
                    .collect();
                let sum = |count: fn(&mantis_pipeline::PartitionStatus) -> u64| t.partitions.values().map(count).sum();
                TopicReport {
                    topic: topic.to_string(),
                    lag: partitions.iter().map(|p| p.lag).sum(),
                    records: sum(|p| p.records_ended),
                    rows: sum(|p| p.rows_stored + p.rows_rejected),
                    rows_in_flight: sum(|p| p.rows_in_flight),
                    rows_per_s: rates.get(topic).copied().unwrap_or(0.0),
                    written: t.written,
                    duplicates: t.duplicates,
                    conflicts: t.conflicts,
                    rejected: sum(|p| p.rows_rejected),
                    dead_letters: sum(|p| p.dead_letters),
                    gap_offsets: sum(|p| p.gap_offsets),
                    partitions,
                }
            })
            .collect();
        let mut troubles: BTreeMap<_, _> =
            snapshot.troubles.iter().map(|(place, trouble)| (place.clone(), trouble.error.clone())).collect();
        troubles.extend(self.ended.get().map(|why| ("stopped".to_owned(), why.clone())));
        WorkerReport {
            name: self.name.to_owned(),
            group: self.group.to_owned(),
            state: self.state(&snapshot).name().to_owned(),
            since: timestamp(snapshot.since),
            troubles,
            displaced: self.displaced(&snapshot).filter(|_| self.ended.get().is_none()),
            last_error: snapshot.last_error.clone().map(|(error, at)| ErrorReport { error, at: timestamp(at) }),
            last_commit: snapshot.last_commit.map(timestamp),
            held_bytes: snapshot.held_bytes,
            feature_state: None,
            topics,
        }
    }

    fn rates(&self, now: &Snapshot) -> HashMap<Arc<str>, f64> {
        let samples = self.samples.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Some((since, before)) = samples.front() else { return HashMap::new() };
        let seconds = since.elapsed().as_secs_f64().max(1e-3);
        let rate = |(topic, t): (&Arc<str>, &mantis_pipeline::TopicStatus)| {
            let rows = stored(t).saturating_sub(before.get(topic).copied().unwrap_or(0));
            (topic.clone(), rows as f64 / seconds)
        };
        now.topics.iter().map(rate).collect()
    }
}

/// A table of what arrives where, one line per topic.
pub fn show(workers: &[WorkerReport], out: &mut impl Write) -> io::Result<()> {
    let header = ["worker     topic", "rows", "rows/s", "written", "duplicate", "conflict", "rejected", "dead letters", "lag"];
    let mut rows = Vec::new();
    for worker in workers {
        for t in &worker.topics {
            let lag = t.lag.map_or_else(|| "?".into(), |lag| grouped(lag.unsigned_abs()));
            let counts = [t.rows, t.rows_per_s as u64, t.written, t.duplicates, t.conflicts, t.rejected, t.dead_letters];
            let name = format!("{:<9}  {}", worker.name, t.topic);
            rows.push(std::iter::once(name).chain(counts.map(grouped)).chain([lag]).collect());
        }
    }
    table(out, &header, &rows)?;
    for worker in workers {
        if let Some(state) = worker.feature_state.as_ref().filter(|state| state.size.sensors > 0) {
            show_state(state, out)?;
        }
        if worker.state != "running" {
            writeln!(out, "{} is {} since {}", worker.name, worker.state, seconds(worker.since))?;
        }
        for (place, error) in &worker.troubles {
            writeln!(out, "  {place}: {error}")?;
        }
        if let Some(displaced) = &worker.displaced {
            writeln!(out, "  {displaced}")?;
        }
        if let (true, Some(last)) = (worker.troubles.is_empty(), &worker.last_error) {
            writeln!(out, "{}: last error, now passed, {}: {}", worker.name, seconds(last.at), last.error)?;
        }
        for topic in worker.topics.iter().filter(|topic| topic.gap_offsets > 0) {
            writeln!(out, "  {}: {} offsets were removed from the log before they were read", topic.topic, topic.gap_offsets)?;
        }
        for (topic, p) in worker.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (&t.topic, p))) {
            if let Some(why) = p.reading.strip_prefix("stopped: ") {
                writeln!(out, "  {topic}/{} is not read: {why}", p.partition)?;
            }
        }
    }
    Ok(())
}

fn show_state(state: &StateAccount, out: &mut impl Write) -> io::Result<()> {
    let StateSize { sensors, open_windows, samples, bytes } = state.size;
    let [sensors, windows, samples] = [sensors, open_windows, samples].map(|count| grouped(count as u64));
    let [held, most] = [bytes, state.bytes_max].map(|bytes| grouped((bytes / 1_000_000) as u64));
    let newest = state.snapshots.iter().filter_map(|snapshot| Timestamp::from_millisecond(snapshot.written_ms).ok()).max();
    let kept = newest.map_or_else(|| "no snapshot yet".into(), |at| format!("newest snapshot {}", seconds(at)));
    writeln!(out, "features holds {sensors} sensors, {windows} open windows, {samples} samples: {held} of {most} MB; {kept}")
}

/// Partitions that were this worker's and are another member's now.
fn taken(snapshot: &Snapshot) -> usize {
    let partitions = snapshot.topics.values().flat_map(|topic| topic.partitions.values());
    partitions.filter(|p| p.reading == mantis_pipeline::Reading::NotOwned).count()
}

fn stored(topic: &mantis_pipeline::TopicStatus) -> u64 {
    topic.partitions.values().map(|p| p.rows_stored + p.rows_rejected).sum()
}

fn reading_name(reading: &mantis_pipeline::Reading) -> String {
    match reading {
        mantis_pipeline::Reading::NotOwned => "not owned".into(),
        mantis_pipeline::Reading::Starting => "starting".into(),
        mantis_pipeline::Reading::Reading => "reading".into(),
        mantis_pipeline::Reading::Stopped(why) => format!("stopped: {why}"),
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The time without the fractions that nobody reads.
pub fn seconds(time: Timestamp) -> String {
    time.round(jiff::Unit::Second).unwrap_or(time).to_string()
}
