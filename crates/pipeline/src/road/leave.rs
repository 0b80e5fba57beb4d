//! Giving partitions up, and the end.

use tokio::time::{Instant, timeout_at};

use super::{Road, intake::readable};
use crate::{
    DeadLetters, Decoder, Reading, RecordBatch, Sink, Source, TopicPartition, batch::Owner, lane::Leave, stopped::Stopped,
};

impl<Dec, Snk, Dlq, B> Road<Dec, Snk, Dlq, B>
where
    Dec: Decoder,
    Snk: Sink<Columns = Dec::Columns>,
    Dlq: DeadLetters,
    B: RecordBatch,
{
    /// Lets the writes under way end, commits what is done and gives the partitions up.
    pub(super) async fn revoked<Src: Source<Batch = B>>(
        &mut self,
        source: &mut Src,
        partitions: Vec<TopicPartition>,
    ) -> Result<(), Stopped> {
        let deadline = Instant::now() + self.limits.release_wait();
        let owners = self.owners(&partitions);
        for owner in &owners {
            if let Some(partition) = self.partitions.get_mut(&owner.partition) {
                partition.leaving = true;
            }
        }
        self.discard();
        self.hurry(&owners, Leave::Finish);
        while self.lanes.iter().any(|lane| owners.iter().any(|owner| lane.flies(owner))) {
            let Ok(Some(ended)) = timeout_at(deadline, self.beside.join_next()).await else { break };
            self.land(ended)?;
            self.pump(false);
        }
        self.flush(&partitions, deadline).await;
        self.commit_until(source, |partition| partitions.contains(partition), deadline).await;
        self.forget(&partitions);
        self.releasing.extend(partitions);
        Ok(())
    }

    /// Gives up partitions that belong to another already.
    pub(super) fn lost(&mut self, partitions: Vec<TopicPartition>) {
        self.forget(&partitions);
        self.releasing.extend(partitions);
    }

    /// Ends the ownership: nothing of the partitions counts any more.
    pub(super) fn forget(&mut self, partitions: &[TopicPartition]) {
        let owners = self.owners(partitions);
        for name in partitions {
            if let Some(mut partition) = self.partitions.remove(name) {
                readable(&mut partition, name, &self.status);
                self.status.partition(name, |status| {
                    status.reading = Reading::NotOwned;
                    status.done = None;
                    status.committed = None;
                });
            }
        }
        self.discard();
        self.hurry(&owners, Leave::Now);
        self.ends.sink.release(partitions);
    }

    /// Lets the sink make durable what it holds of partitions that are about to be given up.
    async fn flush(&self, partitions: &[TopicPartition], deadline: Instant) {
        match timeout_at(deadline, self.ends.sink.flush(partitions)).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) => {
                tracing::warn!(%fault, "what the sink holds could not be made durable: the next owner reads it again");
            }
            Err(_) => tracing::warn!("what the sink holds was not durable in time: the next owner reads it again"),
        }
    }

    /// Writes what was read if `flush`, else only what is under way; commits.
    pub(super) async fn finish<Src: Source<Batch = B>>(&mut self, source: &mut Src, flush: bool) -> Result<(), Stopped> {
        let wait = if flush { self.limits.shutdown_wait() } else { self.limits.release_wait() };
        let deadline = Instant::now() + wait;
        let mut ended_well = Ok(());
        if !flush {
            self.hurry_all(Leave::Finish);
        }
        loop {
            if flush && ended_well.is_ok() {
                self.pump(true);
            }
            if !self.lanes.iter().any(|lane| lane.flying.is_some()) {
                break;
            }
            let Ok(Some(ended)) = timeout_at(deadline, self.beside.join_next()).await else { break };
            if let Err(stopped) = self.land(ended) {
                self.hurry_all(Leave::Finish);
                ended_well = ended_well.and(Err(stopped));
            }
        }
        self.hurry_all(Leave::Now);
        let owned: Vec<_> = self.partitions.keys().cloned().collect();
        self.flush(&owned, deadline).await;
        self.commit_until(source, |_| true, deadline).await;
        self.beside.shutdown().await;
        ended_well
    }

    fn owners(&self, partitions: &[TopicPartition]) -> Vec<Owner> {
        let owner = |name: &TopicPartition| Some(Owner { partition: name.clone(), epoch: self.partitions.get(name)?.epoch });
        partitions.iter().filter_map(owner).collect()
    }

    /// Drops what is not being written of partitions that are leaving or gone.
    pub(super) fn discard(&mut self) {
        let Self { lanes, partitions, status, .. } = self;
        for lane in lanes {
            let keep = |owner: &Owner| {
                partitions.get(&owner.partition).is_some_and(|partition| partition.epoch == owner.epoch && !partition.leaving)
            };
            lane.discard(keep, |partition, tally| status.partition(partition, |status| status.put_back(&tally)));
        }
    }

    pub(super) fn hurry(&self, owners: &[Owner], how: Leave) {
        for lane in &self.lanes {
            if let Some(flying) = lane.flying.as_ref().filter(|flying| owners.iter().any(|owner| flying.owners.contains(owner))) {
                flying.leave.send_if_modified(|leave| std::mem::replace(leave, how.max(*leave)) < how);
            }
        }
    }

    fn hurry_all(&self, how: Leave) {
        for flying in self.lanes.iter().filter_map(|lane| lane.flying.as_ref()) {
            flying.leave.send_if_modified(|leave| std::mem::replace(leave, how.max(*leave)) < how);
        }
    }
}
