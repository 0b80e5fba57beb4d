//! The end of one partition's chain, as a worker that owns the partition sees it.

use std::{sync::Arc, time::Duration};

use mantis_pipeline::{Fault, Span, TopicPartition};
use tokio::{sync::Mutex, time::Instant};

use super::{ChainConfig, buffer::Buffer, config::RETRY, met::Met};
use crate::archive::{
    columns::{ArchiveColumns, Kind},
    object::Manifest,
};

/// What is held of an owned partition.
#[derive(Debug)]
pub(super) struct Link {
    partition: TopicPartition,
    kind: Kind,
    /// The ownership: what began under an earlier one changes nothing here.
    pub(super) epoch: u64,
    /// Where the chain ends.
    end: i64,
    /// What is being made into an object: from `end` on.
    sealed: Option<Arc<Buffer>>,
    /// What came after it.
    open: Buffer,
    /// An object of another worker that reaches beyond what was read here. Records in front of its end are compared, not
    /// kept: they are in the archive.
    ahead: Option<Met>,
    /// When to try again to make an object, after a failure.
    retry_at: Option<Instant>,
    /// Held by whoever makes an object of this partition.
    pub(super) turn: Arc<Mutex<()>>,
}

impl Link {
    pub(super) fn new(partition: &TopicPartition, epoch: u64, end: i64) -> Self {
        let kind = Kind::of_topic(&partition.topic);
        let (partition, open) = (partition.clone(), Buffer::new(kind, end));
        Self { partition, kind, epoch, end, sealed: None, open, ahead: None, retry_at: None, turn: Arc::default() }
    }

    /// Where the chain ends.
    pub(super) fn end(&self) -> i64 {
        self.end
    }

    /// The position behind everything that came in.
    pub(super) fn next(&self) -> i64 {
        self.open.next
    }

    pub(super) fn bytes(&self) -> usize {
        self.open.bytes() + self.sealed.as_ref().map_or(0, |sealed| sealed.bytes())
    }

    /// True if nobody makes an object of it now.
    pub(super) fn is_idle(&self) -> bool {
        self.turn.try_lock().is_ok()
    }

    /// True if what is open is large enough for an object.
    pub(super) fn is_full(&self, config: &ChainConfig) -> bool {
        !self.open.is_empty() && (self.open.rows() >= config.rows_max || self.open.bytes() >= config.bytes_max)
    }

    /// True if the last attempt to make an object failed.
    pub(super) fn failed(&self) -> bool {
        self.retry_at.is_some()
    }

    /// Up to where it is to be made durable now, because it has waited for `age` or failed a while ago.
    pub(super) fn due(&self, age: Duration) -> Option<i64> {
        let now = Instant::now();
        let old = self.open.opened.is_some_and(|opened| opened + age <= now) && self.retry_at.is_none();
        let again = self.retry_at.is_some_and(|at| at <= now);
        match (old, again) {
            (true, _) => Some(self.next()),
            (_, true) => Some(self.sealed.as_ref().map_or(self.next(), |sealed| sealed.next)),
            _ => None,
        }
    }

    /// Takes records in; those that came before are left out: a write may be repeated.
    pub(super) fn take(&mut self, columns: Option<&ArchiveColumns>, span: &Span) -> Result<(), Fault> {
        if span.next <= self.open.next {
            return Ok(());
        }
        let Some(ahead) = &mut self.ahead else {
            self.open.take(columns, span);
            return Ok(());
        };
        let marks = columns.map_or(&[][..], ArchiveColumns::marks);
        let new = marks.partition_point(|mark| mark.offset < self.open.next);
        ahead.compare(marks.get(new..).unwrap_or_default());
        if span.next < ahead.end() {
            (self.open.start, self.open.next) = (span.next, span.next);
            return Ok(());
        }
        ahead.verdict(&self.partition)?;
        self.end = ahead.end();
        self.open = Buffer::new(self.kind, self.end);
        self.ahead = None;
        if span.next > self.end {
            self.open.take(columns, span);
        }
        Ok(())
    }

    /// What to make into an object next, if the chain does not reach `to` yet.
    pub(super) fn seal(&mut self, to: i64) -> Option<Arc<Buffer>> {
        if self.end >= to || self.ahead.is_some() {
            return None;
        }
        if self.sealed.is_none() && !self.open.is_empty() {
            let next = Buffer::new(self.kind, self.open.next);
            self.sealed = Some(Arc::new(std::mem::replace(&mut self.open, next)));
        }
        self.sealed.clone()
    }

    /// The sealed records are in the archive.
    pub(super) fn added(&mut self) {
        if let Some(sealed) = self.sealed.take() {
            self.end = sealed.next;
        }
        self.retry_at = None;
    }

    /// The sealed records could not be written. True if that is news.
    pub(super) fn not_added(&mut self, fault: &Fault) -> bool {
        let wait = match fault {
            Fault::Retry { after: Some(after), .. } => *after,
            _ => RETRY,
        };
        self.retry_at.replace(Instant::now() + wait).is_none()
    }

    /// Another worker's object is where the sealed records were to go: goes on behind it, if it holds the same records.
    pub(super) fn meet(&mut self, key: &str, theirs: Manifest) -> Result<(), Fault> {
        let Some(sealed) = &self.sealed else { return Ok(()) };
        let mut read = Buffer::clone(sealed);
        read.join(&self.open);
        let mut met = Met::new(key, theirs);
        met.compare(read.columns.marks());
        if met.end() > read.next {
            self.open = Buffer::new(self.kind, read.next);
            self.ahead = Some(met);
        } else {
            met.verdict(&self.partition)?;
            self.end = met.end();
            self.open = read.behind(self.kind, self.end);
        }
        self.sealed = None;
        self.retry_at = None;
        Ok(())
    }
}
