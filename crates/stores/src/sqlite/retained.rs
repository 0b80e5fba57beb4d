//! The record of what a retention has deleted: what is missing behind it was lost, what is missing before it was deleted.

use rusqlite::{Connection, OptionalExtension, params};

/// Source time from which rows are kept, if a retention was ever at work.
pub(crate) fn recorded(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection.query_row("SELECT retained_from_ns FROM retention", [], |row| row.get(0)).optional()
}

/// Notes that rows before `from_ns` are deleted, in the transaction that deletes the first of them.
pub(crate) fn record(connection: &Connection, from_ns: i64) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO retention (only_row, retained_from_ns) VALUES (1, ?1)
         ON CONFLICT DO UPDATE SET retained_from_ns = excluded.retained_from_ns",
        params![from_ns],
    )?;
    Ok(())
}
