//! Making objects: encode, create, and what to do when there is one already.

use std::sync::Arc;

use bytes::Bytes;
use mantis_pipeline::{Fault, TopicPartition};

use super::{Shared, buffer::Buffer, end};
use crate::archive::{ArchiveStore, Created, key::key, object};

impl<S: ArchiveStore> Shared<S> {
    /// Waits until the partition can take more: its last object did not fail, and what is open has room.
    pub(super) async fn make_room(&self, partition: &TopicPartition) -> Result<(), Fault> {
        loop {
            let to =
                self.links().get(partition).filter(|link| link.failed() || link.is_full(&self.config)).map(|link| link.next());
            let Some(to) = to else { return Ok(()) };
            self.cut_once(partition, to).await?;
        }
    }

    /// Cuts the largest partitions until what is held is within its bound.
    pub(super) async fn hold_bound(&self) -> Result<(), Fault> {
        loop {
            let largest = {
                let links = self.links();
                let held: usize = links.values().map(|link| link.bytes()).sum();
                let largest = links.iter().max_by_key(|(_, link)| link.bytes());
                largest.filter(|_| held > self.config.held_bytes_max).map(|(name, link)| (name.clone(), link.next()))
            };
            let Some((partition, to)) = largest else { return Ok(()) };
            self.cut_once(&partition, to).await?;
        }
    }

    /// Makes durable what is held of a partition below `to`.
    pub(super) async fn cut_to(&self, partition: &TopicPartition, to: i64) -> Result<(), Fault> {
        while self.cut_once(partition, to).await? {}
        Ok(())
    }

    /// Makes one object of what is held of a partition, unless its chain reaches `to`. False if there was nothing to do.
    pub(super) async fn cut_once(&self, partition: &TopicPartition, to: i64) -> Result<bool, Fault> {
        let Some(turn) = self.links().get(partition).map(|link| Arc::clone(&link.turn)) else { return Ok(false) };
        let _turn = turn.lock().await;
        let sealed = self.links().get_mut(partition).and_then(|link| Some((link.epoch, link.seal(to)?)));
        let Some((epoch, sealed)) = sealed else { return Ok(false) };
        let ended = self.add(partition, epoch, sealed).await;
        if let Err(fault) = &ended
            && let Some(link) = self.links().get_mut(partition).filter(|link| link.epoch == epoch)
            && link.not_added(fault)
        {
            tracing::warn!(%partition, %fault, "an object could not be archived: it is tried again");
        }
        ended.map(|()| true)
    }

    async fn add(&self, partition: &TopicPartition, epoch: u64, sealed: Arc<Buffer>) -> Result<(), Fault> {
        let key = key(&self.config.cluster_id, partition, sealed.start);
        // Closed never.
        let _permit = self.writes.acquire().await.map_err(|_| Fault::retry("the archive is being closed"))?;
        let object = self.encode(partition, sealed).await?;
        let met = match self.store.create(&key, object).await? {
            Created::Created => None,
            Created::Exists => Some(end::manifest(&self.store, &key, &self.config.cluster_id).await?),
        };
        let mut links = self.links();
        // Given up meanwhile: the object is in the chain all the same, and the next owner starts behind it.
        let Some(link) = links.get_mut(partition).filter(|link| link.epoch == epoch) else { return Ok(()) };
        match met {
            None => link.added(),
            Some(theirs) => {
                tracing::info!(key, end = theirs.end, "another worker archived these records: going on behind them");
                link.meet(&key, theirs)?;
            }
        }
        Ok(())
    }

    /// On a thread where it holds nobody up.
    async fn encode(&self, partition: &TopicPartition, sealed: Arc<Buffer>) -> Result<Bytes, Fault> {
        let (head, series) = (sealed.head(&self.config.cluster_id, partition), self.series.clone());
        let made = tokio::task::spawn_blocking(move || object::encode(&head, &sealed.columns.rows, &series)).await;
        made.map_err(|error| Fault::retry(format!("the making of an object of {partition} was cut off ({error})")))?
            .map_err(|error| Fault::Fatal { reason: format!("no object can be made of {partition}: {error}") })
    }
}
