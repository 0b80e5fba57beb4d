//! What is kept, and the record of what is not.

use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::read::Windows;
use crate::{
    features::{Retention, Trimmed},
    sqlite::{WriteError, retained},
};

/// Rows that one transaction deletes at most, so that writes go on in between.
const TRIM_ROWS_MAX: usize = 10_000;

/// One transaction's worth; nothing when all is done. The record of where the store begins moves with the first rows and
/// never goes back.
pub(super) fn trim_some(connection: &mut Connection, retention: Retention) -> Result<Trimmed, WriteError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let recorded = retained::recorded(&transaction)?;
    let Some(from_ns) = recorded.max(retention.from_ns) else { return Ok(Trimmed::default()) };
    if recorded != Some(from_ns) {
        retained::record(&transaction, from_ns)?;
    }
    let trimmed = delete_before(&transaction, from_ns)?;
    transaction.commit()?;
    Ok(trimmed)
}

fn delete_before(transaction: &Transaction<'_>, from_ns: i64) -> rusqlite::Result<Trimmed> {
    let ids: Vec<i64> =
        transaction.prepare("SELECT id FROM series")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut windows = Windows::new(transaction)?;
    let mut features = transaction.prepare(
        "DELETE FROM features WHERE series = ?1 AND window_ns = ?2 AND start_ns < coalesce(
             (SELECT start_ns FROM features WHERE series = ?1 AND window_ns = ?2 AND start_ns < ?3
              ORDER BY start_ns LIMIT 1 OFFSET ?4), ?3)",
    )?;
    let mut readings = transaction.prepare(
        "DELETE FROM readings WHERE series = ?1 AND time_ns < coalesce(
             (SELECT time_ns FROM readings WHERE series = ?1 AND time_ns < ?2 ORDER BY time_ns LIMIT 1 OFFSET ?3), ?2)",
    )?;
    let mut trimmed = Trimmed::default();
    let room = |trimmed: &Trimmed| (TRIM_ROWS_MAX - trimmed.features - trimmed.readings) as i64;
    for id in ids {
        for window_ns in windows.of(id)? {
            trimmed.features += features.execute(params![id, window_ns, from_ns, room(&trimmed)])?;
        }
        trimmed.readings += readings.execute(params![id, from_ns, room(&trimmed)])?;
        if room(&trimmed) == 0 {
            break;
        }
    }
    Ok(trimmed)
}
