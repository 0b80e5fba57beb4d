//! Writes: features and readings.

use std::path::Path;

use mantis_pipeline::{Assigned, Fault, Moved, Outcome, Part, Sink, Span, Start};
use mantis_schemas::{Feature, FeatureColumns, SeriesTable};
use rusqlite::Statement;

use super::{KIND, LedgerIdentity, OpenError, SqliteConfig, retention};
use crate::{
    ValueColumns,
    features::{Retention, Trimmed, columns},
    sqlite::{RowWriter, SqliteWriter, WriteError, readings},
};

/// The embedded feature store as the road's sink. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct SqliteFeatures(SqliteWriter);

impl SqliteFeatures {
    /// Opens the store at `path`, makes it where there is none, and brings an older one up to date.
    ///
    /// `series` are the names behind the ids of the rows that will be written.
    ///
    /// # Errors
    /// The file cannot be opened, is not a feature store, or was written by a newer program.
    pub fn open(
        path: impl AsRef<Path>,
        series: SeriesTable,
        identity: LedgerIdentity,
        config: SqliteConfig,
    ) -> Result<Self, OpenError> {
        Ok(Self(SqliteWriter::open(path.as_ref(), &KIND, series, identity, config)?))
    }

    /// Deletes what a retention does not keep, in transactions of bounded size between which writes go on. Space that
    /// becomes free is used again; the file does not shrink.
    ///
    /// # Errors
    /// As a write. What was deleted until then stays deleted, and is on record.
    pub async fn retain(&self, retention: Retention) -> Result<Trimmed, Fault> {
        let mut trimmed = Trimmed::default();
        loop {
            let step = self.0.blocking(move |connection| retention::trim_some(connection, retention)).await?;
            if step == Trimmed::default() {
                return Ok(trimmed);
            }
            trimmed.features += step.features;
            trimmed.readings += step.readings;
        }
    }
}

impl Sink for SqliteFeatures {
    type Columns = ValueColumns;

    async fn start(&self, assigned: &[Assigned]) -> Result<Vec<Start>, Fault> {
        self.0.start(assigned).await
    }

    async fn write(&self, part: Part<'_, ValueColumns>) -> Result<Outcome, Fault> {
        // The writer's thread outlives this call if it is dropped, so it gets its own rows.
        let Some(rows) = part.columns.copy(part.rows.clone()) else {
            return Err(Fault::Fatal {
                reason: format!("rows {:?} are not in the batch: this is a defect of the road", part.rows),
            });
        };
        let offset = part.rows.start;
        let write = move |writer: &mut RowWriter<'_>| match &rows {
            ValueColumns::Features(features) => write_features(writer, features, offset),
            ValueColumns::Readings(readings) => readings::write(writer, readings, offset),
        };
        self.0.write(part.spans, part.last, write).await
    }

    async fn advance(&self, spans: &[Span]) -> Result<Option<Vec<Moved>>, Fault> {
        self.0.advance(spans).await
    }
}

/// Writes features in order of their place in the table, so that its pages are touched once per batch; the order decides
/// nothing else. `offset` is the index of the first in its batch.
fn write_features(writer: &mut RowWriter<'_>, features: &FeatureColumns, offset: usize) -> Result<(), WriteError> {
    let mut order = Vec::with_capacity(features.len());
    for (row, feature) in features.rows.iter().enumerate() {
        match columns::refuse(feature) {
            Some(reason) => writer.tally.rejected.push((offset + row, reason)),
            None => order.push((features.series[row], feature)),
        }
    }
    order.sort_by_key(|(series, feature)| (*series, feature.window_ns, feature.start_ns));
    let mut upsert = writer.transaction.prepare(&upsert())?;
    for (series, feature) in order {
        let series = writer.ids.get(series)?;
        match store(&mut upsert, series, feature)? {
            0 => writer.tally.duplicates += 1,
            _ => writer.tally.written += 1,
        }
    }
    Ok(())
}

/// Rows that changed: 1, or 0 where the store has a feature of at least this rank.
fn store(upsert: &mut Statement<'_>, series: i64, feature: &Feature) -> rusqlite::Result<usize> {
    let whole = [series, feature.window_ns, feature.start_ns, feature.end_ns, i64::from(feature.version), feature.count];
    let whole = whole.into_iter().chain([feature.uncertain, feature.bad]);
    let mut parameters = 1..;
    let mut next = || parameters.next().unwrap_or_default();
    for number in whole {
        upsert.raw_bind_parameter(next(), number)?;
    }
    upsert.raw_bind_parameter(next(), feature.coverage)?;
    upsert.raw_bind_parameter(next(), feature.exact)?;
    upsert.raw_bind_parameter(next(), feature.provisional)?;
    upsert.raw_bind_parameter(next(), feature.revision)?;
    upsert.raw_bind_parameter(next(), feature.processed_ms)?;
    upsert.raw_bind_parameter(next(), &*feature.extras)?;
    for (_, value) in feature.figures.iter() {
        upsert.raw_bind_parameter(next(), value)?;
    }
    upsert.raw_execute()
}

/// The statement that stores a feature: ?1 is the series, then come [`columns::columns`]. Changes nothing unless the row is new or
/// ranks above the one that is there.
fn upsert() -> String {
    let names: Vec<String> = columns::columns().collect();
    let parameters: Vec<String> = (1..=names.len() + 1).map(|number| format!("?{number}")).collect();
    format!(
        "INSERT INTO features (series, {}) VALUES ({}) ON CONFLICT DO UPDATE SET {} WHERE ({}) > ({})",
        names.join(", "),
        parameters.join(", "),
        columns::replaced(),
        columns::rank("excluded"),
        columns::rank("features"),
    )
}

#[cfg(test)]
mod tests {
    use super::upsert;

    #[test]
    fn a_feature_is_replaced_by_one_of_higher_rank_only() {
        let sql = upsert();
        assert!(sql.starts_with("INSERT INTO features (series, \"window_ns\", \"start_ns\", "), "{sql}");
        assert!(sql.contains("DO UPDATE SET \"end_ns\" = excluded.\"end_ns\", "), "{sql}");
        let rank = "(excluded.version, excluded.count + excluded.bad, excluded.revision, NOT excluded.provisional) > \
                    (features.version, features.count + features.bad, features.revision, NOT features.provisional)";
        assert!(sql.ends_with(rank), "{sql}");
    }
}
