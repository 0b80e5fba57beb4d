//! What must hold, for one who knows every record.

use mantis_pipeline::TopicPartition;

use super::{Fate, Sent, State, World, source::BATCH_BYTES_MAX};

impl State {
    /// I2: everything before `offset` is durable, or was removed before it could be.
    pub fn check_durable(&mut self, name: &TopicPartition, offset: i64) {
        if self.store_was_restored {
            return;
        }
        let from = self.durable_checked.get(name).copied().unwrap_or(0);
        if offset <= from {
            return;
        }
        let log = &self.logs[name];
        let missing = log.sent.range(from..offset).find(|(at, sent)| **at >= log.start && !self.ended(name, **at, sent));
        if let Some((at, _)) = missing {
            let at = *at;
            self.violate(format!("I2: {name} was moved to {offset}, but {at} is neither stored nor a dead letter"));
        }
        self.durable_checked.insert(name.clone(), offset);
    }

    /// Every row of the record is stored, replaced by a later one, or has a dead letter.
    fn ended(&self, name: &TopicPartition, offset: i64, sent: &Sent) -> bool {
        let identity = (name.clone(), offset);
        let Some(rows) = &sent.rows else { return self.whole_letters.contains(&identity) };
        rows.iter().enumerate().all(|(number, row)| match row.fate {
            Fate::Stored => {
                let Some(value) = self.store.get(&row.key) else { return false };
                !self.keeps_order() || self.last_offset_of_value[value] >= offset
            }
            _ => self.letters.get(&identity).is_some_and(|rows| rows.contains(&(number as u32))),
        })
    }

    /// True if the last by offset wins whatever lands late.
    fn keeps_order(&self) -> bool {
        !self.zombies && (self.fenced || !self.late_writes)
    }
}

impl World {
    /// True if the group has committed every record that there is.
    pub fn is_settled(&self) -> bool {
        let state = self.state();
        let committed = |name| state.group.committed.get(name).copied().unwrap_or(0);
        state.logs.iter().all(|(name, log)| committed(name) >= log.last_record_end().max(log.start))
    }

    /// What may be looked at while everything moves: I7 and I9.
    pub fn check_now(&self) -> Result<(), String> {
        let state = &*self.state();
        if let Some(violation) = &state.violation {
            return Err(violation.clone());
        }
        let lanes = state.logs.len();
        for (number, worker) in state.workers.iter().enumerate() {
            // Each lane may hold what is open and what is under way when the bound is met, and one batch more.
            let held_max = self.limits.held_bytes_max + BATCH_BYTES_MAX * (lanes + 1);
            if worker.held_bytes_peak > held_max {
                return Err(format!("I7: worker {number} held {} bytes, more than {held_max}", worker.held_bytes_peak));
            }
            let snapshot = worker.status.snapshot();
            for (topic, account) in &snapshot.topics {
                let (mut ended, mut rejected) = (0, 0);
                for (partition, account) in &account.partitions {
                    let records = account.records_ended + account.records_discarded + account.records_in_flight;
                    let rows = account.rows_stored + account.rows_rejected + account.rows_discarded + account.rows_in_flight;
                    if account.records_in != records || account.rows_in != rows {
                        return Err(format!("I9: worker {number}: {topic}/{partition} does not add up: {account:?}"));
                    }
                    ended += account.rows_stored;
                    rejected += account.rows_rejected;
                }
                if account.written + account.duplicates + account.conflicts != ended {
                    return Err(format!("I9: worker {number}: {topic} does not add up ({rejected} rejected): {account:?}"));
                }
            }
        }
        Ok(())
    }

    /// What must hold when everything has come to rest: I1, I5, I6, I9.
    pub fn check_at_rest(&self, disturbed: bool) -> Result<(), String> {
        self.check_now()?;
        let state = &*self.state();
        let mut stored_rows = 0;
        for (name, log) in &state.logs {
            let mut expected = std::collections::BTreeMap::new();
            let mut lost = 0;
            for (offset, sent) in &log.sent {
                let ended = state.ended(name, *offset, sent);
                if !ended && *offset >= log.start {
                    return Err(format!("I1: {name} {offset} is neither stored nor a dead letter: {sent:?}"));
                }
                lost += u64::from(!ended);
                for row in sent.rows.iter().flatten().filter(|row| row.fate == Fate::Stored && ended) {
                    expected.insert(row.key, row.value);
                    stored_rows += 1;
                }
            }
            let gaps: u64 = state.workers.iter().map(|worker| gap_offsets(worker, name)).sum();
            if lost > gaps {
                return Err(format!("I1: {lost} records of {name} were removed unread, only {gaps} offsets are counted as gaps"));
            }
            if log.start == 0 && state.keeps_order() {
                for (key, value) in expected {
                    if state.store.get(&key) != Some(&value) {
                        return Err(format!(
                            "I6: key {key} of {name} has {:?}, the last by offset is {value}",
                            state.store.get(&key)
                        ));
                    }
                }
            }
        }
        if !disturbed && state.rows_applied != stored_rows {
            return Err(format!("I5: {} rows were written for {stored_rows} though nothing failed", state.rows_applied));
        }
        if let Some(number) = state.workers.iter().position(|worker| worker.held_bytes > 0) {
            return Err(format!("I7: worker {number} still holds {} bytes", state.workers[number].held_bytes));
        }
        Ok(())
    }
}

fn gap_offsets(worker: &super::WorkerState, name: &TopicPartition) -> u64 {
    let snapshot = worker.status.snapshot();
    let partition = snapshot.topics.get(&name.topic).and_then(|topic| topic.partitions.get(&name.partition).cloned());
    partition.map_or(0, |partition| partition.gap_offsets)
}
