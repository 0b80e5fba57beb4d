//! Consumer groups: their members (in memory) and their committed offsets (durable).
//!
//! After a restart no member is known: each is told so at its next heartbeat and joins again. A group that has ever
//! subscribed or committed is registered: retention keeps what it has not committed, until it has been without members and
//! commits for [`crate::GroupConfig::retention_ms`], or is deleted.

pub(crate) mod group;
pub(crate) mod journal;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use kafka_protocol::ResponseError;
use tokio::{sync::oneshot, task};

use self::{
    group::{Group, State},
    journal::{Change, Committed, Journal, Kept},
};
use crate::{Error, GroupConfig, Limits, broker::now_ms, sync::lock};

/// Kafka's bound on names is that of a string; this is ours.
const GROUP_NAME_BYTES_MAX: usize = 1_024;

/// All groups of the broker.
#[derive(Debug)]
pub(crate) struct Groups {
    config: GroupConfig,
    limits: Limits,
    live: Mutex<HashMap<String, Arc<Mutex<Group>>>>,
    kept: Arc<Store>,
}

/// The durable half.
#[derive(Debug)]
struct Store {
    groups: Mutex<journal::Groups>,
    journal: Mutex<Journal>,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    writing: bool,
}

#[derive(Debug)]
struct Waiting {
    changes: Vec<Change>,
    done: oneshot::Sender<bool>,
}

/// A group as ListGroups and DescribeGroups show it.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) state: State,
    pub(crate) protocol_type: String,
    pub(crate) protocol: String,
    pub(crate) members: Vec<group::Described>,
}

impl Groups {
    /// Reads what is kept in `dir`. Blocks.
    pub(crate) fn open(dir: &Path, config: GroupConfig, limits: Limits) -> Result<Groups, Error> {
        let (journal, kept) = Journal::open(dir)?;
        let store = Store { groups: Mutex::new(kept), journal: Mutex::new(journal), queue: Mutex::default() };
        Ok(Groups { config, limits, live: Mutex::default(), kept: Arc::new(store) })
    }

    pub(crate) fn config(&self) -> &GroupConfig {
        &self.config
    }

    /// Runs `operation` on the group; it is made if it is not there and there is room.
    pub(crate) fn with_or_new<T>(&self, name: &str, operation: impl FnOnce(&mut Group) -> T) -> Result<T, ResponseError> {
        if name.is_empty() || name.len() > GROUP_NAME_BYTES_MAX {
            return Err(ResponseError::InvalidGroupId);
        }
        let mut live = lock(&self.live);
        if !live.contains_key(name) {
            if live.len() >= self.limits.groups_max {
                return Err(ResponseError::GroupMaxSizeReached);
            }
            let delay = Duration::from_millis(self.config.initial_rebalance_delay_ms);
            live.insert(name.into(), Arc::new(Mutex::new(Group::new(delay))));
        }
        let group = live.get(name).cloned().ok_or(ResponseError::CoordinatorNotAvailable)?;
        drop(live);
        let answer = operation(&mut lock(&group));
        Ok(answer)
    }

    /// Runs `operation` on the group if it has or had members during this run.
    pub(crate) fn with<T>(&self, name: &str, operation: impl FnOnce(&mut Group) -> T) -> Option<T> {
        let group = lock(&self.live).get(name).cloned()?;
        Some(operation(&mut lock(&group)))
    }

    /// Takes note, durably, of the topics that the group's members subscribe to, if they have changed.
    pub(crate) async fn register(&self, name: &str) -> Result<(), ResponseError> {
        let topics = self.with(name, |group| group.subscribed()).unwrap_or_default();
        let known = lock(&self.kept.groups).get(name).is_some_and(|kept| kept.topics == topics);
        if known || topics.is_empty() {
            return Ok(());
        }
        self.record(vec![Change::Register { group: name.into(), topics, time_ms: now_ms() }]).await
    }

    /// Writes changes durably: they have their place at the call, and are on the disk when the future says so.
    pub(crate) fn record(&self, changes: Vec<Change>) -> impl Future<Output = Result<(), ResponseError>> + use<> {
        let (done, recorded) = oneshot::channel();
        self.kept.enqueue(Waiting { changes, done });
        async move {
            match recorded.await {
                Ok(true) => Ok(()),
                Ok(false) | Err(_) => Err(ResponseError::CoordinatorNotAvailable),
            }
        }
    }

    /// Whether one more group may commit.
    pub(crate) fn has_room_for(&self, name: &str) -> bool {
        let kept = lock(&self.kept.groups);
        kept.contains_key(name) || kept.len() < self.limits.groups_max
    }

    /// What is kept of a group.
    pub(crate) fn kept(&self, name: &str) -> Option<Kept> {
        lock(&self.kept.groups).get(name).cloned()
    }

    /// The offset that a group has committed.
    pub(crate) fn committed(&self, name: &str, topic: &str, partition: i32) -> Option<Committed> {
        lock(&self.kept.groups).get(name)?.committed(topic, partition).cloned()
    }

    /// Lowest offset of the partition that a registered group still needs; `i64::MAX` if there is none. A group that
    /// subscribes to the topic and has committed nothing yet needs everything.
    pub(crate) fn floor(&self, topic: &str, partition: i32) -> i64 {
        let kept = lock(&self.kept.groups);
        let mut floor = i64::MAX;
        for kept in kept.values() {
            match kept.committed(topic, partition) {
                Some(committed) => floor = floor.min(committed.offset),
                None if kept.topics.contains(topic) => floor = 0,
                None => {}
            }
        }
        drop(kept);
        let live: Vec<_> = lock(&self.live).iter().map(|(name, group)| (name.clone(), Arc::clone(group))).collect();
        let joins = |(name, group): &(String, Arc<Mutex<Group>>)| {
            self.committed(name, topic, partition).is_none() && lock(group).subscribed().contains(topic)
        };
        if live.iter().any(joins) { 0 } else { floor }
    }

    /// All groups that have members or something kept, by name.
    pub(crate) fn all(&self) -> BTreeMap<String, Overview> {
        let mut names: BTreeSet<String> = lock(&self.kept.groups).keys().cloned().collect();
        let live: Vec<_> = lock(&self.live).iter().map(|(name, group)| (name.clone(), Arc::clone(group))).collect();
        names.extend(live.into_iter().filter(|(_, group)| !lock(group).is_empty()).map(|(name, _)| name));
        names.into_iter().filter_map(|name| self.overview(&name).map(|overview| (name, overview))).collect()
    }

    /// One group; `None` if there is none of that name.
    pub(crate) fn overview(&self, name: &str) -> Option<Overview> {
        let kept = lock(&self.kept.groups).get(name).map(|kept| kept.topics.is_empty());
        let live = self.with(name, |group| Overview {
            state: group.state(),
            protocol_type: group.protocol_type().to_owned(),
            protocol: group.protocol().to_owned(),
            members: group.described(),
        });
        let live = live.filter(|group| kept.is_some() || group.state != State::Empty);
        live.or_else(|| {
            let protocol_type = if kept? { "" } else { "consumer" };
            let (protocol_type, protocol) = (protocol_type.to_owned(), String::new());
            Some(Overview { state: State::Empty, protocol_type, protocol, members: Vec::new() })
        })
    }

    /// Removes a group without members, with its offsets.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), ResponseError> {
        let overview = self.overview(name).ok_or(ResponseError::GroupIdNotFound)?;
        if overview.state != State::Empty {
            return Err(ResponseError::NonEmptyGroup);
        }
        self.record(vec![Change::Remove { group: name.into() }]).await
    }

    /// Takes back every group's commits in a deleted topic: a new topic of that name begins at 0.
    pub(crate) async fn forget_topic(&self, topic: &str) -> Result<(), ResponseError> {
        let changes: Vec<_> = {
            let kept = lock(&self.kept.groups);
            let commits = kept.iter().flat_map(|(group, kept)| {
                let partitions = kept.offsets.get(topic).into_iter().flat_map(BTreeMap::keys);
                partitions.map(move |partition| (group.clone(), *partition))
            });
            commits.map(|(group, partition)| Change::Forget { group, topic: topic.into(), partition }).collect()
        };
        if changes.is_empty() { Ok(()) } else { self.record(changes).await }
    }

    /// Ends sessions and waits that are over.
    pub(crate) fn tick(&self, now: Instant) {
        let live: Vec<_> = lock(&self.live).values().cloned().collect();
        for group in live {
            lock(&group).tick(now);
        }
    }

    /// Forgets groups that nobody has used for long, and those without members of which nothing is kept.
    pub(crate) fn expire(&self, now_ms: i64) {
        let deserted = |group: &Arc<Mutex<Group>>| Arc::strong_count(group) == 1 && lock(group).is_deserted();
        let used: BTreeSet<String> = {
            let mut live = lock(&self.live);
            live.retain(|_, group| !deserted(group));
            live.keys().cloned().collect()
        };
        let mut changes = Vec::new();
        for (name, kept) in lock(&self.kept.groups).iter() {
            if used.contains(name) {
                if now_ms.saturating_sub(kept.time_ms) > self.config.retention_ms / 2 {
                    // Its members count as use, even if they commit nothing.
                    changes.push(Change::Register { group: name.clone(), topics: kept.topics.clone(), time_ms: now_ms });
                }
                changes.extend(self.abandoned(name, kept, now_ms));
            } else if now_ms.saturating_sub(kept.time_ms) > self.config.retention_ms {
                tracing::info!(group = name, "group has been without members for long: its offsets are forgotten");
                changes.push(Change::Remove { group: name.clone() });
            }
        }
        if !changes.is_empty() {
            let (done, _) = oneshot::channel();
            self.kept.enqueue(Waiting { changes, done });
        }
    }

    /// Old commits in topics that the members of a group no longer subscribe to.
    fn abandoned(&self, name: &str, kept: &Kept, now_ms: i64) -> Vec<Change> {
        let old = |committed: &Committed| now_ms.saturating_sub(committed.time_ms) > self.config.retention_ms;
        let left = kept.offsets.iter().filter(|(topic, _)| !kept.topics.is_empty() && !kept.topics.contains(*topic));
        let commits = left.flat_map(|(topic, partitions)| partitions.iter().map(move |entry| (topic, entry)));
        let commits = commits.filter(|(_, (_, committed))| old(committed));
        let forget = |(topic, (partition, _)): (&String, (&i32, &Committed))| Change::Forget {
            group: name.into(),
            topic: topic.clone(),
            partition: *partition,
        };
        commits.map(forget).collect()
    }

    /// Answers all who wait for a rebalance, because the broker shuts down.
    pub(crate) fn shut_down(&self) {
        for group in lock(&self.live).values() {
            lock(group).release();
        }
    }
}

impl Store {
    fn enqueue(self: &Arc<Self>, waiting: Waiting) {
        let mut queue = lock(&self.queue);
        queue.waiting.push(waiting);
        if !queue.writing {
            queue.writing = true;
            let store = Arc::clone(self);
            drop(task::spawn_blocking(move || store.write_until_idle()));
        }
    }

    /// Writes until nothing waits, so that what arrives during one sync shares the next.
    fn write_until_idle(&self) {
        loop {
            let waiting = {
                let mut queue = lock(&self.queue);
                if queue.waiting.is_empty() {
                    queue.writing = false;
                    return;
                }
                std::mem::take(&mut queue.waiting)
            };
            let lists: Vec<_> = waiting.iter().map(|waiting| waiting.changes.as_slice()).collect();
            let written = lock(&self.journal).append(&lists, || lock(&self.groups).clone());
            if let Err(error) = &written {
                tracing::error!(%error, "cannot write the groups' journal: commits are refused");
            }
            for Waiting { changes, done } in waiting {
                if written.is_ok() {
                    let mut groups = lock(&self.groups);
                    changes.into_iter().for_each(|change| change.apply(&mut groups));
                }
                let _ = done.send(written.is_ok());
            }
        }
    }
}
