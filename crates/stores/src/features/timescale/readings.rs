//! Readings into their table.

use std::ops::Range;

use mantis_schemas::ReadingColumns;
use tokio_postgres::Transaction;

use super::write::{Tally, copy};
use crate::{
    codes::refuse_reading,
    postgres::{CopyRows, Failure, StoredIds},
};

const COPY: &str = "COPY staged_readings (series, time_ns, value, quality, arrival_ms) FROM STDIN BINARY";
/// Bytes of a staged row.
const ROW_BYTES: usize = 2 + 5 * 4 + 4 + 8 + 8 + 2 + 8;

/// The bits are compared, because to PostgreSQL -0.0 is 0.0. What was there before has `xmax` set.
const UPSERT: &str = "
    WITH stored AS (
        INSERT INTO readings AS kept (series, time_ns, value, quality, arrival_ms)
        SELECT series, time_ns, value, quality, arrival_ms FROM staged_readings
        ON CONFLICT (series, time_ns) DO UPDATE
            SET value = excluded.value, quality = excluded.quality, arrival_ms = excluded.arrival_ms
            WHERE float8send(kept.value) <> float8send(excluded.value) OR kept.quality <> excluded.quality
        RETURNING xmax = 0 AS is_new
    )
    SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM stored";

/// The last of several values of one time.
const REPLACE: &str = "
    UPDATE readings SET value = staged.value, quality = staged.quality, arrival_ms = staged.arrival_ms
    FROM staged_readings AS staged WHERE readings.series = staged.series AND readings.time_ns = staged.time_ns";

/// Writes readings in order of series and time. Of those with one identity the first goes in and is compared with what was
/// there, the others are compared with each other, and the last of them that differs then replaces it.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    ids: &StoredIds,
    readings: &ReadingColumns,
    rows: Range<usize>,
) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    let (first, last) = ids.with(|ids| stage(ids, readings, rows, &mut tally));
    if first.rows() > 0 {
        let staged = first.rows();
        copy(transaction, COPY, first.finish()).await?;
        let row = transaction.query_one(UPSERT, &[]).await?;
        let count = |index| row.try_get::<_, i64>(index).map(|count| usize::try_from(count).unwrap_or_default());
        let (new, replaced) = (count(0)?, count(1)?);
        tally.written += new;
        tally.conflicts += replaced;
        tally.duplicates += staged.saturating_sub(new + replaced);
    }
    if last.rows() > 0 {
        transaction.execute("DELETE FROM staged_readings", &[]).await?;
        copy(transaction, COPY, last.finish()).await?;
        transaction.execute(REPLACE, &[]).await?;
    }
    Ok(tally)
}

/// The first row of each identity, and the last that differs from the one before it.
fn stage(ids: &[i32], readings: &ReadingColumns, rows: Range<usize>, tally: &mut Tally) -> (CopyRows, CopyRows) {
    let ReadingColumns { series, time_ns, value, quality, arrival_ms } = readings;
    let mut order = Vec::with_capacity(rows.len());
    for row in rows {
        match refuse_reading(time_ns[row], value[row]) {
            Some(reason) => tally.rejected.push((row, reason)),
            None => order.push(row),
        }
    }
    order.sort_by_key(|row| (series[*row], time_ns[*row]));
    let mut first = CopyRows::new(5, order.len() * ROW_BYTES);
    let mut last = CopyRows::new(5, 0);
    let push = |copy: &mut CopyRows, row: usize| {
        copy.row();
        copy.i32(ids.get(series[row].index()).copied().unwrap_or_default());
        copy.i64(time_ns[row]);
        copy.f64(value[row]);
        copy.i16(i16::from(quality[row] as u8));
        copy.i64(arrival_ms[row]);
    };
    for same in order.chunk_by(|row, next| (series[*row], time_ns[*row]) == (series[*next], time_ns[*next])) {
        push(&mut first, same[0]);
        let mut kept = same[0];
        for &row in &same[1..] {
            if value[row].to_bits() == value[kept].to_bits() && quality[row] == quality[kept] {
                tally.duplicates += 1;
            } else {
                tally.conflicts += 1;
                kept = row;
            }
        }
        if kept != same[0] {
            push(&mut last, kept);
        }
    }
    (first, last)
}
