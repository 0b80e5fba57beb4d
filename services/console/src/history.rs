//! The readings of a period, read in pages and kept as what a chart and a table show.

use std::{collections::VecDeque, ops::Range};

use mantis_pipeline::Fault;
use mantis_schemas::{Quality, Series};
use mantis_stores::raw::{Gathered, RawReader, StoredReading, Timing};

use crate::chart::{COLUMNS, Columns};

/// Readings that a page looks at; a longer period is cut, and the page says so.
pub const READINGS_MAX: usize = 300_000;
/// Readings that are asked for and held at a time.
const PAGE_ROWS: usize = 10_000;
/// Readings that are kept one by one.
const LAST_ROWS: usize = 30;

/// The readings of a period.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) times: Range<i64>,
    pub(crate) columns: Columns,
    /// Readings, and those of them that were not good.
    pub(crate) count: u64,
    pub(crate) uncertain: u64,
    pub(crate) bad: u64,
    /// The last ones, oldest first.
    pub(crate) last: VecDeque<StoredReading>,
    pub(crate) timing: Timing,
    /// The first time that was not looked at.
    pub(crate) cut_at_ns: Option<i64>,
}

/// Reads a period of a sensor.
pub(crate) async fn read(store: &impl RawReader, series: &Series, times: Range<i64>) -> Result<History, Fault> {
    let length = (i128::from(times.end) - i128::from(times.start)).max(1) as f64;
    let mut history = History {
        columns: Columns::new(0.0, length, COLUMNS),
        count: 0,
        uncertain: 0,
        bad: 0,
        last: VecDeque::new(),
        timing: Timing::default(),
        cut_at_ns: None,
        times: times.clone(),
    };
    let (mut gathered, mut from_ns, mut left) = (Gathered::default(), times.start, READINGS_MAX);
    loop {
        let page = store.readings(series, from_ns..times.end, PAGE_ROWS.min(left)).await?;
        for reading in &page {
            gathered.add(reading);
            history.take(reading);
        }
        left -= page.len();
        let Some(last) = page.last().filter(|_| page.len() == PAGE_ROWS || left == 0) else { break };
        from_ns = last.time_ns.saturating_add(1);
        if left == 0 {
            history.cut_at_ns = store.readings(series, from_ns..times.end, 1).await?.first().map(|next| next.time_ns);
            break;
        }
    }
    history.timing = gathered.timing();
    Ok(history)
}

impl History {
    fn take(&mut self, reading: &StoredReading) {
        let x = (i128::from(reading.time_ns) - i128::from(self.times.start)) as f64;
        self.columns.add(x, reading.value, reading.quality);
        self.count += 1;
        match reading.quality {
            Quality::Good => {}
            Quality::Uncertain => self.uncertain += 1,
            Quality::Bad => self.bad += 1,
        }
        if self.last.len() == LAST_ROWS {
            self.last.pop_front();
        }
        self.last.push_back(*reading);
    }
}
