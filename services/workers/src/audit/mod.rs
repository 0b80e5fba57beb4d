//! The audit: proves by position that every record of the log is in the store or in the dead letters.
//!
//! It reads the log again, decodes it as the worker did, and matches every row with the store by identity and content:
//! records in = decoded + dead-lettered; rows = distinct stored + duplicates + conflicts + rejected + left out. Left out are
//! rows that the worker's rule does not write, and nothing else. The store is read while workers go on writing, so the log is
//! read beyond the audited position too: rows there may be stored already.
//!
//! It decodes with the configuration of today. Where that differs from the one under which a record was processed, the two may
//! decide differently: rows that a narrower range of times or fewer schemas refuse now have no dead letter, and readings of
//! sensors that were declared or taken out since are missing or unexplained; they do not add up. What has a dead letter counts
//! as refused, whatever today's configuration makes of it.

mod account;
mod book;
mod dead_letters;
mod features;
mod log;
mod store;

use std::{collections::HashMap, ops::Range};

pub use account::{Account, Finding, FindingKind, PartitionAccount, Unproved};
pub use book::{Matched, Wrong};
pub use dead_letters::Position;
pub use features::{FeatureAccount, FeatureAudit, FeatureFinding};
use mantis_kafka::{Admin, ClientConfig};
use mantis_pipeline::{Fault, TopicPartition};
use mantis_schemas::{Frame, Series, SeriesId, SeriesInterner};
use mantis_stores::{
    ReadingReader,
    raw::{StoredFrame, StoredReading},
};
pub use store::{AuditedStore, RawRows, SlowReadings};

use self::{
    book::{Book, Entry, Kind, Side, hash_frame, hash_reading},
    dead_letters::Refused,
    log::LogReader,
};
use crate::{raw::RecordDecoder, sensors::Declared};

const FINDINGS_MAX: usize = 100;
const READINGS_PAGE: usize = 50_000;
const FRAMES_PAGE: usize = 16;
const ALL_TIMES: Range<i64> = i64::MIN..i64::MAX;

/// The audit could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The log could not be read.
    #[error("the log cannot be read: {0}")]
    Kafka(#[from] mantis_kafka::Error),
    /// The store could not be read.
    #[error("the store cannot be read: {0}")]
    Store(#[from] Fault),
    /// The temporary files of the audit could not be written or read.
    #[error("the audit's temporary files failed ({0}): free space in the temporary folder, or set TMPDIR")]
    Spill(#[from] std::io::Error),
    /// There is nothing to audit.
    #[error("the cluster has none of the topics {0}: name another one with --brokers")]
    NoTopics(String),
    /// More series than the audit may know.
    #[error("log and store have more than {0} series: raise decode.series_max")]
    TooManySeries(usize),
    /// More rows of features than the audit may hold.
    #[error("the log brings more than {0} rows of features: audit more often than that, or keep less of the log")]
    TooManyFeatures(usize),
}

/// A partition with the offsets that frame its audit.
struct Frontier {
    partition: TopicPartition,
    log_start: i64,
    /// The store is held to account for what is below.
    audited_to: i64,
}

/// Audits what a worker has written into its store.
///
/// # Errors
/// Log or store could not be read; what does not add up is no error but part of the account.
pub async fn audit<S: AuditedStore>(
    client: &ClientConfig,
    store: &S,
    mut decoder: RecordDecoder,
    series_max: usize,
) -> Result<Account, AuditError> {
    let admin = Admin::new(client)?;
    let mut account =
        Account { store: S::NAME, cluster_id: admin.cluster_id().await?, group: S::GROUP.to_owned(), ..Account::default() };
    // First the positions, then the store, then the log's end: what the store has is then surely in the log that is read.
    let frontiers = frontiers(&admin, store, &mut account).await?;
    if frontiers.is_empty() {
        return Err(AuditError::NoTopics(S::TOPICS.join(", ")));
    }
    let mut names = Names { interner: SeriesInterner::new(series_max), series_max };
    let mut book = Book::new()?;
    enter_store(store, &mut names, &mut book).await?;
    let letters = log::dead_letters(client, &admin, S::GROUP, S::TOPICS).await?;
    let mut registered = store.registered().map(|sensors| Declared::new(sensors.clone(), decoder.series()));
    for (index, frontier) in frontiers.iter().enumerate() {
        let (log_start, log_end) = admin.watermarks(&frontier.partition).await?;
        if log_start > frontier.log_start {
            account.unproved.push(Unproved {
                topic: frontier.partition.topic.to_string(),
                partition: frontier.partition.partition,
                from: frontier.log_start,
                to: log_start,
                why: "retention removed these records while the audit ran: audit again".to_owned(),
            });
        }
        let none = Refused::default();
        let mut reader = LogReader {
            client,
            partition: &frontier.partition,
            number: index as u32,
            audited_to: frontier.audited_to,
            refused: letters.refused.get(&frontier.partition).unwrap_or(&none),
            letters_cut: letters.cut.contains(&*frontier.partition.topic),
            decoder: &mut decoder,
            registered: registered.as_mut(),
            names: &mut names,
            book: &mut book,
            account: &mut account,
        };
        reader.read(frontier.log_start.max(log_start), log_end).await?;
    }
    close(book, store.reader().retained_from().await?, &frontiers, &names, &mut account)?;
    account.conclude();
    Ok(account)
}

async fn frontiers<S: AuditedStore>(admin: &Admin, store: &S, account: &mut Account) -> Result<Vec<Frontier>, AuditError> {
    let ledger: HashMap<(String, i32), i64> = store
        .reader()
        .ledger(&account.cluster_id, S::GROUP)
        .await?
        .into_iter()
        .map(|(topic, partition, next)| ((topic, partition), next))
        .collect();
    let mut frontiers = Vec::new();
    for lag in admin.lag(S::GROUP, S::TOPICS).await? {
        let (topic, number) = (lag.partition.topic.to_string(), lag.partition.partition);
        let committed = lag.committed.unwrap_or(0);
        let audited_to = ledger.get(&(topic.clone(), number)).copied().unwrap_or(committed);
        let mut unproved = |from: i64, to: i64, why: &str| {
            account.unproved.push(Unproved { topic: topic.clone(), partition: number, from, to, why: why.to_owned() });
        };
        if lag.log_start > 0 {
            unproved(
                0,
                lag.log_start,
                "the log no longer has these records (retention, or they were deleted): audit more often than retention removes",
            );
        }
        if audited_to < committed {
            unproved(
                audited_to,
                committed,
                "the group has committed these records but the store's ledger has not passed them: restart the worker, it reads them again",
            );
        }
        if audited_to > lag.log_end {
            unproved(
                lag.log_end,
                audited_to,
                "the store has passed these positions but the log does not have them: the log was cut or replaced",
            );
        }
        frontiers.push(Frontier { partition: lag.partition, log_start: lag.log_start, audited_to });
    }
    Ok(frontiers)
}

/// The audit's own numbers for series, over log and store.
struct Names {
    interner: SeriesInterner,
    series_max: usize,
}

impl Names {
    fn number(&mut self, series: &Series) -> Result<SeriesId, AuditError> {
        self.interner.intern(&series.asset, &series.sensor).ok_or(AuditError::TooManySeries(self.series_max))
    }
}

async fn enter_store(store: &impl AuditedStore, names: &mut Names, book: &mut Book) -> Result<(), AuditError> {
    for series in store.reader().series().await? {
        let id = names.number(&series)?;
        let stored =
            |kind, time_ns, hash| Entry { series: id, kind, time_ns, side: Side::Stored, partition: 0, offset: 0, row: 0, hash };
        let mut times = ALL_TIMES;
        loop {
            let page = store.reader().readings(&series, times.clone(), READINGS_PAGE).await?;
            for StoredReading { time_ns, value, quality, .. } in &page {
                book.add(&stored(Kind::Reading, *time_ns, hash_reading(*value, *quality)))?;
            }
            let Some(last) = page.last() else { break };
            times.start = last.time_ns + 1;
        }
        times = ALL_TIMES;
        loop {
            let page = store.frames(&series, times.clone(), FRAMES_PAGE).await?;
            for frame in &page {
                book.add(&stored(Kind::Frame, frame.start_ns, hash_frame(&borrowed(frame, id))))?;
            }
            let Some(last) = page.last() else { break };
            times.start = last.start_ns + 1;
        }
    }
    Ok(())
}

fn borrowed(frame: &StoredFrame, series: SeriesId) -> Frame<'_> {
    Frame {
        series,
        start_ns: frame.start_ns,
        sample_rate_hz: frame.sample_rate_hz,
        format: frame.format,
        scale: frame.scale,
        quality: frame.quality,
        arrival_ms: frame.arrival_ms,
        samples: &frame.samples,
    }
}

fn close(
    book: Book,
    retained_from_ns: Option<i64>,
    frontiers: &[Frontier],
    names: &Names,
    account: &mut Account,
) -> Result<(), AuditError> {
    let table = names.interner.table();
    let table = table.read();
    let findings = &mut account.findings;
    account.matched = book.close(retained_from_ns, |discrepancy| {
        if findings.len() < FINDINGS_MAX {
            let entry = discrepancy.entry;
            let position = frontiers.get(entry.partition as usize).filter(|_| entry.side != Side::Stored);
            findings.push(Finding {
                what: FindingKind::Row(discrepancy.what),
                series: table.get(entry.series.index()).map(|s| (s.asset.to_string(), s.sensor.to_string())),
                time_ns: Some(entry.time_ns),
                position: position.map(|f| Position {
                    topic: f.partition.topic.to_string(),
                    partition: f.partition.partition,
                    offset: entry.offset,
                }),
            });
        }
    })?;
    Ok(())
}
