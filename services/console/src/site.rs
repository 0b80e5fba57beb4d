//! What the console is about: the stores, and what only the process that runs the workers knows.

use std::future::Future;

use jiff::Timestamp;
use mantis_schemas::Series;
use mantis_signal::FrameSettings;
use mantis_stores::{cache::Cache, features::FeatureReader, raw::RawReader};

use crate::letters::Letters;

/// Where the console reads. Nothing here waits for long: questions to stores and to Kafka are bounded by the console.
pub trait Site: Send + Sync + 'static {
    /// Reads the raw store.
    type Raw: RawReader + Clone + 'static;
    /// Reads the feature store.
    type Features: FeatureReader + Clone + 'static;
    /// Reads the cache.
    type Cache: Cache + Clone + 'static;
    /// Lists dead letters and sends them again.
    type Letters: Letters + Clone;

    /// The raw store; `None` while nothing was stored yet.
    ///
    /// # Errors
    /// Why it cannot be read, and what to do, as a sentence.
    fn raw(&self) -> Result<Option<Self::Raw>, String>;

    /// The feature store; `None` while nothing was stored yet.
    ///
    /// # Errors
    /// Why it cannot be read, and what to do, as a sentence.
    fn features(&self) -> Result<Option<Self::Features>, String>;

    /// The cache, where this process has one.
    fn cache(&self) -> Option<Self::Cache>;

    /// The dead letters.
    fn letters(&self) -> Self::Letters;

    /// What the workers of this process do now.
    fn workers(&self) -> impl Future<Output = Vec<Worker>> + Send;

    /// What is missing for the process to do its work, a sentence each; what `/health/ready` says.
    fn missing(&self) -> Vec<String>;

    /// What was declared of a sensor.
    fn declared(&self, series: &Series) -> Declared;

    /// What the features worker says of how a sensor's readings come; `None` where this process has no account of it.
    fn irregular(&self, series: &Series) -> impl Future<Output = Option<Irregular>> + Send;

    /// `host:port` at which gateways reach the broker.
    fn brokers(&self) -> String;

    /// Names under which browsers reach the console besides `localhost` and plain addresses, without port. Under others its
    /// pages do not answer.
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// What was declared of a sensor.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// Unit of its values (UCUM).
    pub unit: Option<String>,
    /// What the figures of its frames need to know.
    pub frames: FrameSettings,
    /// Turns of the shaft per second.
    pub shaft_hz: Option<f64>,
}

/// Readings of a sensor that did not come once, in time and where they belong; since the worker's state began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Irregular {
    /// Those that were there already.
    pub duplicates: u64,
    /// Those that replaced another value of the same time.
    pub conflicts: u64,
    /// Those that came too late for any window.
    pub late: u64,
    /// True if the asset's records come on another partition than its key says.
    pub misplaced: bool,
}

/// A worker at one moment.
#[derive(Clone, Debug)]
pub struct Worker {
    /// Its name, as `mantis worker` takes it.
    pub name: String,
    /// Its consumer group.
    pub group: String,
    /// What it does.
    pub state: WorkerState,
    /// Since when.
    pub since: Timestamp,
    /// What fails now: the place, and the error.
    pub troubles: Vec<(String, String)>,
    /// The last error, also after it has passed.
    pub last_error: Option<(String, Timestamp)>,
    /// When the group last took a commit.
    pub last_commit: Option<Timestamp>,
    /// Its topics.
    pub topics: Vec<Topic>,
}

/// What a worker does, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WorkerState {
    /// Everything that comes is written.
    Running,
    /// Something fails and is tried again.
    Retrying,
    /// Credentials or rights are refused; tried again slowly.
    Paused,
    /// It has ended.
    Stopped,
}

impl WorkerState {
    /// A word for people, which is also the class of its mark.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }

    /// What people can do about it.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Running => "Nothing to do.",
            Self::Retrying => {
                "Nothing is lost: what was not written stays in Kafka and is tried again. Mend what the error names; the worker goes on by itself."
            }
            Self::Paused => {
                "Nothing is lost. Credentials or rights are refused: mend them in mantis.toml or on the server; it is tried again once in a while."
            }
            Self::Stopped => {
                "Nothing is lost: what was not committed is read again. Mend what the error names, then start the process again."
            }
        }
    }
}

/// A topic as its worker sees it. Counts are since the start of the process.
#[derive(Clone, Debug, Default)]
pub struct Topic {
    /// Its name.
    pub topic: String,
    /// Records in the log that the worker has not finished; `None` while Kafka does not say.
    pub lag: Option<u64>,
    /// Rows that ended.
    pub rows: u64,
    /// Rows that ended per second, over the last seconds.
    pub rows_per_s: f64,
    /// Rows that were new to the store.
    pub written: u64,
    /// Rows that the store had already.
    pub duplicates: u64,
    /// Rows that replaced another value.
    pub conflicts: u64,
    /// Rows that were refused.
    pub rejected: u64,
    /// Records that have a dead letter.
    pub dead_letters: u64,
    /// Offsets that retention removed before they were read.
    pub gap_offsets: u64,
}
