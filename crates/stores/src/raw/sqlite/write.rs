//! Writes: one connection, one transaction per write, on a blocking thread.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use mantis_pipeline::{Assigned, Fault, Moved, Outcome, Part, Reason, Sink, Span, Start, TopicPartition};
use mantis_schemas::{Frame, FrameColumns, ReadingColumns, SeriesId, SeriesTable};
use rusqlite::{Connection, OptionalExtension, Statement, Transaction, TransactionBehavior, params};
use tokio::sync::Mutex;

use super::{
    LedgerIdentity, OpenError, Retention, SqliteConfig, Trimmed,
    encode::{refuse_frame, refuse_reading},
    fault, retention, schema,
};
use crate::raw::RawColumns;

/// Rows per INSERT, largest first: the readings of a series go in with few statements.
const RUN_ROWS: [usize; 3] = [25, 5, 1];

/// The embedded raw store as the road's sink. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct SqliteRaw {
    // One write at a time, so at most one copy of a part exists outside of the road's own bound.
    writer: Arc<Mutex<Writer>>,
    path: Arc<Path>,
}

impl SqliteRaw {
    /// Opens the store at `path`, makes it where there is none, and brings an older one up to date.
    ///
    /// `series` are the names behind the ids of the rows that will be written.
    ///
    /// # Errors
    /// The file cannot be opened, is not a raw store, or was written by a newer program.
    pub fn open(
        path: impl AsRef<Path>,
        series: SeriesTable,
        identity: LedgerIdentity,
        config: SqliteConfig,
    ) -> Result<Self, OpenError> {
        let path: Arc<Path> = path.as_ref().into();
        let connection = schema::open_writer(&path, &config)?;
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        let writer = Writer { connection, wal: wal.into(), series, identity, config, stored_ids: Vec::new() };
        Ok(Self { writer: Arc::new(Mutex::new(writer)), path })
    }

    /// Deletes what a retention does not keep, oldest first, in transactions of bounded size between which writes go on.
    /// Space that becomes free is used again; the file does not shrink.
    ///
    /// # Errors
    /// As a write. What was deleted until then stays deleted, and is on record.
    pub async fn retain(&self, retention: Retention) -> Result<Trimmed, Fault> {
        let mut trimmed = Trimmed::default();
        loop {
            let step = self.blocking(move |writer| retention::trim_some(&mut writer.connection, retention)).await?;
            trimmed.readings += step.trimmed.readings;
            trimmed.frames += step.trimmed.frames;
            if step.done {
                return Ok(trimmed);
            }
        }
    }

    /// Runs `work` with the writing connection where blocking harms no one. Work that has begun ends, even if the
    /// caller is gone.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, Fault> {
        let mut writer = self.writer.clone().lock_owned().await;
        let ended = tokio::task::spawn_blocking(move || {
            let ended = work(&mut writer);
            if ended.is_err() {
                // Ids that the transaction made are gone with it.
                writer.stored_ids.clear();
            }
            ended
        })
        .await;
        match ended {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(WriteError::Fault(fault))) => Err(fault),
            Ok(Err(WriteError::Sqlite(error))) => Err(fault(&self.path, &error)),
            Err(error) => Err(Fault::retry(format!("a write to {} was cut off ({error})", self.path.display()))),
        }
    }
}

impl Sink for SqliteRaw {
    type Columns = RawColumns;

    /// Where the file ends. A partition that it knows nothing of begins at the log's start and is on record from then.
    async fn start(&self, assigned: &[Assigned]) -> Result<Vec<Start>, Fault> {
        let assigned = assigned.to_vec();
        self.blocking(move |writer| writer.start(&assigned)).await
    }

    async fn write(&self, part: Part<'_, RawColumns>) -> Result<Outcome, Fault> {
        // The writer's thread outlives this call if it is dropped, so it gets its own rows: a copy costs a few ns per
        // reading, the insertion about a µs.
        let Some(rows) = part.columns.copy(part.rows.clone()) else {
            return Err(Fault::Fatal {
                reason: format!("rows {:?} are not in the batch: this is a defect of the road", part.rows),
            });
        };
        let (offset, spans, last) = (part.rows.start, part.spans.to_vec(), part.last);
        self.blocking(move |writer| writer.write(&rows, offset, &spans, last)).await
    }

    async fn advance(&self, spans: &[Span]) -> Result<Option<Vec<Moved>>, Fault> {
        let spans = spans.to_vec();
        self.blocking(move |writer| writer.advance(&spans)).await
    }
}

/// How a transaction failed.
#[derive(Debug)]
pub(super) enum WriteError {
    Sqlite(rusqlite::Error),
    Fault(Fault),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

struct Writer {
    connection: Connection,
    wal: PathBuf,
    series: SeriesTable,
    identity: LedgerIdentity,
    config: SqliteConfig,
    // The file's id of each series of this process; 0 is not known yet.
    stored_ids: Vec<i64>,
}

impl Writer {
    fn start(&mut self, assigned: &[Assigned]) -> Result<Vec<Start>, WriteError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let ledger = Ledger { transaction: &transaction, identity: &self.identity };
        let mut starts = Vec::with_capacity(assigned.len());
        for assigned in assigned {
            let next = match ledger.next(&assigned.partition)? {
                Some(next) => next,
                None => {
                    ledger.set(&assigned.partition, assigned.log_start)?;
                    assigned.log_start
                }
            };
            starts.push(Start::At(next));
        }
        transaction.commit()?;
        Ok(starts)
    }

    fn write(&mut self, rows: &RawColumns, offset: usize, spans: &[Span], last: bool) -> Result<Outcome, WriteError> {
        self.bound_wal()?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let ledger = Ledger { transaction: &transaction, identity: &self.identity };
        if let Some(moved) = ledger.moved(spans)? {
            return Ok(Outcome::Moved(moved));
        }
        let mut ids = StoredIds { transaction: &transaction, series: &self.series, known: &mut self.stored_ids };
        let mut tally = Tally::default();
        match rows {
            RawColumns::Readings(readings) => write_readings(&transaction, &mut ids, readings, offset, &mut tally)?,
            RawColumns::Frames(frames) => write_frames(&transaction, &mut ids, frames, offset, &mut tally)?,
        }
        let advanced = last && tally.rejected.is_empty();
        if advanced {
            for span in spans {
                ledger.set(&span.partition, span.next)?;
            }
        }
        transaction.commit()?;
        let Tally { written, duplicates, conflicts, rejected } = tally;
        Ok(Outcome::Ended { written, duplicates, conflicts, rejected, advanced })
    }

    fn advance(&mut self, spans: &[Span]) -> Result<Option<Vec<Moved>>, WriteError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let ledger = Ledger { transaction: &transaction, identity: &self.identity };
        let mut ahead = Vec::new();
        for span in spans {
            // Being at the end of the span already is what the caller wants: an earlier call got through unseen.
            if ledger.require(&span.partition)? != span.next {
                ahead.push(span.clone());
            }
        }
        let moved = ledger.moved(&ahead)?;
        if moved.is_none() {
            for span in &ahead {
                ledger.set(&span.partition, span.next)?;
            }
            transaction.commit()?;
        }
        Ok(moved)
    }

    /// A reader that stays in one transaction keeps the log from being carried over. It may grow up to its bound.
    fn bound_wal(&self) -> Result<(), WriteError> {
        let bytes = || std::fs::metadata(&self.wal).map_or(0, |wal| wal.len());
        if bytes() <= self.config.wal_bytes_max {
            return Ok(());
        }
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        if bytes() <= self.config.wal_bytes_max {
            return Ok(());
        }
        Err(WriteError::Fault(Fault::retry(format!(
            "{} has grown beyond {} bytes because another program reads the store in one long transaction: nothing is taken until that program is done",
            self.wal.display(),
            self.config.wal_bytes_max
        ))))
    }
}

/// The positions up to which the file holds everything.
struct Ledger<'a> {
    transaction: &'a Transaction<'a>,
    identity: &'a LedgerIdentity,
}

impl Ledger<'_> {
    fn next(&self, partition: &TopicPartition) -> rusqlite::Result<Option<i64>> {
        let LedgerIdentity { cluster_id, group } = self.identity;
        self.transaction
            .query_row(
                "SELECT next_offset FROM ledger WHERE cluster_id = ?1 AND consumer_group = ?2 AND topic = ?3 AND partition = ?4",
                params![cluster_id, group, &*partition.topic, partition.partition],
                |row| row.get(0),
            )
            .optional()
    }

    fn require(&self, partition: &TopicPartition) -> Result<i64, WriteError> {
        self.next(partition)?.ok_or_else(|| {
            WriteError::Fault(Fault::Fatal {
                reason: format!(
                    "the raw store has no position for {partition}, although it was started: the file was changed from outside; restart the worker"
                ),
            })
        })
    }

    fn set(&self, partition: &TopicPartition, next: i64) -> rusqlite::Result<()> {
        let LedgerIdentity { cluster_id, group } = self.identity;
        self.transaction.execute(
            "INSERT INTO ledger (cluster_id, consumer_group, topic, partition, next_offset) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT DO UPDATE SET next_offset = excluded.next_offset",
            params![cluster_id, group, &*partition.topic, partition.partition, next],
        )?;
        Ok(())
    }

    /// Where to go on if another owner wrote since the spans were read, so that a zombie changes nothing.
    ///
    /// A ledger *before* a span is no sign of that: offsets without records (transaction markers, compaction, a
    /// retention gap that the road has reported) lie between, and writes of a partition come in its order.
    fn moved(&self, spans: &[Span]) -> Result<Option<Vec<Moved>>, WriteError> {
        let mut moved = false;
        let mut positions = Vec::with_capacity(spans.len());
        for span in spans {
            let next = self.require(&span.partition)?;
            moved |= next > span.from;
            positions.push((span.partition.clone(), next.max(span.from)));
        }
        Ok(moved.then_some(positions))
    }
}

/// The file's ids of series, made as they come.
struct StoredIds<'a> {
    transaction: &'a Transaction<'a>,
    series: &'a SeriesTable,
    known: &'a mut Vec<i64>,
}

impl StoredIds<'_> {
    fn get(&mut self, series: SeriesId) -> Result<i64, WriteError> {
        match self.known.get(series.index()) {
            Some(&id) if id != 0 => Ok(id),
            _ => self.make(series),
        }
    }

    fn make(&mut self, series: SeriesId) -> Result<i64, WriteError> {
        let Some(names) = self.series.read().get(series.index()).cloned() else {
            return Err(WriteError::Fault(Fault::Fatal {
                reason: format!("series {} has no name: this is a defect of the decoder", series.0),
            }));
        };
        let select = "SELECT id FROM series WHERE asset = ?1 AND sensor = ?2";
        let found = self.transaction.query_row(select, params![names.asset, names.sensor], |row| row.get(0)).optional()?;
        let id = match found {
            Some(id) => id,
            None => {
                self.transaction
                    .execute("INSERT INTO series (asset, sensor) VALUES (?1, ?2)", params![names.asset, names.sensor])?;
                self.transaction.last_insert_rowid()
            }
        };
        if self.known.len() <= series.index() {
            self.known.resize(series.index() + 1, 0);
        }
        if let Some(slot) = self.known.get_mut(series.index()) {
            *slot = id;
        }
        Ok(id)
    }
}

#[derive(Default)]
struct Tally {
    written: usize,
    duplicates: usize,
    conflicts: usize,
    rejected: Vec<(usize, Reason)>,
}

/// Writes readings series by series, each in its order, so that the last of a conflict wins and the pages of a series are
/// touched once per batch. `offset` is the index of the first in its batch.
fn write_readings(
    transaction: &Transaction<'_>,
    ids: &mut StoredIds<'_>,
    readings: &ReadingColumns,
    offset: usize,
    tally: &mut Tally,
) -> Result<(), WriteError> {
    let mut order = Vec::with_capacity(readings.len());
    for row in 0..readings.len() {
        match refuse_reading(readings.time_ns[row], readings.value[row]) {
            Some(reason) => tally.rejected.push((offset + row, reason)),
            None => order.push(row),
        }
    }
    order.sort_by_key(|row| readings.series[*row]);
    let mut table = ReadingsTable { transaction, readings, inserts: [None, None, None], select: None };
    for run in order.chunk_by(|row, next| readings.series[*row] == readings.series[*next]) {
        let series = ids.get(readings.series[run[0]])?;
        let mut rest = run;
        for (insert, rows) in RUN_ROWS.into_iter().enumerate() {
            let chunks = rest.chunks_exact(rows);
            rest = chunks.remainder();
            for chunk in chunks {
                table.write(insert, series, chunk, tally)?;
            }
        }
    }
    Ok(())
}

struct ReadingsTable<'a> {
    transaction: &'a Transaction<'a>,
    readings: &'a ReadingColumns,
    inserts: [Option<Statement<'a>>; RUN_ROWS.len()],
    select: Option<Statement<'a>>,
}

impl ReadingsTable<'_> {
    /// Writes rows of one series; `insert` is the index of their number in [`RUN_ROWS`].
    fn write(&mut self, insert: usize, series: i64, rows: &[usize], tally: &mut Tally) -> rusqlite::Result<()> {
        let ReadingColumns { time_ns, value, quality, arrival_ms, .. } = self.readings;
        let insert = match &mut self.inserts[insert] {
            Some(insert) => insert,
            empty => empty.insert(self.transaction.prepare(&insert_readings(rows.len()))?),
        };
        insert.raw_bind_parameter(1, series)?;
        let mut parameter = 2;
        for &row in rows {
            insert.raw_bind_parameter(parameter, time_ns[row])?;
            insert.raw_bind_parameter(parameter + 1, value[row])?;
            insert.raw_bind_parameter(parameter + 2, quality[row] as u8)?;
            insert.raw_bind_parameter(parameter + 3, arrival_ms[row])?;
            parameter += 4;
        }
        let written = insert.raw_execute()?;
        tally.written += written;
        if written < rows.len() {
            let conflicts = self.settle(series, rows)?;
            tally.conflicts += conflicts;
            tally.duplicates += rows.len() - written - conflicts;
        }
        Ok(())
    }

    /// Some rows were there before. Goes over all in their order and replaces what differs; returns how many did.
    /// A row that was just inserted is equal to itself.
    fn settle(&mut self, series: i64, rows: &[usize]) -> rusqlite::Result<usize> {
        let ReadingColumns { time_ns, value, quality, arrival_ms, .. } = self.readings;
        let select = match &mut self.select {
            Some(select) => select,
            empty => {
                empty.insert(self.transaction.prepare("SELECT value, quality FROM readings WHERE series = ?1 AND time_ns = ?2")?)
            }
        };
        let mut conflicts = 0;
        for &row in rows {
            let (stored, stored_quality) =
                select.query_row(params![series, time_ns[row]], |found| Ok((found.get::<_, f64>(0)?, found.get::<_, u8>(1)?)))?;
            if stored.to_bits() != value[row].to_bits() || stored_quality != quality[row] as u8 {
                self.transaction.execute(
                    "UPDATE readings SET value = ?3, quality = ?4, arrival_ms = ?5 WHERE series = ?1 AND time_ns = ?2",
                    params![series, time_ns[row], value[row], quality[row] as u8, arrival_ms[row]],
                )?;
                conflicts += 1;
            }
        }
        Ok(conflicts)
    }
}

/// ?1 is the series; then time, value, quality and arrival of each row.
fn insert_readings(rows: usize) -> String {
    let mut sql = String::from("INSERT INTO readings (series, time_ns, value, quality, arrival_ms) VALUES ");
    for row in 0..rows {
        let first = 2 + row * 4;
        let comma = if row == 0 { "" } else { ", " };
        sql += &format!("{comma}(?1, ?{first}, ?{}, ?{}, ?{})", first + 1, first + 2, first + 3);
    }
    sql + " ON CONFLICT DO NOTHING"
}

/// Writes frames in their order, so that the last of a conflict wins.
fn write_frames(
    transaction: &Transaction<'_>,
    ids: &mut StoredIds<'_>,
    frames: &FrameColumns,
    offset: usize,
    tally: &mut Tally,
) -> Result<(), WriteError> {
    let mut insert = transaction.prepare(
        "INSERT INTO frames (series, start_ns, sample_rate_hz, format, scale, quality, arrival_ms, samples)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
    )?;
    for index in 0..frames.len() {
        let frame = frames.frame(index);
        if let Some(reason) = refuse_frame(&frame) {
            tally.rejected.push((offset + index, reason));
            continue;
        }
        let series = ids.get(frame.series)?;
        let inserted = insert.execute(params![
            series,
            frame.start_ns,
            frame.sample_rate_hz,
            frame.format as u8,
            frame.scale,
            frame.quality as u8,
            frame.arrival_ms,
            frame.samples
        ])?;
        if inserted == 1 {
            tally.written += 1;
        } else if frame_is_stored(transaction, series, &frame)? {
            tally.duplicates += 1;
        } else {
            transaction.execute(
                "UPDATE frames SET sample_rate_hz = ?3, format = ?4, scale = ?5, quality = ?6, arrival_ms = ?7, samples = ?8
                 WHERE series = ?1 AND start_ns = ?2",
                params![
                    series,
                    frame.start_ns,
                    frame.sample_rate_hz,
                    frame.format as u8,
                    frame.scale,
                    frame.quality as u8,
                    frame.arrival_ms,
                    frame.samples
                ],
            )?;
            tally.conflicts += 1;
        }
    }
    Ok(())
}

/// True where the store holds the frame as it is, bit by bit; its arrival aside.
fn frame_is_stored(transaction: &Transaction<'_>, series: i64, frame: &Frame<'_>) -> rusqlite::Result<bool> {
    transaction.query_row(
        "SELECT sample_rate_hz, format, scale, quality, samples FROM frames WHERE series = ?1 AND start_ns = ?2",
        params![series, frame.start_ns],
        |row| {
            Ok(row.get::<_, f64>(0)?.to_bits() == frame.sample_rate_hz.to_bits()
                && row.get::<_, u8>(1)? == frame.format as u8
                && row.get::<_, f64>(2)?.to_bits() == frame.scale.to_bits()
                && row.get::<_, u8>(3)? == frame.quality as u8
                && row.get_ref(4)?.as_blob()? == frame.samples)
        },
    )
}

#[cfg(test)]
mod tests {
    use mantis_schemas::{Quality, SeriesInterner};

    use super::*;

    #[tokio::test]
    async fn a_full_disk_stops_the_taking_and_there_is_no_trace_of_what_did_not_fit() {
        let folder = tempfile::tempdir().unwrap();
        let mut interner = SeriesInterner::new(10);
        let identity = LedgerIdentity { cluster_id: "cluster".to_owned(), group: "raw".to_owned() };
        let sink = SqliteRaw::open(folder.path().join("raw.db"), interner.table(), identity, SqliteConfig::default()).unwrap();
        let partition = TopicPartition::new("mantis.readings", 0);
        let assigned = [Assigned { partition: partition.clone(), committed: None, log_start: 0, log_end: 9 }];
        sink.start(&assigned).await.unwrap();
        let rows = 100_000;
        let columns = RawColumns::Readings(ReadingColumns {
            series: vec![interner.intern("pump", "temp").unwrap(); rows],
            time_ns: (0..rows as i64).collect(),
            value: vec![0.1; rows],
            quality: vec![Quality::Good; rows],
            arrival_ms: vec![0; rows],
        });
        let spans = [Span { partition, from: 0, next: 9 }];
        let part = || Part { columns: &columns, rows: 0..rows, spans: &spans, last: true };
        let pages_max = async |pages: i64| {
            sink.writer.lock().await.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
        };

        pages_max(50).await;
        let Err(Fault::Retry { reason, .. }) = sink.write(part()).await else { panic!("the rows do not fit") };
        assert!(reason.contains("is full"), "{reason}");
        assert_eq!(sink.start(&assigned).await.unwrap(), [Start::At(0)]);

        pages_max(1 << 20).await;
        assert!(matches!(sink.write(part()).await, Ok(Outcome::Ended { written: 100_000, advanced: true, .. })));
        assert_eq!(sink.start(&assigned).await.unwrap(), [Start::At(9)]);
    }
}
