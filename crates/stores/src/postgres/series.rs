//! The database's ids of series.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use mantis_pipeline::Fault;
use mantis_schemas::{Series, SeriesId, SeriesTable};
use tokio_postgres::Client;

use super::Failure;

/// The database's ids of the series of this process. They are made outside of the transactions that use them, so one that is
/// undone takes none along: at worst a series is left without rows.
pub(crate) struct StoredIds {
    series: SeriesTable,
    /// By index of the process's id; 0 is not known yet.
    known: RwLock<Vec<i32>>,
}

impl StoredIds {
    pub(crate) fn new(series: SeriesTable) -> Self {
        Self { series, known: RwLock::default() }
    }

    /// Learns what is not known yet of these series.
    pub(crate) async fn learn(&self, client: &Client, of: impl Iterator<Item = SeriesId>) -> Result<(), Failure> {
        let unknown = self.unknown(of)?;
        if unknown.is_empty() {
            return Ok(());
        }
        let (assets, sensors): (Vec<&str>, Vec<&str>) = unknown.values().map(|names| (&*names.asset, &*names.sensor)).unzip();
        let absent = "INSERT INTO series (asset, sensor)
            SELECT * FROM unnest($1::text[], $2::text[]) AS wanted (asset, sensor)
            WHERE NOT EXISTS (SELECT FROM series s WHERE s.asset = wanted.asset AND s.sensor = wanted.sensor)
            ORDER BY 1, 2 ON CONFLICT DO NOTHING";
        client.execute(absent, &[&assets, &sensors]).await?;
        let select = "SELECT asset, sensor, id FROM series JOIN unnest($1::text[], $2::text[]) AS wanted (asset, sensor) USING (asset, sensor)";
        let mut ids = HashMap::new();
        for row in client.query(select, &[&assets, &sensors]).await? {
            ids.insert(
                Series { asset: row.try_get::<_, &str>(0)?.into(), sensor: row.try_get::<_, &str>(1)?.into() },
                row.try_get(2)?,
            );
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        for (index, names) in &unknown {
            let id = ids
                .get(&**names)
                .copied()
                .ok_or_else(|| Fault::retry(format!("the id of {} {} was not found", names.asset, names.sensor)))?;
            if known.len() <= *index {
                known.resize(index + 1, 0);
            }
            known[*index] = id;
        }
        Ok(())
    }

    /// Looks ids up that were learnt.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&[i32]) -> T) -> T {
        look(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn unknown(&self, of: impl Iterator<Item = SeriesId>) -> Result<HashMap<usize, Arc<Series>>, Failure> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut unknown = HashMap::new();
        for series in of {
            let index = series.index();
            if known.get(index).is_none_or(|id| *id == 0) && !unknown.contains_key(&index) {
                let names = self.series.read().get(index).cloned().ok_or_else(|| Fault::Fatal {
                    reason: format!("series {} has no name: this is a defect of the decoder", series.0),
                })?;
                unknown.insert(index, names);
            }
        }
        Ok(unknown)
    }
}
