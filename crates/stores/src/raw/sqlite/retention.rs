//! What is kept, and the record of what is not.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::oldest::{Kind, Oldest};
use crate::sqlite::WriteError;

/// Readings that one transaction deletes at most, so that writes go on in between.
const TRIM_READINGS_MAX: i64 = 20_000;
/// Frames that one transaction deletes at most; a frame is many pages.
const TRIM_FRAMES_MAX: i64 = 200;

/// Part of what the store takes that goes at a time when it is over its bound on bytes: one in so many. No more than that is
/// deleted beyond need.
const TRIM_PART: u64 = 64;

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
        && let bytes = bytes_used(&transaction)?
        && bytes > bytes_max
        && let Some(next) = behind_oldest(&transaction, bytes / TRIM_PART)?
    {
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

/// The time behind the oldest rows: behind so many bytes of them, a transaction's worth at most and one row at least. The
/// rows decide and not their times, so that one with a time far from all others costs no other row.
fn behind_oldest(transaction: &Transaction<'_>, bytes: u64) -> rusqlite::Result<Option<i64>> {
    let mut oldest = Oldest::new(transaction)?;
    let (mut passed_bytes, mut readings, mut frames, mut behind) = (0, 0, 0, None);
    while let Some(row) = oldest.next()? {
        behind = Some(row.time_ns.saturating_add(1));
        passed_bytes += row.bytes;
        match row.kind {
            Kind::Reading => readings += 1,
            Kind::Frame => frames += 1,
        }
        if passed_bytes >= bytes || readings == TRIM_READINGS_MAX || frames == TRIM_FRAMES_MAX {
            break;
        }
    }
    Ok(behind)
}
