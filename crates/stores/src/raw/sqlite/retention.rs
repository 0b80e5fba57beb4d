//! What is kept, and the record of what is not.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::sqlite::WriteError;

/// Readings that one transaction deletes at most, so that writes go on in between.
const TRIM_READINGS_MAX: i64 = 20_000;
/// Frames that one transaction deletes at most; a frame is many pages.
const TRIM_FRAMES_MAX: i64 = 200;

/// By how much of the stored time the bytes' bound moves on at a time.
const TRIM_STEPS: i128 = 64;

/// What to keep. Without a bound everything is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Readings and frames before this source time are deleted, ns since the epoch.
    pub from_ns: Option<i64>,
    /// The oldest readings and frames are deleted until the rest takes no more than this.
    pub bytes_max: Option<u64>,
}

/// What was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Readings.
    pub readings: usize,
    /// Frames.
    pub frames: usize,
}

pub(super) struct Step {
    pub(super) trimmed: Trimmed,
    pub(super) done: bool,
}

/// One transaction's worth. The record of where the store begins moves first, or with the rows: what is missing behind
/// it was lost, what is missing before it was deleted.
pub(super) fn trim_some(connection: &mut Connection, retention: Retention) -> Result<Step, WriteError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let recorded: Option<i64> =
        transaction.query_row("SELECT retained_from_ns FROM retention", [], |row| row.get(0)).optional()?;
    let from_ns = recorded.max(retention.from_ns);
    let mut trimmed = match from_ns {
        Some(from_ns) => delete_before(&transaction, from_ns)?,
        None => Trimmed::default(),
    };
    let mut from_ns = from_ns;
    if trimmed == Trimmed::default()
        && let Some(bytes_max) = retention.bytes_max
        && bytes_used(&transaction)? > bytes_max
        && let Some((oldest, newest)) = stored_times(&transaction)?
    {
        let step = (i128::from(newest) - i128::from(oldest)) / TRIM_STEPS + 1;
        let next = i64::try_from(i128::from(oldest) + step).unwrap_or(i64::MAX);
        from_ns = Some(next);
        trimmed = delete_before(&transaction, next)?;
    }
    if let Some(from_ns) = from_ns.filter(|_| from_ns != recorded) {
        transaction.execute(
            "INSERT INTO retention (only_row, retained_from_ns) VALUES (1, ?1)
             ON CONFLICT DO UPDATE SET retained_from_ns = excluded.retained_from_ns",
            params![from_ns],
        )?;
    }
    transaction.commit()?;
    Ok(Step { trimmed, done: trimmed == Trimmed::default() })
}

fn delete_before(transaction: &Transaction<'_>, from_ns: i64) -> rusqlite::Result<Trimmed> {
    let ids: Vec<i64> =
        transaction.prepare("SELECT id FROM series")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut trimmed = Trimmed::default();
    let (mut readings_room, mut frames_room) = (TRIM_READINGS_MAX, TRIM_FRAMES_MAX);
    let mut readings = transaction.prepare(
        "DELETE FROM readings WHERE series = ?1 AND time_ns < coalesce(
             (SELECT time_ns FROM readings WHERE series = ?1 AND time_ns < ?2 ORDER BY time_ns LIMIT 1 OFFSET ?3), ?2)",
    )?;
    let mut frames = transaction.prepare(
        "DELETE FROM frames WHERE series = ?1 AND start_ns < coalesce(
             (SELECT start_ns FROM frames WHERE series = ?1 AND start_ns < ?2 ORDER BY start_ns LIMIT 1 OFFSET ?3), ?2)",
    )?;
    for id in ids {
        if readings_room == 0 || frames_room == 0 {
            break;
        }
        let deleted = readings.execute(params![id, from_ns, readings_room])?;
        trimmed.readings += deleted;
        readings_room -= deleted as i64;
        let deleted = frames.execute(params![id, from_ns, frames_room])?;
        trimmed.frames += deleted;
        frames_room -= deleted as i64;
    }
    Ok(trimmed)
}

/// Bytes of pages that hold something.
fn bytes_used(transaction: &Transaction<'_>) -> rusqlite::Result<u64> {
    let pragma = |name| transaction.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let pages = pragma("page_count")? - pragma("freelist_count")?;
    Ok(u64::try_from(pages * pragma("page_size")?).unwrap_or(0))
}

fn stored_times(transaction: &Transaction<'_>) -> rusqlite::Result<Option<(i64, i64)>> {
    // One seek per series and end, not a scan.
    transaction.query_row(
        "SELECT min(oldest), max(newest) FROM (
             SELECT (SELECT min(time_ns) FROM readings WHERE series = id) AS oldest,
                    (SELECT max(time_ns) FROM readings WHERE series = id) AS newest FROM series
             UNION ALL
             SELECT (SELECT min(start_ns) FROM frames WHERE series = id),
                    (SELECT max(start_ns) FROM frames WHERE series = id) FROM series)",
        [],
        |row| Ok(row.get::<_, Option<i64>>(0)?.zip(row.get(1)?)),
    )
}
