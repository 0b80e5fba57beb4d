//! A consumer of the simulated log.

use std::sync::Arc;

use mantis_pipeline::{Assigned, Event, Source, SourceError, Span, TopicPartition};

use super::{
    Batch, State, World,
    cluster::{Told, deal},
};

/// Bytes of one record, as far as the bound on memory is concerned.
pub const RECORD_BYTES: usize = 60;
const BATCH_RECORDS_MAX: u64 = 9;
/// The largest batch that is handed out.
pub const BATCH_BYTES_MAX: usize = RECORD_BYTES * BATCH_RECORDS_MAX as usize;

pub struct Consumer {
    pub world: Arc<World>,
    pub worker: usize,
}

impl Consumer {
    fn error(&self, what: &str) -> Result<(), SourceError> {
        let mut state = self.world.state();
        let chance = state.chances.source_error;
        if state.random.chance(chance) {
            return Err(SourceError::Retry(format!("the broker is away ({what})")));
        }
        Ok(())
    }

    fn ready(&self, state: &mut State) -> Option<Event<Batch>> {
        let worker = self.worker;
        let member = state.group.members.get_mut(&worker)?;
        if !member.lost_untold.is_empty() {
            let lost = std::mem::take(&mut member.lost_untold);
            member.lost_told.extend(lost.iter().cloned());
            return Some(Event::Lost(lost));
        }
        let told = |told: Told| move |owned: &super::cluster::Owned| owned.told == told;
        let named = |names: Vec<(&TopicPartition, &mut super::cluster::Owned)>, now: Told| -> Vec<TopicPartition> {
            names
                .into_iter()
                .map(|(name, owned)| {
                    owned.told = now;
                    name.clone()
                })
                .collect()
        };
        let revoked: Vec<_> = member.owned.iter_mut().filter(|(_, owned)| told(Told::AssignedThoughRevoking)(owned)).collect();
        if !revoked.is_empty() {
            return Some(Event::Revoked(named(revoked, Told::Revoked)));
        }
        let assigned: Vec<_> = member.owned.iter_mut().filter(|(_, owned)| told(Told::Nothing)(owned)).collect();
        if !assigned.is_empty() {
            let names = named(assigned, Told::Assigned);
            let assigned = names.into_iter().map(|partition| Assigned {
                committed: state.group.committed.get(&partition).copied(),
                log_start: state.logs[&partition].start,
                log_end: state.logs[&partition].end,
                partition,
            });
            return Some(Event::Assigned(assigned.collect()));
        }
        let owned = member.owned.iter().filter(|(_, owned)| owned.told == Told::Assigned && owned.position.is_some());
        for (name, _) in owned {
            if let Some(log) = state.logs.get_mut(name).filter(|log| log.damaged && !log.damage_told) {
                log.damage_told = true;
                return Some(Event::Unreadable(name.clone(), format!("{name} is damaged")));
            }
        }
        let most = state.random.within(1, BATCH_RECORDS_MAX + 1) as usize;
        let readable: Vec<_> = member
            .owned
            .iter_mut()
            .filter(|(name, owned)| !owned.paused && owned.told == Told::Assigned && !state.logs[*name].damaged)
            .filter_map(|(name, owned)| owned.position.as_mut().map(|position| (name, position)))
            .filter(|(name, position)| **position < state.logs[*name].start || **position < state.logs[*name].last_record_end())
            .collect();
        if readable.is_empty() {
            return None;
        }
        let at = state.random.within(0, readable.len() as u64) as usize;
        let (name, position) = readable.into_iter().nth(at)?;
        let log = &state.logs[name];
        if *position < log.start {
            let span = Span { partition: name.clone(), from: *position, next: log.start };
            *position = log.start;
            return Some(Event::Gap(span));
        }
        let records: Vec<_> = log.sent.range(*position..).take(most).map(|(offset, sent)| (*offset, sent.clone())).collect();
        *position = records.last()?.0 + 1;
        let bytes = records.len() * RECORD_BYTES;
        let partition = name.clone();
        let held = &mut state.workers[worker];
        held.held_bytes += bytes;
        held.held_bytes_peak = held.held_bytes_peak.max(held.held_bytes);
        Some(Event::Records(Batch { world: self.world.clone(), worker, partition, records, bytes }))
    }

    fn set(&self, partitions: &[TopicPartition], paused: bool) {
        let mut state = self.world.state();
        for name in partitions {
            let owned = state.group.members.get_mut(&self.worker).and_then(|member| member.owned.get_mut(name));
            if let Some(owned) = owned {
                owned.paused = paused;
            }
        }
        drop(state);
        self.world.changed.notify_waiters();
    }
}

impl Source for Consumer {
    type Batch = Batch;

    async fn next(&mut self) -> Result<Event<Batch>, SourceError> {
        self.world.point(self.worker).await;
        self.error("next")?;
        loop {
            let changed = self.world.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let ready = self.ready(&mut self.world.state());
            if let Some(event) = ready {
                match &event {
                    Event::Revoked(_) => self.world.state().meet("a revocation"),
                    Event::Lost(_) => self.world.state().meet("a loss of partitions"),
                    Event::Gap(_) => self.world.state().meet("a gap"),
                    Event::Assigned(_) | Event::Records(_) | Event::Unreadable(..) => {}
                }
                return Ok(event);
            }
            changed.await;
        }
    }

    async fn start(&mut self, at: &[(TopicPartition, i64)]) -> Result<(), SourceError> {
        self.world.point(self.worker).await;
        self.error("start")?;
        let state = &mut *self.world.state();
        for (name, offset) in at {
            if *offset < state.logs[name].start.min(0) || *offset > state.logs[name].end {
                state.violate(format!("{name} was started at {offset}, which is not in the log"));
            }
            if let Some(owned) = state.group.members.get_mut(&self.worker).and_then(|member| member.owned.get_mut(name)) {
                owned.position = Some(*offset);
            }
        }
        Ok(())
    }

    async fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), SourceError> {
        self.world.point(self.worker).await;
        self.error("release")?;
        let rejoins = {
            let state = &mut *self.world.state();
            let member = state.group.members.get_mut(&self.worker);
            let rejoins = member.is_some_and(|member| {
                for name in partitions {
                    // A partition that was revoked and then lost is given up by one release.
                    member.lost_told.retain(|lost| lost != name);
                    member.lost_untold.retain(|lost| lost != name);
                    member.owned.remove(name);
                }
                let rejoins = member.fenced && member.lost_told.is_empty() && member.lost_untold.is_empty();
                member.fenced &= !rejoins;
                rejoins
            });
            deal(state);
            rejoins
        };
        if rejoins {
            self.world.rebalance(false);
        }
        self.world.changed.notify_waiters();
        Ok(())
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), SourceError> {
        self.world.point(self.worker).await;
        let (worker, state) = (self.worker, &mut *self.world.state());
        for (name, offset) in offsets {
            let member = state.group.members.get(&worker);
            let knows_it_is_gone =
                member.is_none_or(|member| !member.owned.contains_key(name) && !member.lost_untold.contains(name));
            if knows_it_is_gone {
                state.violate(format!("I4: worker {worker} commits {offset} of {name}, which it has given up"));
            }
            state.check_durable(name, *offset);
        }
        if state.random.chance(state.chances.commit_error) {
            return Err(SourceError::Retry("the coordinator moves".to_owned()));
        }
        for (name, offset) in offsets {
            let Some(owned) = state.group.members.get_mut(&worker).and_then(|member| member.owned.get_mut(name)) else {
                return Err(SourceError::Retry(format!("the member is fenced: {name} is not committed")));
            };
            let before = owned.last_commit.replace(*offset);
            if before.is_some_and(|before| before > *offset) {
                state.violate(format!("I3: {name} went back from {before:?} to {offset}"));
            }
            state.group.committed.insert(name.clone(), *offset);
        }
        if state.random.chance(state.chances.commit_ambiguous) {
            return Err(SourceError::Retry("the answer to a commit was lost".to_owned()));
        }
        Ok(())
    }

    async fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), SourceError> {
        self.world.point(self.worker).await;
        self.error("seek")?;
        let mut state = self.world.state();
        state.meet("a seek");
        let owned = state.group.members.get_mut(&self.worker).and_then(|member| member.owned.get_mut(partition));
        if let Some(owned) = owned {
            owned.position = Some(offset);
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), SourceError> {
        self.error("pause")?;
        self.world.state().meet("a pause");
        self.set(partitions, true);
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), SourceError> {
        self.error("resume")?;
        self.set(partitions, false);
        Ok(())
    }

    async fn close(self) {
        self.world.leave(self.worker);
    }
}
