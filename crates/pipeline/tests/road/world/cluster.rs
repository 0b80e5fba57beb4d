//! The log and the consumer group.

use std::{collections::BTreeMap, sync::Arc};

use mantis_pipeline::TopicPartition;

use super::{Sent, State, World};

/// One partition's log. Removed records stay in `sent`, for the oracle.
#[derive(Default)]
pub struct Log {
    pub start: i64,
    pub end: i64,
    pub sent: BTreeMap<i64, Arc<Sent>>,
    /// Nobody can read it; who owns it is told once.
    pub damaged: bool,
    pub damage_told: bool,
}

impl Log {
    /// Offset after the last record.
    pub fn last_record_end(&self) -> i64 {
        self.sent.last_key_value().map_or(0, |(offset, _)| offset + 1)
    }
}

/// How far a member knows about a partition that it owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was given the partition and does not know yet.
    Nothing,
    Assigned,
    /// It is to give the partition up and does not know yet.
    AssignedThoughRevoking,
    Revoked,
}

#[derive(Debug)]
pub struct Owned {
    pub told: Told,
    pub position: Option<i64>,
    pub paused: bool,
    /// The last commit of this ownership.
    pub last_commit: Option<i64>,
}

#[derive(Debug, Default)]
pub struct Member {
    pub owned: BTreeMap<TopicPartition, Owned>,
    /// Taken away without being asked, and not told yet.
    pub lost_untold: Vec<TopicPartition>,
    /// Told, not released yet.
    pub lost_told: Vec<TopicPartition>,
    pub fenced: bool,
}

/// A consumer group by worker.
#[derive(Debug, Default)]
pub struct Group {
    pub members: BTreeMap<usize, Member>,
    pub targets: BTreeMap<TopicPartition, usize>,
    pub committed: BTreeMap<TopicPartition, i64>,
}

impl World {
    pub fn produce(&self, partition: &TopicPartition, sent: Sent, skip: i64) -> i64 {
        let mut state = self.state();
        let log = state.logs.get_mut(partition).unwrap();
        let offset = log.end + skip;
        log.end = offset + 1;
        let rows = sent.rows.clone().unwrap_or_default();
        log.sent.insert(offset, Arc::new(sent));
        for row in rows {
            state.last_offset_of_value.insert(row.value, offset);
        }
        drop(state);
        self.changed.notify_waiters();
        offset
    }

    /// Removes records from the start of a log, whoever has read them.
    pub fn remove_before(&self, partition: &TopicPartition, offset: i64) {
        let mut state = self.state();
        let log = state.logs.get_mut(partition).unwrap();
        log.start = log.start.max(offset.min(log.end));
        drop(state);
        self.changed.notify_waiters();
    }

    pub fn join(&self, worker: usize) {
        self.state().group.members.insert(worker, Member::default());
        self.rebalance(false);
    }

    /// A member is gone: its partitions are free.
    pub fn leave(&self, worker: usize) {
        self.state().group.members.remove(&worker);
        self.rebalance(false);
    }

    /// A member is thought dead and is not.
    pub fn fence(&self, worker: usize) {
        let mut state = self.state();
        state.zombies = true;
        if let Some(member) = state.group.members.get_mut(&worker) {
            let owned = std::mem::take(&mut member.owned);
            member.lost_untold.extend(owned.into_iter().filter(|(_, owned)| owned.told != Told::Nothing).map(|(name, _)| name));
            member.fenced = !member.lost_untold.is_empty();
        }
        drop(state);
        self.rebalance(false);
    }

    /// Deals the partitions out again; eagerly takes all of them away first.
    pub fn rebalance(&self, eager: bool) {
        let state = &mut *self.state();
        let members: Vec<usize> =
            state.group.members.iter().filter(|(_, member)| !member.fenced).map(|(worker, _)| *worker).collect();
        state.group.targets.clear();
        if !members.is_empty() {
            let turn = state.random.next() as usize;
            for (number, name) in state.logs.keys().enumerate() {
                state.group.targets.insert(name.clone(), members[(turn + number) % members.len()]);
            }
        }
        for (worker, member) in &mut state.group.members {
            member.owned.retain(|name, owned| {
                let stays = !eager && state.group.targets.get(name) == Some(worker);
                match owned.told {
                    Told::Nothing => return stays,
                    Told::Assigned if !stays => owned.told = Told::AssignedThoughRevoking,
                    _ => {}
                }
                true
            });
        }
        deal(state);
        self.changed.notify_waiters();
    }
}

/// Gives free partitions to whom they are meant for.
pub fn deal(state: &mut State) {
    let group = &mut state.group;
    for (name, worker) in &group.targets {
        if group.members.values().any(|member| member.owned.contains_key(name)) {
            continue;
        }
        if let Some(member) = group.members.get_mut(worker).filter(|member| !member.fenced) {
            let owned = Owned { told: Told::Nothing, position: None, paused: false, last_commit: None };
            member.owned.insert(name.clone(), owned);
        }
    }
}
