//! The last readings of a sensor, for a small line in a table: few, whatever its rate is.

use mantis_pipeline::Fault;
use mantis_schemas::{Quality, Series};
use mantis_stores::raw::RawReader;

/// Lengths that are tried, ns: each 16 times the one before, so that a steady sensor never has more than 16 times what is
/// enough. From a second to 194 days.
const SPANS_NS: [i64; 7] = [
    1_000_000_000,
    16_000_000_000,
    256_000_000_000,
    4_096_000_000_000,
    65_536_000_000_000,
    1_048_576_000_000_000,
    16_777_216_000_000_000,
];
/// Readings that are enough.
const ENOUGH: usize = 100;
/// Readings that are asked for at a time.
const ROWS_MAX: usize = 2_000;

/// Some of the readings up to `newest_ns` that are not bad: x in ns before the newest one.
pub(crate) async fn points(store: &impl RawReader, series: &Series, newest_ns: i64) -> Result<Vec<(f64, f64)>, Fault> {
    let mut found = Vec::new();
    for span_ns in SPANS_NS {
        let times = newest_ns.saturating_sub(span_ns)..newest_ns.saturating_add(1);
        let page = store.readings(series, times, ROWS_MAX).await?;
        // Cut at its end, it would not show the newest ones.
        if page.len() == ROWS_MAX && !found.is_empty() {
            break;
        }
        found = page;
        if found.len() >= ENOUGH {
            break;
        }
    }
    let usable = found.iter().filter(|reading| reading.quality != Quality::Bad);
    Ok(usable.map(|reading| (reading.time_ns.saturating_sub(newest_ns) as f64, reading.value)).collect())
}
