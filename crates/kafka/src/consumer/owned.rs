//! The partitions that this member owns, and where each is read.

use std::{collections::HashMap, sync::Arc};

use mantis_pipeline::TopicPartition;
use tokio::time::Instant;

/// What a partition waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Its positions are being asked for; nobody knows of it yet.
    Found,
    /// It was reported and is not read yet.
    Reported,
    /// It is read.
    Reading,
    /// Its position is not in the log, or damaged there; where the log is, is asked at the given time.
    Lost(Instant),
}

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) name: TopicPartition,
    pub(super) state: State,
    /// Another one with each assignment: an answer to a question from before is void.
    pub(super) epoch: u64,
    /// The offset after the last record that was taken. What comes below is a repetition.
    pub(super) position: i64,
    pub(super) paused: bool,
    /// It is being revoked: it can be committed but is read no more.
    pub(super) leaves: bool,
    /// It belongs to another member already.
    pub(super) lost: bool,
}

impl Partition {
    /// Whether librdkafka was told to read it.
    pub(super) fn is_assigned(&self) -> bool {
        matches!(self.state, State::Reading | State::Lost(_))
    }
}

/// The partitions by topic and number, so that looking one up needs no name of its own.
#[derive(Debug, Default)]
pub(super) struct Owned {
    topics: HashMap<Arc<str>, HashMap<i32, Partition>>,
    epochs: u64,
}

impl Owned {
    pub(super) fn insert(&mut self, topic: &str, partition: i32) {
        self.epochs += 1;
        let topic = self.topics.get_key_value(topic).map_or_else(|| topic.into(), |(known, _)| Arc::clone(known));
        let name = TopicPartition { topic: Arc::clone(&topic), partition };
        let owned =
            Partition { name, state: State::Found, epoch: self.epochs, position: 0, paused: false, leaves: false, lost: false };
        self.topics.entry(topic).or_default().insert(partition, owned);
    }

    pub(super) fn get(&self, name: &TopicPartition) -> Option<&Partition> {
        self.topics.get(&name.topic)?.get(&name.partition)
    }

    pub(super) fn get_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        self.topics.get_mut(topic)?.get_mut(&partition)
    }

    pub(super) fn remove(&mut self, name: &TopicPartition) -> Option<Partition> {
        self.topics.get_mut(&name.topic)?.remove(&name.partition)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Partition> {
        self.topics.values().flat_map(HashMap::values)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Everything that is read, and where.
    pub(super) fn positions(&self) -> Vec<(TopicPartition, i64)> {
        self.iter().filter(|owned| owned.is_assigned()).map(|owned| (owned.name.clone(), owned.position)).collect()
    }
}
