//! The file's ids of series.

use mantis_pipeline::Fault;
use mantis_schemas::{Series, SeriesId, SeriesTable};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::WriteError;

/// The file's ids of series, made as they come.
pub(crate) struct StoredIds<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) series: &'a SeriesTable,
    pub(super) known: &'a mut Vec<i64>,
}

impl StoredIds<'_> {
    /// The id of a series of this process.
    pub(crate) fn get(&mut self, series: SeriesId) -> Result<i64, WriteError> {
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
        let id = match series_id(self.transaction, &names)? {
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

/// The id of a series, if the file has it.
pub(crate) fn series_id(connection: &Connection, series: &Series) -> rusqlite::Result<Option<i64>> {
    connection
        .query_row("SELECT id FROM series WHERE asset = ?1 AND sensor = ?2", params![series.asset, series.sensor], |row| {
            row.get(0)
        })
        .optional()
}
