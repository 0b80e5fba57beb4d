//! Writes.

use std::{
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mantis_pipeline::{Assigned, Fault, Moved, Outcome, Part, Sink, Span, Start};
use mantis_schemas::SeriesTable;

use super::{
    InfluxConfig, InfluxError,
    client::{Bucket, Written},
    line::Lines,
};
use crate::raw::RawColumns;

/// Writes under way whose buffers are kept for the next.
const IDLE_BUFFERS_MAX: usize = 4;

/// A bucket as the road's sink.
#[derive(Debug)]
pub struct InfluxRaw {
    bucket: Bucket,
    series: SeriesTable,
    request_rows: usize,
    idle: Mutex<Vec<Lines>>,
}

impl InfluxRaw {
    /// A sink that writes to a bucket; nothing is asked of the server yet. `series` are the names behind the ids of the rows.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn new(config: &InfluxConfig, series: SeriesTable) -> Result<Self, InfluxError> {
        let request_rows = config.request_rows.max(1);
        Ok(Self { bucket: Bucket::new(config)?, series, request_rows, idle: Mutex::default() })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Lines>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write_rows(&self, columns: &RawColumns, rows: Range<usize>, lines: &mut Lines) -> Result<Outcome, Fault> {
        let (mut written, mut rejected) = (0, Vec::new());
        let mut from = rows.start;
        while from < rows.end {
            from = lines.fill(columns, from..rows.end, self.request_rows, &mut rejected);
            if lines.rows == 0 {
                continue;
            }
            match self.bucket.write(&lines.text).await? {
                Written::All => written += lines.rows,
                Written::Refused(reason) => return Ok(Outcome::Refused(reason)),
            }
        }
        Ok(Outcome::Ended { written, duplicates: 0, conflicts: 0, rejected, advanced: false })
    }
}

impl Sink for InfluxRaw {
    type Columns = RawColumns;

    async fn start(&self, assigned: &[Assigned]) -> Result<Vec<Start>, Fault> {
        Ok(vec![Start::Committed; assigned.len()])
    }

    async fn write(&self, part: Part<'_, RawColumns>) -> Result<Outcome, Fault> {
        let mut lines = self.idle().pop().unwrap_or_else(|| Lines::new(self.series.clone()));
        let ended = self.write_rows(part.columns, part.rows, &mut lines).await;
        let mut idle = self.idle();
        if idle.len() < IDLE_BUFFERS_MAX {
            idle.push(lines);
        }
        ended
    }

    async fn advance(&self, _spans: &[Span]) -> Result<Option<Vec<Moved>>, Fault> {
        Ok(None)
    }
}
