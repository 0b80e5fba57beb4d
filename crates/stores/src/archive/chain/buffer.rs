//! Records of one partition that are not durable yet.

use mantis_pipeline::{Columns, Span, TopicPartition};
use tokio::time::Instant;

use crate::archive::{
    columns::{ArchiveColumns, Kind},
    object::{Digest, Head},
};

/// The records of positions `[start, next)`.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    pub(super) start: i64,
    pub(super) next: i64,
    pub(super) columns: ArchiveColumns,
    /// When the first of them came.
    pub(super) opened: Option<Instant>,
}

impl Buffer {
    pub(super) fn new(kind: Kind, start: i64) -> Self {
        Self { start, next: start, columns: ArchiveColumns::new(kind), opened: None }
    }

    /// True if it covers no position.
    pub(super) fn is_empty(&self) -> bool {
        self.next == self.start
    }

    /// Takes what lies behind its end of a span's records.
    pub(super) fn take(&mut self, columns: Option<&ArchiveColumns>, span: &Span) {
        if let Some(columns) = columns {
            self.columns.extend(columns, self.next);
        }
        self.next = self.next.max(span.next);
        self.opened.get_or_insert_with(Instant::now);
    }

    /// Takes the buffer that follows on it.
    pub(super) fn join(&mut self, behind: &Self) {
        self.columns.extend(&behind.columns, self.next);
        self.next = behind.next;
        self.opened = self.opened.or(behind.opened);
    }

    /// What lies at and behind `start`.
    pub(super) fn behind(&self, kind: Kind, start: i64) -> Self {
        let mut rest = Self::new(kind, start);
        rest.columns.extend(&self.columns, start);
        rest.next = self.next;
        rest.opened = self.opened.filter(|_| !rest.is_empty());
        rest
    }

    pub(super) fn bytes(&self) -> usize {
        self.columns.bytes()
    }

    pub(super) fn rows(&self) -> usize {
        self.columns.rows()
    }

    /// What its object says of itself.
    pub(super) fn head(&self, cluster_id: &str, partition: &TopicPartition) -> Head {
        Head {
            cluster_id: cluster_id.to_owned(),
            partition: partition.clone(),
            start: self.start,
            end: self.next,
            digest: Digest::of(self.columns.marks()),
        }
    }
}
