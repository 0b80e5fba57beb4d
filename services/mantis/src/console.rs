//! What the console shows of this process.

use std::sync::{Arc, Mutex, PoisonError};

use mantis_console::{Declared, Irregular, Site, Topic, Worker, WorkerState, letters::KafkaLetters};
use mantis_kafka::ClientConfig;
use mantis_schemas::Series;
use mantis_stores::{
    cache::memory::MemoryCache,
    features::{AnyFeatureReader, FeaturePlace},
    raw::{AnyRawReader, RawPlace},
};
use mantis_telemetry::Role;
use mantis_workers::{features::Watch, sensors::SensorRegistry};

use crate::{
    config::Config,
    jobs,
    report::{PartitionReport, TopicReport, WorkerReport},
    roles::State,
};

/// Everything that `mantis up` runs, as the console sees it.
pub struct Plant {
    state: Arc<State>,
    client: ClientConfig,
    names: Vec<String>,
    raw: Opened<AnyRawReader>,
    features: Opened<AnyFeatureReader>,
    cache: MemoryCache,
    watch: Watch,
    sensors: SensorRegistry,
}

impl Plant {
    /// The stores, and the workers of `state`.
    pub fn new(
        config: &Config,
        site: &jobs::Site,
        state: Arc<State>,
        sensors: SensorRegistry,
        (raw, features): (RawPlace, FeaturePlace),
    ) -> Self {
        Self {
            state,
            client: site.client.clone(),
            names: config.http.names.clone(),
            raw: Opened::new(move || raw.reader().map_err(|error| error.to_string())),
            features: Opened::new(move || features.reader().map_err(|error| error.to_string())),
            cache: site.cache.clone(),
            watch: site.features.clone(),
            sensors,
        }
    }
}

impl Site for Plant {
    type Raw = AnyRawReader;
    type Features = AnyFeatureReader;
    type Cache = MemoryCache;
    type Letters = KafkaLetters;

    fn raw(&self) -> Result<Option<AnyRawReader>, String> {
        self.raw.get()
    }

    fn features(&self) -> Result<Option<AnyFeatureReader>, String> {
        self.features.get()
    }

    fn cache(&self) -> Option<MemoryCache> {
        Some(self.cache.clone())
    }

    fn letters(&self) -> KafkaLetters {
        KafkaLetters(self.client.clone())
    }

    async fn workers(&self) -> Vec<Worker> {
        self.state.reports().await.into_iter().map(worker).collect()
    }

    fn missing(&self) -> Vec<String> {
        self.state.readiness().missing
    }

    fn declared(&self, series: &Series) -> Declared {
        let Some(found) = self.sensors.find(series) else { return Declared::default() };
        // The registry has only what can be used.
        let frames = found.frame_settings().unwrap_or_default();
        Declared { unit: found.unit.clone(), frames, shaft_hz: found.shaft_hz() }
    }

    async fn irregular(&self, series: &Series) -> Option<Irregular> {
        let accounts = self.watch.sensors(Some(&series.asset)).await;
        let found = accounts.into_iter().find(|account| *account.sensor == *series.sensor)?;
        let mantis_workers::features::Irregular { duplicates, conflicts, late } = found.irregular;
        Some(Irregular { duplicates, conflicts, late, misplaced: found.misplaced })
    }

    fn brokers(&self) -> String {
        self.client.brokers.clone()
    }

    fn names(&self) -> Vec<String> {
        self.names.clone()
    }
}

type Open<T> = Box<dyn Fn() -> Result<Option<T>, String> + Send + Sync>;

/// A store that is opened when it is first asked for and there.
struct Opened<T> {
    open: Open<T>,
    reader: Mutex<Option<T>>,
}

impl<T: Clone> Opened<T> {
    fn new(open: impl Fn() -> Result<Option<T>, String> + Send + Sync + 'static) -> Self {
        Self { open: Box::new(open), reader: Mutex::new(None) }
    }

    fn get(&self) -> Result<Option<T>, String> {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.is_none() {
            *reader = (self.open)()?;
        }
        Ok(reader.clone())
    }
}

fn worker(report: WorkerReport) -> Worker {
    let unread = |topic: &TopicReport| -> Vec<(String, String)> {
        let why = |p: &PartitionReport| {
            Some((format!("{}/{}", topic.topic, p.partition), p.reading.strip_prefix("stopped: ")?.to_owned()))
        };
        topic.partitions.iter().filter_map(why).collect()
    };
    let unread: Vec<_> = report.topics.iter().flat_map(unread).collect();
    let displaced = report.displaced.map(|sentence| ("displaced".to_owned(), sentence));
    Worker {
        state: match report.state.as_str() {
            "running" => WorkerState::Running,
            "retrying" => WorkerState::Retrying,
            "paused" => WorkerState::Paused,
            _ => WorkerState::Stopped,
        },
        name: report.name,
        group: report.group,
        since: report.since,
        troubles: report.troubles.into_iter().chain(displaced).chain(unread).collect(),
        last_error: report.last_error.map(|last| (last.error, last.at)),
        last_commit: report.last_commit,
        topics: report.topics.into_iter().map(topic).collect(),
    }
}

fn topic(report: TopicReport) -> Topic {
    Topic {
        lag: report.lag.and_then(|lag| u64::try_from(lag).ok()),
        topic: report.topic,
        rows: report.rows,
        rows_per_s: report.rows_per_s,
        written: report.written,
        duplicates: report.duplicates,
        conflicts: report.conflicts,
        rejected: report.rejected,
        dead_letters: report.dead_letters,
        gap_offsets: report.gap_offsets,
    }
}
