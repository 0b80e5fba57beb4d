//! A lane: partitions of one topic that share a batch, and of which one write is under way at a time.

use std::{collections::VecDeque, sync::Arc};

use tokio::{sync::watch, time::Instant};

use crate::{
    Columns, Decoder, Limits, RecordBatch, TopicPartition,
    batch::{Batch, Owner, Stretch, Tally},
};

/// How much a flight may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leave {
    /// Everything.
    Stay,
    /// Its partitions are being revoked: a call under way may end and be followed up, no write is begun and nothing waits.
    Finish,
    /// Its partitions are lost: nothing is begun.
    Now,
}

/// A write under way, as its lane knows it.
#[derive(Debug)]
pub(crate) struct Flying {
    pub(crate) owners: Vec<Owner>,
    pub(crate) leave: watch::Sender<Leave>,
    bytes: usize,
}

/// What has come in and is not written yet, and what is being written.
#[derive(Debug)]
pub(crate) struct Lane<C, B> {
    /// Such as `mantis.readings#0`.
    pub(crate) name: Arc<str>,
    topic: Arc<str>,
    open: Batch<C, B>,
    spare: Option<Batch<C, B>>,
    backlog: VecDeque<Stretch<B>>,
    pub(crate) flying: Option<Flying>,
    /// Since when it cannot take what waits for it.
    pub(crate) blocked_since: Option<Instant>,
    /// Its partitions are paused at the source.
    pub(crate) paused: bool,
}

impl<C: Columns, B: RecordBatch> Lane<C, B> {
    pub(crate) fn new(topic: Arc<str>, number: usize, columns: C) -> Self {
        Self {
            name: format!("{topic}#{number}").into(),
            topic,
            open: Batch::new(columns),
            spare: None,
            backlog: VecDeque::new(),
            flying: None,
            blocked_since: None,
            paused: false,
        }
    }

    /// Takes a stretch in. It is decoded by [`fill`](Self::fill).
    pub(crate) fn push(&mut self, stretch: Stretch<B>) {
        self.backlog.push_back(stretch);
    }

    /// Decodes what waits until the open batch is full. `count` learns of every stretch that came in.
    pub(crate) fn fill<D: Decoder<Columns = C>>(
        &mut self,
        decoder: &mut D,
        limits: &Limits,
        mut count: impl FnMut(&Owner, Tally),
    ) {
        while !self.open.is_full(limits) {
            let Some(stretch) = self.backlog.pop_front() else { break };
            let owner = stretch.owner.clone();
            let (tally, rest) = self.open.take(stretch, decoder, limits);
            count(&owner, tally);
            if let Some(rest) = rest {
                self.backlog.push_front(rest);
            }
        }
        if self.backlog.is_empty() {
            self.blocked_since = None;
        } else {
            self.blocked_since.get_or_insert_with(Instant::now);
        }
    }

    /// When the open batch has waited for company long enough.
    pub(crate) fn lingers_until(&self, limits: &Limits) -> Option<Instant> {
        self.open.opened().filter(|_| self.flying.is_none()).map(|opened| opened + limits.linger())
    }

    /// The open batch, if it is time to write it; what comes now goes into the next one.
    pub(crate) fn launch(
        &mut self,
        limits: &Limits,
        now: bool,
        columns: impl FnOnce(&str) -> C,
    ) -> Option<(Batch<C, B>, watch::Receiver<Leave>)> {
        let lingered = self.lingers_until(limits).is_some_and(|until| until <= Instant::now());
        if self.flying.is_some()
            || self.open.is_empty()
            || !(now || lingered || !self.backlog.is_empty() || self.open.is_full(limits))
        {
            return None;
        }
        let next = self.spare.take().unwrap_or_else(|| Batch::new(columns(&self.topic)));
        let batch = std::mem::replace(&mut self.open, next);
        let (leave, flight_leave) = watch::channel(Leave::Stay);
        self.flying = Some(Flying { owners: batch.owners().collect(), leave, bytes: batch.bytes() });
        Some((batch, flight_leave))
    }

    /// Takes back the memory of a batch that has ended.
    pub(crate) fn landed(&mut self, mut batch: Batch<C, B>) {
        self.flying = None;
        batch.clear();
        self.spare = Some(batch);
    }

    /// Puts a batch that did not end back in front of everything, to be decoded again. `keep` says of which ownerships.
    pub(crate) fn put_back(
        &mut self,
        mut batch: Batch<C, B>,
        keep: impl Fn(&Owner) -> bool,
        count: impl FnMut(&TopicPartition, Tally),
    ) {
        self.flying = None;
        // What is open lies behind it.
        self.dissolve(&keep, count);
        for stretch in batch.clear().into_iter().rev().filter(|stretch| keep(&stretch.owner)) {
            self.backlog.push_front(stretch);
        }
        self.spare = Some(batch);
    }

    /// Drops what `keep` does not want of what is not being written.
    pub(crate) fn discard(&mut self, keep: impl Fn(&Owner) -> bool, count: impl FnMut(&TopicPartition, Tally)) {
        if self.open.owners().all(|owner| keep(&owner)) {
            self.backlog.retain(|stretch| keep(&stretch.owner));
        } else {
            self.dissolve(keep, count);
        }
    }

    /// Takes the open batch apart, to be decoded again, and drops what `keep` does not want.
    /// `count` learns of what was decoded in vain.
    fn dissolve(&mut self, keep: impl Fn(&Owner) -> bool, mut count: impl FnMut(&TopicPartition, Tally)) {
        for (span, _, tally) in self.open.parts() {
            count(&span.partition, tally);
        }
        for stretch in self.open.clear().into_iter().rev() {
            self.backlog.push_front(stretch);
        }
        self.backlog.retain(|stretch| keep(&stretch.owner));
    }

    /// True if its write under way covers this ownership.
    pub(crate) fn flies(&self, owner: &Owner) -> bool {
        self.flying.as_ref().is_some_and(|flying| flying.owners.contains(owner))
    }

    /// Bytes beside the source's own.
    pub(crate) fn bytes(&self) -> usize {
        self.open.bytes() + self.flying.as_ref().map_or(0, |flying| flying.bytes)
    }
}
