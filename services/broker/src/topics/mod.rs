//! The topics of the broker: their names, ids, settings and partitions, and the files that keep them.
//!
//! `topics/<id>/topic.json` names a topic, `topics/<id>/<partition>/` is a partition's log. A topic is made in
//! `<id>.creating` and renamed when it is whole, and renamed to `<id>.deleted` before its files go, so that a crash leaves it
//! whole or not at all.

mod partition;
mod settings;

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, RwLock},
};

use kafka_protocol::ResponseError;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use partition::{Offsets, Partition, Written};
pub(crate) use settings::Setting;
pub use settings::{SettingError, TopicSettings};

use crate::{
    Error, Limits, disk,
    sync::{lock, read, write},
};

/// Kafka's bound on the length of a topic's name.
const NAME_BYTES_MAX: usize = 249;

/// All topics.
#[derive(Debug)]
pub(crate) struct Topics {
    dir: PathBuf,
    defaults: TopicSettings,
    limits: Limits,
    index: RwLock<Index>,
    /// Held while topics are made, changed or deleted; never while records flow.
    changing: Mutex<()>,
}

#[derive(Debug, Default)]
struct Index {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

/// A topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: Uuid,
    dir: PathBuf,
    current: RwLock<Current>,
}

/// What may change in a topic.
#[derive(Debug, Clone)]
struct Current {
    overrides: Arc<BTreeMap<String, String>>,
    settings: Arc<TopicSettings>,
    partitions: Arc<[Arc<Partition>]>,
}

/// `topic.json`. The folder's name is the topic's id.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    name: String,
    partitions: i32,
    settings: BTreeMap<String, String>,
}

/// A refused change: the code for the client and words for its user.
pub(crate) type Refusal = (ResponseError, String);

impl Topics {
    /// Opens all topics in `dir` and clears away what a crash left half made or half deleted. Blocks.
    pub(crate) fn open(dir: PathBuf, defaults: TopicSettings, limits: Limits, now_ms: i64) -> Result<Topics, Error> {
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let mut index = Index::default();
        for entry in fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let path = entry.map_err(Error::io("list", &dir))?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("creating" | "deleted") => fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?,
                _ => index.insert(Arc::new(Topic::open(path, &defaults, now_ms)?)),
            }
        }
        Ok(Topics { dir, defaults, limits, index: RwLock::new(index), changing: Mutex::new(()) })
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Topic>> {
        read(&self.index).by_name.get(name).cloned()
    }

    pub(crate) fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        read(&self.index).by_id.get(&id).cloned()
    }

    /// All topics, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        read(&self.index).by_name.values().cloned().collect()
    }

    /// Settings of a topic that overrides none.
    pub(crate) fn defaults(&self) -> &TopicSettings {
        &self.defaults
    }

    /// Makes a topic, durably; with `validate_only` it only says whether it would. Blocks.
    pub(crate) fn create(
        &self,
        name: &str,
        partitions: i32,
        overrides: BTreeMap<String, String>,
        validate_only: bool,
        now_ms: i64,
    ) -> Result<Option<Arc<Topic>>, Refusal> {
        let _changing = lock(&self.changing);
        check_name(name)?;
        if self.by_name(name).is_some() {
            return Err((ResponseError::TopicAlreadyExists, format!("topic {name} exists already")));
        }
        if read(&self.index).by_name.len() >= self.limits.topics_max {
            let message = format!("there are {} topics already, the most that are allowed", self.limits.topics_max);
            return Err((ResponseError::PolicyViolation, message));
        }
        self.check_partitions(partitions, partitions)?;
        let settings = TopicSettings::with(&self.defaults, &overrides).map_err(invalid_config)?;
        if validate_only {
            return Ok(None);
        }
        let made = self.make(Stored { name: name.into(), partitions, settings: overrides }, settings, now_ms);
        let topic = made.map(Arc::new).map_err(|error| {
            tracing::error!(topic = name, %error, "cannot create topic");
            (ResponseError::KafkaStorageError, error.to_string())
        })?;
        write(&self.index).insert(Arc::clone(&topic));
        tracing::info!(topic = name, partitions, "topic created");
        Ok(Some(topic))
    }

    /// Deletes a topic, durably, and its files. Blocks.
    pub(crate) fn delete(&self, topic: &Topic) -> Result<(), Refusal> {
        let _changing = lock(&self.changing);
        let unknown = || (ResponseError::UnknownTopicOrPartition, "there is no such topic".into());
        {
            let mut index = write(&self.index);
            index.by_id.remove(&topic.id).ok_or_else(unknown)?;
            index.by_name.remove(&topic.name);
        }
        for partition in topic.partitions().iter() {
            partition.close(false);
        }
        let deleted = topic.dir.with_extension("deleted");
        let outcome = disk::rename(&topic.dir, &deleted).and_then(|()| {
            tracing::info!(topic = topic.name, "topic deleted");
            fs::remove_dir_all(&deleted).map_err(Error::io("remove", &deleted))
        });
        outcome.map_err(|error| {
            tracing::error!(topic = topic.name, %error, "topic is not wholly deleted; the next start goes on");
            (ResponseError::KafkaStorageError, error.to_string())
        })
    }

    /// Gives the topic `count` partitions in all, durably. Blocks.
    pub(crate) fn grow(&self, topic: &Topic, count: i32, validate_only: bool, now_ms: i64) -> Result<(), Refusal> {
        let _changing = lock(&self.changing);
        let current = read(&topic.current).clone();
        let existing = i32::try_from(current.partitions.len()).unwrap_or(i32::MAX);
        if count <= existing {
            let message = format!("topic {} has {existing} partitions already; their number can only grow", topic.name);
            return Err((ResponseError::InvalidPartitions, message));
        }
        self.check_partitions(count, count - existing)?;
        if validate_only {
            return Ok(());
        }
        let grown = || -> Result<Vec<_>, Error> {
            let mut partitions = current.partitions.to_vec();
            for index in existing..count {
                partitions.push(topic.open_partition(index, &current.settings, now_ms)?);
            }
            topic.store(count, &current.overrides)?;
            Ok(partitions)
        };
        let partitions = grown().map_err(|error| (ResponseError::KafkaStorageError, error.to_string()))?;
        write(&topic.current).partitions = partitions.into();
        Ok(())
    }

    /// Replaces the topic's own settings, durably. Blocks.
    pub(crate) fn configure(
        &self,
        topic: &Topic,
        change: impl FnOnce(&mut BTreeMap<String, String>) -> Result<(), Refusal>,
        validate_only: bool,
    ) -> Result<(), Refusal> {
        let _changing = lock(&self.changing);
        let current = read(&topic.current).clone();
        let mut overrides = (*current.overrides).clone();
        change(&mut overrides)?;
        let settings = TopicSettings::with(&self.defaults, &overrides).map_err(invalid_config)?;
        if validate_only {
            return Ok(());
        }
        let count = i32::try_from(current.partitions.len()).unwrap_or(i32::MAX);
        topic.store(count, &overrides).map_err(|error| (ResponseError::KafkaStorageError, error.to_string()))?;
        for partition in current.partitions.iter() {
            // An offline partition takes the settings when it is opened again.
            let _ = partition.with_log(|log| {
                log.set_config(settings.log.clone());
                Ok(())
            });
        }
        let mut now = write(&topic.current);
        now.overrides = Arc::new(overrides);
        now.settings = Arc::new(settings);
        Ok(())
    }

    /// Closes every log: syncs it and writes what makes the next start quick. Blocks.
    pub(crate) fn close(&self) {
        for topic in self.all() {
            for partition in topic.partitions().iter() {
                partition.close(true);
            }
        }
    }

    fn check_partitions(&self, count: i32, more: i32) -> Result<(), Refusal> {
        let per_topic_max = self.limits.partitions_per_topic_max;
        if !(1..=per_topic_max).contains(&count) {
            let message = format!("a topic may have 1 to {per_topic_max} partitions, not {count}");
            return Err((ResponseError::InvalidPartitions, message));
        }
        let all: usize = self.all().iter().map(|topic| topic.partitions().len()).sum();
        if all.saturating_add(usize::try_from(more).unwrap_or(usize::MAX)) > self.limits.partitions_max {
            let message = format!("all topics together may have {} partitions", self.limits.partitions_max);
            return Err((ResponseError::PolicyViolation, message));
        }
        Ok(())
    }

    fn make(&self, stored: Stored, settings: TopicSettings, now_ms: i64) -> Result<Topic, Error> {
        let id = Uuid::new_v4();
        let dir = self.dir.join(id.to_string());
        let creating = dir.with_extension("creating");
        fs::create_dir_all(&creating).map_err(Error::io("create", &creating))?;
        write_stored(&creating, &stored)?;
        disk::rename(&creating, &dir)?;
        Topic::assemble(dir, id, stored, settings, now_ms)
    }
}

impl Index {
    fn insert(&mut self, topic: Arc<Topic>) {
        self.by_id.insert(topic.id, Arc::clone(&topic));
        self.by_name.insert(topic.name.clone(), topic);
    }
}

impl Topic {
    /// The settings in force.
    pub(crate) fn settings(&self) -> Arc<TopicSettings> {
        Arc::clone(&read(&self.current).settings)
    }

    /// The settings that the topic itself sets.
    pub(crate) fn overrides(&self) -> Arc<BTreeMap<String, String>> {
        Arc::clone(&read(&self.current).overrides)
    }

    pub(crate) fn partitions(&self) -> Arc<[Arc<Partition>]> {
        Arc::clone(&read(&self.current).partitions)
    }

    pub(crate) fn partition(&self, index: i32) -> Option<Arc<Partition>> {
        read(&self.current).partitions.get(usize::try_from(index).ok()?).cloned()
    }

    fn open(dir: PathBuf, defaults: &TopicSettings, now_ms: i64) -> Result<Topic, Error> {
        let path = dir.join("topic.json");
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let settings = TopicSettings::with(defaults, &stored.settings).map_err(|error| damaged(error.to_string()))?;
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let id = Uuid::parse_str(name).map_err(|_| damaged("its folder is not named by a topic's id".into()))?;
        Topic::assemble(dir, id, stored, settings, now_ms)
    }

    fn assemble(dir: PathBuf, id: Uuid, stored: Stored, settings: TopicSettings, now_ms: i64) -> Result<Topic, Error> {
        let current = Current { overrides: Arc::new(stored.settings), settings: Arc::new(settings), partitions: Arc::new([]) };
        let topic = Topic { name: stored.name, id, dir, current: RwLock::new(current) };
        let settings = topic.settings();
        let partitions: Result<Vec<_>, Error> =
            (0..stored.partitions).map(|index| topic.open_partition(index, &settings, now_ms)).collect();
        write(&topic.current).partitions = partitions?.into();
        Ok(topic)
    }

    fn open_partition(&self, index: i32, settings: &TopicSettings, now_ms: i64) -> Result<Arc<Partition>, Error> {
        let dir = self.dir.join(index.to_string());
        Ok(Arc::new(Partition::open(&self.name, index, dir, settings, now_ms)?))
    }

    fn store(&self, partitions: i32, settings: &BTreeMap<String, String>) -> Result<(), Error> {
        write_stored(&self.dir, &Stored { name: self.name.clone(), partitions, settings: settings.clone() })
    }
}

fn write_stored(dir: &Path, stored: &Stored) -> Result<(), Error> {
    let path = dir.join("topic.json");
    let bytes = serde_json::to_vec_pretty(stored).map_err(|error| Error::Io {
        action: "encode",
        path: path.clone(),
        source: io::Error::other(error),
    })?;
    disk::replace(&path, &bytes)
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if name.is_empty() || name == "." || name == ".." || name.len() > NAME_BYTES_MAX || !name.bytes().all(known) {
        let message = format!("a topic's name has 1 to {NAME_BYTES_MAX} of the characters a-z A-Z 0-9 . _ -");
        return Err((ResponseError::InvalidTopicException, message));
    }
    Ok(())
}

fn invalid_config(error: SettingError) -> Refusal {
    (ResponseError::InvalidConfig, error.to_string())
}
