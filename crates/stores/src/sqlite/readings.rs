//! The table of readings, as several stores have it.

use std::ops::Range;

use mantis_schemas::{ReadingColumns, Series};
use rusqlite::{Connection, OptionalExtension, Row, Statement, Transaction, params};

use super::{RowWriter, WriteError, code, limit_of, series_id, writer::Tally};
use crate::{
    codes::{quality, refuse_reading},
    raw::StoredReading,
};

/// Rows per INSERT, largest first: the readings of a series go in with few statements.
const RUN_ROWS: [usize; 3] = [25, 5, 1];

/// Writes readings series by series, each in its order, so that the last of a conflict wins and the pages of a series are
/// touched once per batch. `offset` is the index of the first in its batch.
pub(crate) fn write(writer: &mut RowWriter<'_>, readings: &ReadingColumns, offset: usize) -> Result<(), WriteError> {
    let RowWriter { transaction, ids, tally } = writer;
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

/// Readings of a series in order of time, at most `limit`.
pub(crate) fn read(
    connection: &Connection,
    series: &Series,
    time_ns: &Range<i64>,
    limit: usize,
) -> rusqlite::Result<Vec<StoredReading>> {
    let Some(id) = series_id(connection, series)? else { return Ok(Vec::new()) };
    connection
        .prepare(
            "SELECT time_ns, value, quality, arrival_ms FROM readings
             WHERE series = ?1 AND time_ns >= ?2 AND time_ns < ?3 ORDER BY time_ns LIMIT ?4",
        )?
        .query_map(params![id, time_ns.start, time_ns.end, limit_of(limit)], reading)?
        .collect()
}

/// The newest reading of a series.
pub(crate) fn newest_of(connection: &Connection, series: &Series) -> rusqlite::Result<Option<StoredReading>> {
    let Some(id) = series_id(connection, series)? else { return Ok(None) };
    let newest = "SELECT time_ns, value, quality, arrival_ms FROM readings WHERE series = ?1 ORDER BY time_ns DESC LIMIT 1";
    connection.query_row(newest, [id], reading).optional()
}

/// The newest reading of each series behind `after`, in order of (asset, sensor), at most `limit`.
pub(crate) fn newest(
    connection: &Connection,
    after: Option<&Series>,
    limit: usize,
) -> rusqlite::Result<Vec<(Series, StoredReading)>> {
    // No name is empty, so every series lies behind the empty ones.
    let (asset, sensor) = after.map_or(("", ""), |series| (&series.asset, &series.sensor));
    connection
        .prepare(
            "SELECT time_ns, value, quality, arrival_ms, asset, sensor FROM series JOIN readings ON series = id
             WHERE (asset, sensor) > (?1, ?2) AND time_ns = (SELECT max(time_ns) FROM readings WHERE series = id)
             ORDER BY asset, sensor LIMIT ?3",
        )?
        .query_map(params![asset, sensor, limit_of(limit)], |row| {
            Ok((Series { asset: row.get(4)?, sensor: row.get(5)? }, reading(row)?))
        })?
        .collect()
}

/// A reading from its columns time, value, quality and arrival, the first of the row.
fn reading(row: &Row<'_>) -> rusqlite::Result<StoredReading> {
    Ok(StoredReading { time_ns: row.get(0)?, value: row.get(1)?, quality: code(row, 2, quality)?, arrival_ms: row.get(3)? })
}
