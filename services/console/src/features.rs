//! The features of a period, read in pages and kept as what a chart and a table show.

use std::{collections::VecDeque, ops::Range};

use mantis_pipeline::Fault;
use mantis_schemas::{Feature, Figure, Quality, Series};
use mantis_stores::features::FeatureReader;

use crate::chart::{COLUMNS, Columns};

/// Features that a page looks at; a longer period is cut, and the page says so.
const FEATURES_MAX: usize = 20_000;
/// Features that are asked for and held at a time.
const PAGE_ROWS: usize = 2_000;
/// Features that are kept one by one.
const LAST_ROWS: usize = 30;
/// Windows that are drawn as points; more are drawn as columns.
const POINTS_MAX: usize = 300;

/// The features of one length of window.
#[derive(Debug)]
pub(crate) struct Features {
    pub(crate) times: Range<i64>,
    pub(crate) columns: Columns,
    /// The values one by one, where there are few: x in ns after the start of the period.
    pub(crate) points: Option<Vec<(f64, f64)>>,
    /// x of windows that may still change.
    pub(crate) provisional: Vec<f64>,
    pub(crate) count: usize,
    /// Rows of which the figure is not there.
    pub(crate) without: usize,
    /// The last ones, oldest first.
    pub(crate) last: VecDeque<Feature>,
    /// The first start that was not looked at.
    pub(crate) cut_at_ns: Option<i64>,
}

/// Reads a period of a sensor's windows.
pub(crate) async fn read(
    store: &impl FeatureReader,
    series: &Series,
    window_ns: i64,
    figure: Figure,
    times: Range<i64>,
) -> Result<Features, Fault> {
    let length = (i128::from(times.end) - i128::from(times.start)).max(1) as f64;
    let mut features = Features {
        columns: Columns::new(0.0, length, COLUMNS),
        points: Some(Vec::new()),
        provisional: Vec::new(),
        count: 0,
        without: 0,
        last: VecDeque::new(),
        cut_at_ns: None,
        times: times.clone(),
    };
    let mut from_ns = times.start;
    loop {
        let page = store.features(series, window_ns, from_ns..times.end, PAGE_ROWS).await?;
        let Some(next) = page.last().map(|last| last.start_ns.saturating_add(1)) else { break };
        let is_last = page.len() < PAGE_ROWS;
        for feature in page {
            features.take(feature, figure);
        }
        from_ns = next;
        if is_last {
            break;
        }
        if features.count >= FEATURES_MAX {
            let next = store.features(series, window_ns, from_ns..times.end, 1).await?;
            features.cut_at_ns = next.first().map(|next| next.start_ns);
            break;
        }
    }
    Ok(features)
}

impl Features {
    fn take(&mut self, feature: Feature, figure: Figure) {
        let x = (i128::from(feature.start_ns) - i128::from(self.times.start)) as f64;
        self.count += 1;
        match feature.figures.get(figure) {
            Some(value) => {
                self.columns.add(x, value, Quality::Good);
                match &mut self.points {
                    Some(points) if points.len() < POINTS_MAX => points.push((x, value)),
                    points => *points = None,
                }
            }
            None => self.without += 1,
        }
        if feature.provisional && self.provisional.len() < POINTS_MAX {
            self.provisional.push(x);
        }
        if self.last.len() == LAST_ROWS {
            self.last.pop_front();
        }
        self.last.push_back(feature);
    }
}
