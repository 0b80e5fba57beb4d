//! A log of one partition, a store in memory that can fail, and workers that archive the one into the other.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use mantis_pipeline::{Assigned, Columns, Durable, Fault, Outcome, Part, Record, Sink, Span, Start, TopicPartition};
use mantis_schemas::{SeriesInterner, SeriesTable};
use mantis_stores::archive::{
    ArchiveStore, Created, Listed,
    chain::{Chain, ChainConfig},
    columns::{ArchiveColumns, Kind, Original},
    scan::Rows,
};
use tokio::sync::Semaphore;

pub const CLUSTER: &str = "cluster";

pub fn partition() -> TopicPartition {
    TopicPartition::new("anything.dlq", 0)
}

/// What becomes of the creations to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Good,
    /// Nothing happens, and the caller is told so.
    Fails,
    /// It happens, and the caller is told that it did not.
    LandsAndFails,
}

/// Objects in memory. Clones share them.
#[derive(Clone, Debug)]
pub struct Memory {
    pub objects: Arc<Mutex<BTreeMap<String, Bytes>>>,
    pub fate: Arc<Mutex<Fate>>,
    /// Taken by every creation while it lasts.
    pub gate: Arc<Semaphore>,
}

impl Memory {
    pub fn new() -> Self {
        Self { objects: Arc::default(), fate: Arc::new(Mutex::new(Fate::Good)), gate: Arc::new(Semaphore::new(1_000)) }
    }

    pub fn set(&self, fate: Fate) {
        *self.fate.lock().unwrap() = fate;
    }

    pub fn count(&self) -> usize {
        self.objects.lock().unwrap().len()
    }

    /// Where the chain ends, by its objects alone.
    pub async fn end(&self) -> i64 {
        mantis_stores::archive::chain::last(self, CLUSTER, &partition()).await.unwrap().map_or(0, |last| last.end)
    }

    /// The records of the chain, in order; checks that objects follow on each other.
    pub async fn records(&self) -> Vec<(i64, Vec<u8>)> {
        let mut rows = Rows::of(self, CLUSTER, partition(), 0..i64::MAX);
        let (mut found, mut at) = (Vec::new(), None);
        while let Some((manifest, rows)) = rows.next(&mut SeriesInterner::new(1)).await.unwrap() {
            assert!(
                at.is_none_or(|at| at == manifest.start),
                "an object starts at {}, the one before ended at {at:?}",
                manifest.start
            );
            at = Some(manifest.end);
            found.extend(rows.offset.iter().zip(&rows.originals).map(|(offset, kept)| (*offset, kept.payload.clone().unwrap())));
        }
        found
    }
}

impl ArchiveStore for Memory {
    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created, Fault> {
        let _gate = self.gate.acquire().await.unwrap();
        let fate = *self.fate.lock().unwrap();
        if fate == Fate::Fails {
            return Err(Fault::retry("the store is away"));
        }
        let mut objects = self.objects.lock().unwrap();
        let created = if objects.contains_key(key) { Created::Exists } else { Created::Created };
        objects.entry(key.to_owned()).or_insert(bytes);
        match fate {
            Fate::LandsAndFails => Err(Fault::retry("the answer was lost")),
            _ => Ok(created),
        }
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Fault> {
        Ok(self.objects.lock().unwrap().get(key).cloned())
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>, Fault> {
        let objects = self.objects.lock().unwrap();
        let wanted = objects.iter().filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after));
        Ok(wanted.take(limit).map(|(key, bytes)| Listed { key: key.clone(), bytes: bytes.len() as u64 }).collect())
    }
}

/// The log: every position that holds a record, with its payload.
#[derive(Clone, Debug)]
pub struct Log {
    pub records: Vec<(i64, Vec<u8>)>,
    pub end: i64,
}

impl Log {
    /// Positions below `end` but those that `hole` names.
    pub fn new(end: i64, hole: impl Fn(i64) -> bool) -> Self {
        let records =
            (0..end).filter(|offset| !hole(*offset)).map(|offset| (offset, format!("record {offset}").into())).collect();
        Self { records, end }
    }

    /// As retention does.
    pub fn remove_before(&mut self, offset: i64) {
        self.records.retain(|(at, _)| *at >= offset);
    }

    pub fn columns(&self, span: &Range<i64>) -> ArchiveColumns {
        let mut columns = ArchiveColumns::new(Kind::Records);
        for (offset, payload) in self.records.iter().filter(|(offset, _)| span.contains(offset)) {
            columns.begin(&Record { offset: *offset, timestamp_ms: Some(*offset), key: None, payload: Some(payload) });
            let original = Original {
                timestamp_ms: Some(*offset),
                key: None,
                payload: Some(payload.clone()),
                headers: Vec::new(),
                code: "dead-letter".into(),
                reason: String::new(),
            };
            columns.rows.keep(*offset, original);
        }
        columns
    }
}

/// A worker with the partition, or one that still thinks so.
#[derive(Debug)]
pub struct Worker {
    pub chain: Chain<Memory>,
    pub next: i64,
}

impl Worker {
    /// It starts where the chain says, and reads on from there.
    pub async fn start(store: &Memory, config: ChainConfig) -> Self {
        let mut worker = Self { chain: Chain::new(store.clone(), SeriesTable::default(), config), next: 0 };
        worker.assigned().await;
        worker
    }

    pub async fn assigned(&mut self) {
        let assigned = Assigned { partition: partition(), committed: None, log_start: 0, log_end: i64::MAX };
        let [Start::At(at)] = self.chain.start(&[assigned]).await.unwrap()[..] else { panic!("a chain names its end") };
        self.next = at;
    }

    /// Brings the records up to `to`, as the road does.
    pub async fn read(&mut self, log: &Log, to: i64) -> Result<(), Fault> {
        if to <= self.next {
            return Ok(());
        }
        let columns = log.columns(&(self.next..to));
        let span = Span { partition: partition(), from: self.next, next: to };
        if columns.is_empty() {
            let moved = self.chain.advance(&[span]).await?;
            self.next = moved.map_or(to, |moved| moved[0].1);
            return Ok(());
        }
        let part = Part { columns: &columns, rows: 0..columns.rows(), spans: &[span], last: true };
        self.next = match self.chain.write(part).await? {
            Outcome::Ended { written, advanced: true, .. } if written == columns.rows() => to,
            Outcome::Moved(moved) => moved[0].1,
            other => panic!("{other:?}"),
        };
        Ok(())
    }

    pub async fn flush(&self) -> Result<(), Fault> {
        self.chain.flush(&[partition()]).await
    }

    /// What the road would commit.
    pub fn durable(&self) -> i64 {
        match self.chain.durable(&partition(), self.next) {
            Durable::To(offset) => offset,
            Durable::Moved(at) => panic!("the chain is at {at}"),
        }
    }
}

/// Bounds that nothing meets.
pub fn wide() -> ChainConfig {
    ChainConfig::new(CLUSTER)
}
