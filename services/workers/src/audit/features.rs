//! The audit of features: computes them again from the log, as the worker does, and matches every row with the store.

use std::{collections::HashMap, hash::BuildHasher, ops::Range, sync::Arc};

use foldhash::fast::FixedState;
use mantis_kafka::{Admin, ClientConfig, Lag, Reader};
use mantis_pipeline::{Columns, Decoder, RecordBatch};
use mantis_schemas::{Feature, Series, SeriesId, SeriesInterner, topics, window_name};
use mantis_stores::features::FeatureReader;
use serde::Serialize;

use super::{
    AuditError, FINDINGS_MAX, Unproved,
    dead_letters::{DeadLetters, Position},
    log,
};
use crate::{
    decode::rows_as_sent,
    features::{self, Counts, FeatureConfig, Offline},
    raw::RecordDecoder,
    sensors::SensorRegistry,
    timescale,
};

/// Rows of features that the log may bring; each takes about 100 bytes of the audit's memory.
const EXPECTED_MAX: usize = 20_000_000;
/// Rows that are computed together.
const ROWS_MAX: usize = 20_000;
const PAGE: usize = 10_000;
const ALL_TIMES: Range<i64> = i64::MIN..i64::MAX;
const HASHER: FixedState = FixedState::with_seed(0x6665_6174);

/// The account of the features worker and the feature store.
#[derive(Debug, Default, Serialize)]
pub struct FeatureAccount {
    /// Always `features`.
    pub store: &'static str,
    /// The consumer group that computes them.
    pub group: &'static str,
    /// Readings below the audited positions by what became of them.
    pub readings: Counts,
    /// Readings that are too late and have no dead letter that says so.
    pub missing_dead_letters: u64,
    /// Readings that are too late and have no dead letter now, of topics whose dead letters no longer begin at their start:
    /// unproved, not wrong.
    pub cut_dead_letters: u64,
    /// Rows that the log brings and the store has, figure by figure.
    pub proved_rows: u64,
    /// Rows that the store may have as they were before, or not yet: of windows that are still open at the audited positions, and
    /// all that change while the store is behind.
    pub open_rows: u64,
    /// Rows that the store has from records behind the audited positions.
    pub later_rows: u64,
    /// Rows of windows that are not configured now.
    pub other_rows: u64,
    /// Rows that the store's retention has deleted.
    pub trimmed: u64,
    /// Rows that the store should have and does not.
    pub missing: u64,
    /// Rows whose figures, or what they are of, differ.
    pub different: u64,
    /// Rows that the store has and no record explains.
    pub unexplained: u64,
    /// Records that the features worker, or the one of the feature store behind it, has not processed yet.
    pub behind: u64,
    /// What can no longer be computed.
    pub unproved: Vec<Unproved>,
    /// The first rows that do not agree.
    pub findings: Vec<FeatureFinding>,
    /// True when every row is as it must be.
    pub adds_up: bool,
    /// True when, besides, nothing is unproved.
    pub proved: bool,
}

/// A row that does not agree.
#[derive(Debug, Serialize)]
pub struct FeatureFinding {
    /// What is wrong: missing, different, unexplained, or a late reading without a dead letter.
    pub what: &'static str,
    /// The asset.
    pub asset: String,
    /// The sensor.
    pub sensor: String,
    /// The window, or the position and row of the reading.
    pub at: String,
}

/// What the audit is given.
pub struct FeatureAudit<'a, R> {
    /// How Kafka is reached.
    pub client: &'a ClientConfig,
    /// The feature store.
    pub store: &'a R,
    /// What the worker is configured to compute.
    pub config: &'a FeatureConfig,
    /// What is declared of sensors.
    pub sensors: SensorRegistry,
    /// Decodes as the worker does.
    pub decoder: RecordDecoder,
    /// Series that log and store may have together.
    pub series_max: usize,
}

/// Series, length and start of a window.
type Identity = (SeriesId, i64, i64);

/// A row that the log brings.
#[derive(Clone, Copy)]
struct Expected {
    rank: (i32, i64, i64, bool),
    hash: u64,
    provisional: bool,
    /// Which partition it comes from.
    source: u32,
}

/// The rows that the log brings.
struct Book {
    names: SeriesInterner,
    series_max: usize,
    expected: HashMap<Identity, Expected, FixedState>,
}

impl Book {
    /// Enters rows; of those of a window the one with the greatest rank stays.
    fn enter(&mut self, source: u32, published: &mut Vec<(Arc<Series>, Feature)>) -> Result<(), AuditError> {
        for (series, row) in published.drain(..) {
            let id = self.number(&series)?;
            let entry = Expected { rank: row.rank(), hash: hash(&row), provisional: row.provisional, source };
            let known = self.expected.entry((id, row.window_ns, row.start_ns)).or_insert(entry);
            if known.rank < entry.rank {
                *known = entry;
            }
        }
        if self.expected.len() > EXPECTED_MAX { Err(AuditError::TooManyFeatures(EXPECTED_MAX)) } else { Ok(()) }
    }

    fn number(&mut self, series: &Series) -> Result<SeriesId, AuditError> {
        self.names.intern(&series.asset, &series.sensor).ok_or(AuditError::TooManySeries(self.series_max))
    }
}

impl<R: FeatureReader> FeatureAudit<'_, R> {
    /// Audits the rows of all windows.
    ///
    /// # Errors
    /// Log or store could not be read; what does not add up is no error but part of the account.
    pub async fn run(mut self) -> Result<FeatureAccount, AuditError> {
        let mut account = FeatureAccount { store: "features", group: features::GROUP, ..FeatureAccount::default() };
        let admin = Admin::new(self.client)?;
        let lags = admin.lag(features::GROUP, &features::TOPICS).await?;
        let store_behind = self.store_behind(&admin).await?;
        account.behind += store_behind;
        let letters = log::dead_letters(self.client, &admin, features::GROUP, &features::TOPICS).await?;
        let mut book = Book {
            names: SeriesInterner::new(self.series_max),
            series_max: self.series_max,
            expected: HashMap::with_hasher(HASHER),
        };
        for (source, lag) in lags.iter().enumerate() {
            self.compute(lag, source as u32, &letters, &mut book, &mut account).await?;
        }
        let cut = !account.unproved.is_empty();
        self.compare(&lags, store_behind > 0, cut, &mut book, &mut account).await?;
        self.count_missing(&book, store_behind > 0, cut, &mut account).await?;
        let wrong = account.missing + account.different + account.unexplained + account.missing_dead_letters;
        let Counts { readings, good, uncertain, bad, duplicates, late, .. } = account.readings;
        account.adds_up = wrong == 0 && readings == good + uncertain + bad + duplicates + late;
        account.proved = account.adds_up && account.unproved.is_empty() && account.trimmed == 0 && account.cut_dead_letters == 0;
        Ok(account)
    }

    /// Records that the features worker, or the one of the feature store behind it, has not processed yet.
    ///
    /// # Errors
    /// Kafka or the store could not be asked.
    pub async fn behind(&self, admin: &Admin) -> Result<u64, AuditError> {
        // First the worker: what it emits in between counts with the store.
        let lags = admin.lag(features::GROUP, &features::TOPICS).await?;
        let behind = |lag: &Lag| (lag.log_end - lag.committed.unwrap_or(lag.log_start)).max(0).unsigned_abs();
        Ok(lags.iter().map(behind).sum::<u64>() + self.store_behind(admin).await?)
    }

    /// Records of features that the store has not taken yet.
    async fn store_behind(&self, admin: &Admin) -> Result<u64, AuditError> {
        let cluster_id = admin.cluster_id().await?;
        let ledger = self.store.ledger(&cluster_id, timescale::GROUP).await?;
        let mut behind = 0;
        for lag in admin.lag(timescale::GROUP, &[topics::FEATURES]).await? {
            let here = |entry: &&(String, i32, i64)| entry.0 == topics::FEATURES && entry.1 == lag.partition.partition;
            let next = ledger.iter().find(here).map_or(lag.log_start, |entry| entry.2);
            behind += (lag.log_end - next).max(0).unsigned_abs();
        }
        Ok(behind)
    }

    /// Computes the features of one partition up to the position that the worker has committed.
    async fn compute(
        &mut self,
        lag: &Lag,
        source: u32,
        letters: &DeadLetters,
        book: &mut Book,
        account: &mut FeatureAccount,
    ) -> Result<(), AuditError> {
        let to = lag.committed.unwrap_or(lag.log_start).min(lag.log_end);
        account.behind += (lag.log_end - to).max(0).unsigned_abs();
        let mut unproved = |from, to, why: &str| {
            let (topic, partition) = (lag.partition.topic.to_string(), lag.partition.partition);
            account.unproved.push(Unproved { topic, partition, from, to, why: why.to_owned() });
        };
        if lag.log_start > 0 {
            let why = "the log no longer has these records, so the features that they are in cannot be computed again";
            unproved(0, lag.log_start, why);
        }
        if let Some(committed) = lag.committed.filter(|committed| *committed > lag.log_end) {
            let why = "the worker has passed these positions but the log does not have them: the log was cut or replaced";
            unproved(lag.log_end, committed, why);
        }
        let mut offline = Offline::new(self.config.clone(), self.sensors.clone());
        let mut columns = self.decoder.columns(&lag.partition.topic);
        let (mut offsets, mut numbers, mut rejects, mut published) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut reader = Reader::open(self.client, lag.partition.clone(), lag.log_start, to)?;
        let mut next = lag.log_start;
        loop {
            let batch = match reader.next().await {
                Ok(batch) => batch,
                Err(error) => {
                    account.unproved.push(log::unreadable(&lag.partition, next..to, &error));
                    None
                }
            };
            for record in batch.iter().flat_map(|batch| (0..batch.len()).map(|index| batch.record(index))) {
                next = record.offset + 1;
                let before = columns.rows();
                rejects.clear();
                if self.decoder.decode(&record, &mut columns, &mut rejects).is_err() {
                    columns.truncate(before);
                }
                offsets.resize(columns.rows(), record.offset);
                numbers.extend(rows_as_sent(columns.rows() - before, &rejects));
            }
            if columns.rows() >= ROWS_MAX || batch.is_none() {
                let names = self.decoder.series().read().clone();
                for row in offline.take(&columns, &offsets, &names, &mut published) {
                    self.check_letter(lag, offsets[row], numbers[row], letters, account);
                }
                columns.truncate(0);
                offsets.clear();
                numbers.clear();
            }
            if batch.is_none() {
                break;
            }
            book.enter(source, &mut published)?;
        }
        account.readings.add(&offline.finish(&mut published));
        book.enter(source, &mut published)
    }

    /// A reading that is too late is a row of a dead letter.
    fn check_letter(&self, lag: &Lag, offset: i64, row: u32, letters: &DeadLetters, account: &mut FeatureAccount) {
        let found = letters.refused.get(&lag.partition).is_some_and(|refused| refused.has_row(offset, row));
        if found {
            return;
        }
        if letters.cut.contains(&*lag.partition.topic) {
            account.cut_dead_letters += 1;
        } else {
            account.missing_dead_letters += 1;
            let partition = lag.partition.partition;
            let position = Position { topic: lag.partition.topic.to_string(), partition, offset };
            note(account, "late reading without a dead letter", "", "", format!("{position} row {row}"));
        }
    }

    /// Matches the store's rows; what is left over in `expected` has no row.
    async fn compare(
        &mut self,
        lags: &[Lag],
        store_behind: bool,
        cut: bool,
        book: &mut Book,
        account: &mut FeatureAccount,
    ) -> Result<(), AuditError> {
        let committed_max = lags.iter().filter_map(|lag| lag.committed).max().unwrap_or(0);
        for series in self.store.series().await? {
            let id = book.number(&series)?;
            for window_ns in self.store.windows(&series).await? {
                let configured = window_ns == 0 || self.config.windows_ns.contains(&window_ns);
                let mut times = ALL_TIMES;
                loop {
                    let page = self.store.features(&series, window_ns, times.clone(), PAGE).await?;
                    let Some(last) = page.last() else { break };
                    times.start = last.start_ns.saturating_add(1);
                    if !configured {
                        account.other_rows += page.len() as u64;
                        continue;
                    }
                    for row in &page {
                        let found = book.expected.remove(&(id, window_ns, row.start_ns));
                        let committed = found
                            .and_then(|found| lags.get(found.source as usize))
                            .map_or(committed_max, |lag| lag.committed.unwrap_or(0));
                        let what = match found {
                            Some(found) if found.rank == row.rank() && found.hash == hash(row) => {
                                account.proved_rows += 1;
                                continue;
                            }
                            _ if row.revision >= committed => {
                                account.later_rows += 1;
                                continue;
                            }
                            Some(found) if found.provisional && is_final_of(row, &found) => {
                                account.later_rows += 1;
                                continue;
                            }
                            Some(found) if (found.provisional || store_behind) && row.rank() < found.rank => {
                                account.open_rows += 1;
                                continue;
                            }
                            _ if cut => continue,
                            Some(_) => {
                                account.different += 1;
                                "different"
                            }
                            None => {
                                account.unexplained += 1;
                                "unexplained"
                            }
                        };
                        let at = format!("{} at {}", window_name(window_ns), row.start_ns);
                        note(account, what, &series.asset, &series.sensor, at);
                    }
                }
            }
        }
        Ok(())
    }

    async fn count_missing(
        &self,
        book: &Book,
        store_behind: bool,
        cut: bool,
        account: &mut FeatureAccount,
    ) -> Result<(), AuditError> {
        let retained_from = self.store.retained_from().await?;
        let table = book.names.table();
        for ((id, window_ns, start_ns), row) in &book.expected {
            if row.provisional {
                account.open_rows += 1;
            } else if retained_from.is_some_and(|from| *start_ns < from) {
                account.trimmed += 1;
            } else if !store_behind && !cut {
                account.missing += 1;
                if let Some(series) = table.read().get(id.index()) {
                    let at = format!("{} at {start_ns}", window_name(*window_ns));
                    note(account, "missing", &series.asset, &series.sensor, at);
                }
            }
        }
        Ok(())
    }
}

fn note(account: &mut FeatureAccount, what: &'static str, asset: &str, sensor: &str, at: String) {
    if account.findings.len() < FINDINGS_MAX {
        account.findings.push(FeatureFinding { what, asset: asset.to_owned(), sensor: sensor.to_owned(), at });
    }
}

/// Whether a row is the provisional one that was found, made final by a reading behind its window: the window's own last
/// record, its revision, stays the same.
fn is_final_of(row: &Feature, found: &Expected) -> bool {
    let before = Feature { provisional: true, ..row.clone() };
    !row.provisional && before.rank() == found.rank && hash(&before) == found.hash
}

/// Hash of what a row says, but for when it was computed.
fn hash(row: &Feature) -> u64 {
    let figures: Vec<u64> = row.figures.iter().map(|(_, value)| value.map_or(u64::MAX, f64::to_bits)).collect();
    HASHER.hash_one((
        (row.end_ns, row.count, row.uncertain, row.bad),
        (row.coverage.map(f64::to_bits), row.exact, row.provisional),
        figures,
        &row.extras,
    ))
}
