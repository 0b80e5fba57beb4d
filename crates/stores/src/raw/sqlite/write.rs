//! Writes: readings and frames.

use std::path::Path;

use mantis_pipeline::{Assigned, Fault, Moved, Outcome, Part, Sink, Span, Start};
use mantis_schemas::{Frame, FrameColumns, SeriesTable};
use rusqlite::{Transaction, params};

use super::{KIND, LedgerIdentity, OpenError, Retention, SqliteConfig, Trimmed, retention};
use crate::{
    raw::{RawColumns, codes::refuse_frame},
    sqlite::{RowWriter, SqliteWriter, WriteError, readings},
};

/// The embedded raw store as the road's sink. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct SqliteRaw(SqliteWriter);

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
        Ok(Self(SqliteWriter::open(path.as_ref(), &KIND, series, identity, config)?))
    }

    /// Deletes what a retention does not keep, oldest first, in transactions of bounded size between which writes go on.
    /// Space that becomes free is used again; the file does not shrink.
    ///
    /// # Errors
    /// As a write. What was deleted until then stays deleted, and is on record.
    pub async fn retain(&self, retention: Retention) -> Result<Trimmed, Fault> {
        let mut trimmed = Trimmed::default();
        loop {
            let step = self.0.blocking(move |connection| retention::trim_some(connection, retention)).await?;
            trimmed.readings += step.trimmed.readings;
            trimmed.frames += step.trimmed.frames;
            if step.done {
                return Ok(trimmed);
            }
        }
    }
}

impl Sink for SqliteRaw {
    type Columns = RawColumns;

    async fn start(&self, assigned: &[Assigned]) -> Result<Vec<Start>, Fault> {
        self.0.start(assigned).await
    }

    async fn write(&self, part: Part<'_, RawColumns>) -> Result<Outcome, Fault> {
        // The writer's thread outlives this call if it is dropped, so it gets its own rows: a copy costs a few ns per
        // reading, the insertion about a µs.
        let Some(rows) = part.columns.copy(part.rows.clone()) else {
            return Err(Fault::Fatal {
                reason: format!("rows {:?} are not in the batch: this is a defect of the road", part.rows),
            });
        };
        let offset = part.rows.start;
        let write = move |writer: &mut RowWriter<'_>| match &rows {
            RawColumns::Readings(readings) => readings::write(writer, readings, offset),
            RawColumns::Frames(frames) => write_frames(writer, frames, offset),
        };
        self.0.write(part.spans, part.last, write).await
    }

    async fn advance(&self, spans: &[Span]) -> Result<Option<Vec<Moved>>, Fault> {
        self.0.advance(spans).await
    }
}

/// Writes frames in their order, so that the last of a conflict wins.
fn write_frames(writer: &mut RowWriter<'_>, frames: &FrameColumns, offset: usize) -> Result<(), WriteError> {
    let RowWriter { transaction, ids, tally } = writer;
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
    use mantis_pipeline::TopicPartition;
    use mantis_schemas::{Quality, ReadingColumns, SeriesInterner};
    use rusqlite::Connection;

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
            let bound = move |connection: &mut Connection| {
                connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
                Ok(())
            };
            sink.0.blocking(bound).await.unwrap();
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
