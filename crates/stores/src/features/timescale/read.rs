//! Reads, while writers run.

use std::ops::Range;

use mantis_pipeline::Fault;
use mantis_schemas::{Feature, Figure, Figures, Series};
use tokio_postgres::{Row, types::ToSql};

use super::{READERS_MAX, sessions};
use crate::{
    ReadingReader,
    codes::quality,
    features::{FeatureReader, columns},
    postgres::{Failure, PostgresConfig, PostgresError, Sessions},
    raw::StoredReading,
};

/// Lengths of the windows of the series `s`: one seek per length, where DISTINCT would read every row.
const WINDOWS: &str = "
    WITH RECURSIVE windows (window_ns) AS (
        (SELECT window_ns FROM features WHERE series = s.id ORDER BY window_ns LIMIT 1)
        UNION ALL
        SELECT (SELECT f.window_ns FROM features f WHERE f.series = s.id AND f.window_ns > windows.window_ns
                ORDER BY f.window_ns LIMIT 1)
        FROM windows WHERE windows.window_ns IS NOT NULL
    )
    SELECT window_ns FROM windows WHERE window_ns IS NOT NULL";

/// Reads the feature store in TimescaleDB. Cheap to clone.
#[derive(Clone)]
pub struct TimescaleReader(Sessions);

impl TimescaleReader {
    /// A reader of a schema; nothing is asked of the server yet.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: &PostgresConfig) -> Result<Self, PostgresError> {
        Ok(Self(sessions(config, "", READERS_MAX)?))
    }

    async fn query<T>(
        &self,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
        of: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
    ) -> Result<Vec<T>, Fault> {
        let query = async {
            let session = self.0.session().await?;
            let rows = session.query(statement, parameters).await;
            let found = rows.and_then(|rows| rows.iter().map(&of).collect::<Result<Vec<T>, _>>());
            self.0.answer(session, found.map_err(Failure::from))
        };
        self.0.within(query).await
    }
}

impl ReadingReader for TimescaleReader {
    async fn series(&self) -> Result<Vec<Series>, Fault> {
        // A rejected row or a retention may leave a series without rows. The limit keeps the look-up a seek per series.
        let select = "SELECT asset, sensor FROM series s
            WHERE (SELECT 1 FROM features WHERE series = s.id LIMIT 1) IS NOT NULL
               OR (SELECT 1 FROM readings WHERE series = s.id LIMIT 1) IS NOT NULL
            ORDER BY asset, sensor";
        self.query(select, &[], |row| series(row, 0)).await
    }

    async fn readings(&self, series: &Series, time_ns: Range<i64>, limit: usize) -> Result<Vec<StoredReading>, Fault> {
        let select = "SELECT time_ns, value, quality, arrival_ms FROM readings
            WHERE series = (SELECT id FROM series WHERE asset = $1 AND sensor = $2) AND time_ns >= $3 AND time_ns < $4
            ORDER BY time_ns LIMIT $5";
        let parameters: [&(dyn ToSql + Sync); 5] =
            [&&*series.asset, &&*series.sensor, &time_ns.start, &time_ns.end, &limit_of(limit)];
        let rows = self
            .query(select, &parameters, |row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get::<_, i16>(2)?, row.try_get(3)?)));
        let unknown = |code| Fault::Fatal {
            reason: format!(
                "a reading of {} {} has the unknown quality {code}: the table was changed from outside",
                series.asset, series.sensor
            ),
        };
        let stored = |(time_ns, value, code, arrival_ms): (i64, f64, i16, i64)| {
            let quality = u8::try_from(code).ok().and_then(quality).ok_or_else(|| unknown(code))?;
            Ok(StoredReading { time_ns, value, quality, arrival_ms })
        };
        rows.await?.into_iter().map(stored).collect()
    }

    async fn ledger(&self, cluster_id: &str, group: &str) -> Result<Vec<(String, i32, i64)>, Fault> {
        let select = "SELECT topic, partition, next_offset FROM ledger
            WHERE cluster_id = $1 AND consumer_group = $2 ORDER BY topic COLLATE \"C\", partition";
        self.query(select, &[&cluster_id, &group], |row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).await
    }

    async fn retained_from(&self) -> Result<Option<i64>, Fault> {
        Ok(self.query("SELECT retained_from_ns FROM retention", &[], |row| row.try_get(0)).await?.pop())
    }
}

impl FeatureReader for TimescaleReader {
    async fn windows(&self, series: &Series) -> Result<Vec<i64>, Fault> {
        let select = format!(
            "SELECT w.window_ns FROM series s CROSS JOIN LATERAL ({WINDOWS}) w WHERE asset = $1 AND sensor = $2 ORDER BY 1"
        );
        self.query(&select, &[&&*series.asset, &&*series.sensor], |row| row.try_get(0)).await
    }

    async fn features(&self, series: &Series, window_ns: i64, start_ns: Range<i64>, limit: usize) -> Result<Vec<Feature>, Fault> {
        let select = format!(
            "SELECT {} FROM features f
             WHERE series = (SELECT id FROM series WHERE asset = $1 AND sensor = $2)
               AND window_ns = $3 AND start_ns >= $4 AND start_ns < $5
             ORDER BY start_ns LIMIT $6",
            names()
        );
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&&*series.asset, &&*series.sensor, &window_ns, &start_ns.start, &start_ns.end, &limit_of(limit)];
        self.query(&select, &parameters, |row| feature(row, 0)).await
    }

    async fn latest(&self, series: &Series) -> Result<Vec<Feature>, Fault> {
        let select = newest("asset = $1 AND sensor = $2", "");
        self.query(&select, &[&&*series.asset, &&*series.sensor], |row| feature(row, 2)).await
    }

    async fn newest_features(&self, after: Option<(&Series, i64)>, limit: usize) -> Result<Vec<(Series, Feature)>, Fault> {
        // No name is empty, so every series lies behind the empty ones.
        let (asset, sensor, window_ns) =
            after.map_or(("", "", -1), |(series, window_ns)| (&*series.asset, &*series.sensor, window_ns));
        let of = "(asset, sensor) >= ($1, $2) AND ((asset, sensor) > ($1, $2) OR w.window_ns > $3)";
        let parameters: [&(dyn ToSql + Sync); 4] = [&asset, &sensor, &window_ns, &limit_of(limit)];
        self.query(&newest(of, "LIMIT $4"), &parameters, |row| Ok((self::series(row, 0)?, feature(row, 2)?))).await
    }
}

/// Asset, sensor and the feature with the latest start of each length of window, in this order.
fn newest(of: &str, limit: &str) -> String {
    format!(
        "SELECT s.asset, s.sensor, {} FROM series s
         CROSS JOIN LATERAL ({WINDOWS}) w
         CROSS JOIN LATERAL (SELECT * FROM features WHERE series = s.id AND window_ns = w.window_ns ORDER BY start_ns DESC LIMIT 1) f
         WHERE {of} ORDER BY s.asset, s.sensor, w.window_ns {limit}",
        names()
    )
}

/// The columns of a feature of `f`.
fn names() -> String {
    columns::columns().map(|name| format!("f.{name}")).collect::<Vec<_>>().join(", ")
}

fn series(row: &Row, first: usize) -> Result<Series, tokio_postgres::Error> {
    Ok(Series { asset: row.try_get::<_, &str>(first)?.into(), sensor: row.try_get::<_, &str>(first + 1)?.into() })
}

/// A feature from [`columns::columns`].
fn feature(row: &Row, first: usize) -> Result<Feature, tokio_postgres::Error> {
    let mut figures = Figures::default();
    for figure in Figure::ALL {
        figures.set(figure, row.try_get(first + columns::COLUMNS.len() + figure as usize)?);
    }
    Ok(Feature {
        window_ns: row.try_get(first)?,
        start_ns: row.try_get(first + 1)?,
        end_ns: row.try_get(first + 2)?,
        version: row.try_get(first + 3)?,
        count: row.try_get(first + 4)?,
        uncertain: row.try_get(first + 5)?,
        bad: row.try_get(first + 6)?,
        coverage: row.try_get(first + 7)?,
        exact: row.try_get(first + 8)?,
        provisional: row.try_get(first + 9)?,
        revision: row.try_get(first + 10)?,
        processed_ms: row.try_get(first + 11)?,
        extras: row.try_get::<_, &str>(first + 12)?.into(),
        figures,
    })
}

fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
