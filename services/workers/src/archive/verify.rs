//! Is the archive whole? Walks every chain, and compares it with the log where the log still has the records.

use std::{collections::HashMap, ops::Range};

use mantis_kafka::{Admin, ClientConfig, Lag, Reader};
use mantis_pipeline::{Fault, RecordBatch, TopicPartition};
use mantis_schemas::SeriesInterner;
use mantis_stores::archive::{
    ArchiveStore,
    columns::Mark,
    gaps,
    key::Place,
    object::{Digest, Manifest},
    scan::{Objects, ScanError, read},
};
use serde::Serialize;

use super::{GROUP, topics};

/// Findings that are listed; further ones are counted.
const FINDINGS_MAX: usize = 100;
/// What to do about records that the log lost too early.
const LOST: &str =
    "Look for what is lost in the raw store, and let retention keep records for longer than the worker may be away";

/// The archive could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The archive could not be read.
    #[error("the archive cannot be read: {0}")]
    Store(#[from] Fault),
    /// The log could not be read.
    #[error("the log cannot be read: {0}")]
    Kafka(#[from] mantis_kafka::Error),
}

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// True if nothing is wrong.
    pub whole: bool,
    /// A chain each, in order of cluster, topic and partition; with the log, also those that have no object yet.
    pub partitions: Vec<PartitionReport>,
    /// How much is wrong.
    pub wrong: u64,
    /// What is wrong: the first hundred.
    pub findings: Vec<Finding>,
}

/// One chain.
#[derive(Debug, Serialize)]
pub struct PartitionReport {
    /// The id of the Kafka cluster.
    pub cluster_id: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// First position.
    pub start: i64,
    /// The position behind the last one.
    pub end: i64,
    /// Objects, those that cannot be read too.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records of the log.
    pub records: u64,
    /// Decoded rows.
    pub rows: u64,
    /// Records that were kept as they are.
    pub undecoded: u64,
    /// Positions without a record, but for those where the log shows that there was none.
    pub missing: u64,
    /// The log's side of it; `None` where it was not asked, or where the chain is of another cluster.
    pub log: Option<LogSide>,
}

/// What the log says of a chain.
#[derive(Debug, Serialize)]
pub struct LogSide {
    /// First offset that it has.
    pub start: i64,
    /// Offset after its last record.
    pub end: i64,
    /// The archive worker's committed offset.
    pub committed: Option<i64>,
    /// Objects that were compared with the log, record by record.
    pub compared: u64,
    /// Objects that were not, because the log does not have all of their records any more.
    pub unproved: u64,
}

/// Something that is wrong.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// The object, or the chain.
    pub place: String,
    /// What it is.
    pub what: Wrong,
    /// For people.
    pub detail: String,
}

/// What can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wrong {
    /// A key is none of a chain.
    Stray,
    /// Size, checksum or content of an object are not what they were.
    Damaged,
    /// An object is not what its key says.
    Misplaced,
    /// Positions are in no object.
    Hole,
    /// Positions are in two objects.
    Overlap,
    /// An object has other records than the log.
    OtherRecords,
    /// Positions have no record in the archive, and the log does not show that they never had one.
    MissingRecords,
    /// The group's committed offset is beyond the chain.
    CommittedBeyond,
    /// The chain ends beyond the log.
    BeyondLog,
}

/// Verifies every chain of `store`; with `log`, those of its cluster against it too. `series_max` bounds the names of one object.
///
/// # Errors
/// The archive or the log could not be read. What is wrong with either is no error but a finding.
pub async fn verify<S: ArchiveStore>(store: &S, log: Option<&ClientConfig>, series_max: usize) -> Result<Report, VerifyError> {
    let log = match log {
        Some(client) => Some(Log::ask(client).await?),
        None => None,
    };
    let mut report = Report::default();
    let mut objects = Objects::under(store, "");
    while let Some(listed) = objects.next().await? {
        let Some(place) = Place::of(&listed.key) else {
            report.wrong(&listed.key, Wrong::Stray, "the key is none of a chain: somebody else put it here");
            continue;
        };
        let before = report.chain(&place);
        before.objects += 1;
        before.bytes += listed.bytes;
        let at = before.end;
        if place.start != at {
            let what = if place.start > at { Wrong::Hole } else { Wrong::Overlap };
            let (from, to) = (place.start.min(at), place.start.max(at));
            report.wrong(&listed.key, what, format!("positions [{from}, {to}) are not in exactly one object"));
        }
        let (manifest, rows) = match read(store, &listed.key, &mut SeriesInterner::new(series_max)).await {
            Ok(object) => object,
            Err(ScanError::Store(fault)) => return Err(fault.into()),
            Err(error) => {
                report.wrong(&listed.key, Wrong::Damaged, error.to_string());
                report.chain(&place).end = place.start;
                continue;
            }
        };
        if !is_at(&manifest, &place) {
            let Manifest { cluster_id, topic, partition, start, end, .. } = &manifest;
            let detail = format!("it says that it holds [{start}, {end}) of {topic}/{partition} of cluster {cluster_id}");
            report.wrong(&listed.key, Wrong::Misplaced, detail);
        }
        let chain = report.chain(&place);
        chain.end = manifest.end;
        chain.records += manifest.records;
        chain.rows += manifest.rows;
        chain.undecoded += manifest.undecoded;
        let gaps = gaps::between(manifest.start..manifest.end, &rows.offset).collect();
        let missing = match &log {
            Some(log) => log.compare(&place, &manifest, gaps, &mut report).await?,
            None => gaps,
        };
        report.missing(&place, &missing);
    }
    if let Some(log) = &log {
        // Positions of now: the archive was growing while it was walked. What is committed was asked for before.
        log.compare_ends(&Log::ask(log.client).await?, &mut report);
        report.partitions.sort_by(|a, b| (&a.cluster_id, &a.topic, a.partition).cmp(&(&b.cluster_id, &b.topic, b.partition)));
    }
    report.whole = report.wrong == 0;
    Ok(report)
}

fn is_at(manifest: &Manifest, place: &Place) -> bool {
    let partition = TopicPartition::new(manifest.topic.as_str(), manifest.partition);
    let own = Place { cluster_id: manifest.cluster_id.clone(), partition, start: manifest.start };
    own.key() == place.key() && manifest.end > manifest.start
}

impl Report {
    /// The chain that an object belongs to: the last one, or a new one that starts with it.
    fn chain(&mut self, place: &Place) -> &mut PartitionReport {
        let Place { cluster_id, partition, start } = place;
        let known = |chain: &PartitionReport| {
            (&chain.cluster_id, &*chain.topic, chain.partition) == (cluster_id, &*partition.topic, partition.partition)
        };
        let at = self.partitions.iter().rposition(known).unwrap_or_else(|| {
            self.partitions.push(PartitionReport {
                cluster_id: cluster_id.clone(),
                topic: partition.topic.to_string(),
                partition: partition.partition,
                start: *start,
                end: *start,
                objects: 0,
                bytes: 0,
                records: 0,
                rows: 0,
                undecoded: 0,
                missing: 0,
                log: None,
            });
            self.partitions.len() - 1
        });
        &mut self.partitions[at]
    }

    /// Notes positions of an object that have no record.
    fn missing(&mut self, place: &Place, positions: &[Range<i64>]) {
        let count = gaps::positions(positions);
        if count > 0 {
            self.chain(place).missing += count;
            let detail = format!(
                "no record is archived of positions {}: they were taken from the log before the archive worker read them, or never held one \
                 (transactions leave such positions) and the log, where it was asked, does not show that. {LOST}",
                gaps::describe(positions, count)
            );
            self.wrong(&place.key(), Wrong::MissingRecords, detail);
        }
    }

    fn wrong(&mut self, place: &str, what: Wrong, detail: impl Into<String>) {
        self.wrong += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { place: place.to_owned(), what, detail: detail.into() });
        }
    }
}

/// The log that chains are compared with.
struct Log<'a> {
    client: &'a ClientConfig,
    cluster_id: String,
    lags: HashMap<TopicPartition, Lag>,
}

impl<'a> Log<'a> {
    async fn ask(client: &'a ClientConfig) -> Result<Self, VerifyError> {
        let admin = Admin::new(client)?;
        let (cluster_id, topics) = (admin.cluster_id().await?, topics());
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let lags = admin.lag(GROUP, &topics).await?.into_iter().map(|lag| (lag.partition.clone(), lag)).collect();
        Ok(Self { client, cluster_id, lags })
    }

    /// Holds an object against the records of its positions. Gives back those of its gaps where the log does not show that
    /// there was no record.
    async fn compare(
        &self,
        place: &Place,
        manifest: &Manifest,
        gaps: Vec<Range<i64>>,
        report: &mut Report,
    ) -> Result<Vec<Range<i64>>, VerifyError> {
        let Some(lag) = self.lags.get(&place.partition).filter(|_| manifest.cluster_id == self.cluster_id) else {
            return Ok(gaps);
        };
        let (range, has) = (manifest.start..manifest.end, lag.log_start..lag.log_end);
        let proves = range.start >= has.start && range.end <= has.end;
        let shown = inside(&gaps, has.clone());
        let same = match proves {
            true => self.digest(&place.partition, range).await? == manifest.digest(),
            false => !self.has_any(&place.partition, &shown).await?,
        };
        let log = report.chain(place).log.get_or_insert_with(|| side(lag));
        if proves {
            log.compared += 1;
        } else {
            log.unproved += 1;
        }
        if !same {
            report.wrong(&place.key(), Wrong::OtherRecords, "the log has other records at these positions");
        }
        // What lies behind the log's end came after it was asked, or the chain's end is wrong.
        Ok(inside(&gaps, i64::MIN..has.start))
    }

    /// Whether the log has a record in one of the ranges, which it reaches over.
    async fn has_any(&self, partition: &TopicPartition, ranges: &[Range<i64>]) -> Result<bool, mantis_kafka::Error> {
        let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return Ok(false) };
        let mut reader = Reader::open(self.client, partition.clone(), first.start, last.end)?;
        while let Some(batch) = reader.next().await? {
            if (0..batch.len()).any(|index| gaps::contains(ranges, batch.record(index).offset)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn digest(&self, partition: &TopicPartition, range: Range<i64>) -> Result<Digest, mantis_kafka::Error> {
        let mut digest = Digest::default();
        let mut reader = Reader::open(self.client, partition.clone(), range.start, range.end)?;
        while let Some(batch) = reader.next().await? {
            for index in 0..batch.len() {
                digest.add(&Mark::of(&batch.record(index)));
            }
        }
        Ok(digest)
    }

    /// Holds the ends of chains against the group's offsets: what is committed must be in a chain.
    fn compare_ends(&self, now: &Self, report: &mut Report) {
        let mut lags: Vec<&Lag> = self.lags.values().collect();
        lags.sort_by(|a, b| a.partition.cmp(&b.partition));
        for lag in lags {
            let chain = report.partitions.iter().find(|chain| {
                chain.cluster_id == self.cluster_id
                    && *chain.topic == *lag.partition.topic
                    && chain.partition == lag.partition.partition
            });
            let end = chain.map(|chain| chain.end);
            if end.is_none() && lag.log_end > lag.log_start {
                // Nothing is archived yet: its length says how far behind that is.
                let Lag { partition, log_start: start, .. } = lag.clone();
                report.chain(&Place { cluster_id: self.cluster_id.clone(), partition, start }).log = Some(side(lag));
            }
            let place = lag.partition.to_string();
            let committed = lag.committed.filter(|committed| end.unwrap_or(lag.log_start) < *committed);
            if let Some(committed) = committed {
                let detail = format!(
                    "{committed} is committed, the chain ends at {}",
                    end.map_or("its start".into(), |end| end.to_string())
                );
                report.wrong(&place, Wrong::CommittedBeyond, detail);
            }
            if let Some(end) = end.filter(|end| *end < lag.log_start) {
                let detail = format!(
                    "positions [{end}, {}) behind the chain are not in the log any more: unless a running archive worker holds their \
                     records, these are not archived. {LOST}",
                    lag.log_start
                );
                report.wrong(&place, Wrong::MissingRecords, detail);
            }
            let log_end = now.lags.get(&lag.partition).map_or(lag.log_end, |lag| lag.log_end);
            if let Some(end) = end.filter(|end| *end > log_end) {
                let detail = format!("the chain ends at {end}, the log at {log_end}: it lost its end or was made again");
                report.wrong(&place, Wrong::BeyondLog, detail);
            }
        }
    }
}

/// What of the ranges lies within `bounds`.
fn inside(ranges: &[Range<i64>], bounds: Range<i64>) -> Vec<Range<i64>> {
    let cut = ranges.iter().map(|range| range.start.max(bounds.start)..range.end.min(bounds.end));
    cut.filter(|range| !range.is_empty()).collect()
}

fn side(lag: &Lag) -> LogSide {
    LogSide { start: lag.log_start, end: lag.log_end, committed: lag.committed, compared: 0, unproved: 0 }
}
