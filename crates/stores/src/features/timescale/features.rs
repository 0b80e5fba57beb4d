//! Features into their table.

use std::{ops::Range, sync::LazyLock};

use mantis_pipeline::{Fault, Reason};
use mantis_schemas::{Feature, FeatureColumns, Figure};
use tokio_postgres::Transaction;

use super::write::{Tally, copy};
use crate::{
    features::columns,
    postgres::{CopyRows, Failure, StoredIds},
};

/// Series, the columns of [`columns::columns`], and whether it is the greatest of its identity in the batch.
const FIELDS: usize = 1 + columns::COLUMNS.len() + Figure::ALL.len() + 1;
/// Bytes of a staged row without its extras, at most.
const ROW_BYTES: usize = 2 + FIELDS * 12;

struct Statements {
    copy: String,
    /// How many staged rows rank above what is stored.
    count: String,
    upsert: String,
}

static SQL: LazyLock<Statements> = LazyLock::new(|| {
    let names = columns::columns().collect::<Vec<_>>().join(", ");
    let (stored, staged) = (columns::rank("stored"), columns::rank("staged"));
    Statements {
        copy: format!("COPY staged_features (series, {names}, last_of_batch) FROM STDIN BINARY"),
        count: format!(
            "SELECT count(*) FROM staged_features AS staged LEFT JOIN features AS stored USING (series, window_ns, start_ns)
             WHERE stored.series IS NULL OR ({staged}) > ({stored})"
        ),
        upsert: format!(
            "INSERT INTO features AS stored (series, {names})
             SELECT series, {names} FROM staged_features WHERE last_of_batch
             ON CONFLICT (series, window_ns, start_ns) DO UPDATE SET {} WHERE ({}) > ({stored})",
            columns::replaced(),
            columns::rank("excluded"),
        ),
    }
});

/// Writes features in order of series, window and start. Of those with one identity only the rows that rank above all before them
/// could change anything, and only the last of these does; the others count as they would have ended one by one.
pub(super) async fn write(
    transaction: &Transaction<'_>,
    ids: &StoredIds,
    features: &FeatureColumns,
    rows: Range<usize>,
) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    let of = rows.len();
    let staged = ids.with(|ids| stage(ids, features, rows, &mut tally.rejected))?;
    if staged.rows() > 0 {
        copy(transaction, &SQL.copy, staged.finish()).await?;
        let written: i64 = transaction.query_one(&SQL.count, &[]).await?.try_get(0)?;
        transaction.execute(&SQL.upsert, &[]).await?;
        tally.written = usize::try_from(written).unwrap_or_default();
    }
    tally.duplicates = of.saturating_sub(tally.written + tally.rejected.len());
    Ok(tally)
}

/// The rows of each identity that rank above all before them.
fn stage(
    ids: &[i32],
    features: &FeatureColumns,
    rows: Range<usize>,
    rejected: &mut Vec<(usize, Reason)>,
) -> Result<CopyRows, Failure> {
    let mut order = Vec::with_capacity(rows.len());
    for row in rows {
        match columns::refuse(&features.rows[row]) {
            Some(reason) => rejected.push((row, reason)),
            None => order.push(row),
        }
    }
    let identity = |row: usize| (features.series[row], features.rows[row].window_ns, features.rows[row].start_ns);
    order.sort_by_key(|row| identity(*row));
    let mut staged = CopyRows::new(FIELDS as i16, order.len() * ROW_BYTES + features.extras_bytes);
    for same in order.chunk_by(|row, next| identity(*row) == identity(*next)) {
        let id = ids.get(features.series[same[0]].index()).copied().unwrap_or_default();
        let mut rising = Vec::with_capacity(1);
        for &row in same {
            if rising.last().is_none_or(|last: &usize| features.rows[*last].rank() < features.rows[row].rank()) {
                rising.push(row);
            }
        }
        let last = rising.last().copied();
        for row in rising {
            push(&mut staged, id, &features.rows[row], Some(row) == last).ok_or_else(|| Fault::Fatal {
                reason: format!("row {row} has extras of more than 2 GiB: this is a defect of the decoder"),
            })?;
        }
    }
    Ok(staged)
}

fn push(staged: &mut CopyRows, series: i32, feature: &Feature, last: bool) -> Option<()> {
    staged.row();
    staged.i32(series);
    staged.i64(feature.window_ns);
    staged.i64(feature.start_ns);
    staged.i64(feature.end_ns);
    staged.i32(feature.version);
    staged.i64(feature.count);
    staged.i64(feature.uncertain);
    staged.i64(feature.bad);
    staged.f64_or_null(feature.coverage);
    staged.bool(feature.exact);
    staged.bool(feature.provisional);
    staged.i64(feature.revision);
    staged.i64(feature.processed_ms);
    staged.text(&feature.extras)?;
    for (_, value) in feature.figures.iter() {
        staged.f64_or_null(value);
    }
    staged.bool(last);
    Some(())
}
