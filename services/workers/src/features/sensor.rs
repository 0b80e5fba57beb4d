//! One sensor: its samples, its watermark and its open windows. Pure: no clock, no Kafka, no names.

use mantis_schemas::{Feature, Figure, Figures, Quality};
use mantis_signal::{Moments, SCALAR_VERSION, ScalarFeatures};
use serde::{Deserialize, Serialize};

use super::{
    FeatureConfig,
    samples::{Put, Samples, Slice},
};

/// Places for windows that are added at a time: with many sensors doubling would cost.
const OPEN_GROWTH: usize = 4;

/// What became of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is in its windows, or counted there as bad.
    New,
    /// Its time was there already, with the same value.
    Duplicate,
    /// Its time was there already, with another value, which it replaced.
    Conflict,
    /// It came too late for any window.
    Late(Late),
}

/// Why a reading is too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// It is further behind the sensor's newest reading than the allowed lateness.
    Lateness,
    /// The sensor has sent more samples since than are kept.
    Samples,
}

/// A sensor's state. What it says depends on the sensor's own readings alone, and within the lateness not on their order.
#[derive(Clone, Debug)]
pub(super) struct SensorState {
    pub(super) samples: Samples,
    /// Time of the newest reading.
    pub(super) watermark_ns: i64,
    /// What still comes of before it is too late: not all samples of its windows are kept one by one.
    pub(super) kept_from_ns: i64,
    /// Those without a final row, and those that are in moments; by (start, length). A window whose final row is out is made
    /// again from the samples when it changes.
    pub(super) open: Vec<Open>,
    /// The earliest end of a window that has no final row yet.
    next_end_ns: i64,
    /// What did not come as it should, since the sensor was first seen.
    pub(super) irregular: Irregular,
}

/// Readings of a sensor that did not come once and in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Irregular {
    /// Those that were there already.
    pub duplicates: u64,
    /// Those that replaced another value of the same time.
    pub conflicts: u64,
    /// Those that came too late for any window.
    pub late: u64,
}

/// A window that may still change.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Open {
    pub(super) start_ns: i64,
    pub(super) window_ns: i64,
    /// Offset of the last record that changed it.
    pub(super) revision: i64,
    pub(super) published: Published,
    pub(super) folded: Option<Box<Folded>>,
}

/// What the world knows of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Published {
    /// It has changed since.
    Not = 0,
    /// A provisional row, and it has not changed since.
    Provisional = 1,
    /// A final row, and it has not changed since.
    Final = 2,
}

/// Samples of a window that are no longer kept one by one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Folded {
    pub(super) moments: Moments,
    pub(super) uncertain: u64,
    pub(super) bad: u64,
}

impl Default for SensorState {
    fn default() -> Self {
        Self {
            samples: Samples::default(),
            watermark_ns: i64::MIN,
            kept_from_ns: i64::MIN,
            open: Vec::new(),
            next_end_ns: i64::MAX,
            irregular: Irregular::default(),
        }
    }
}

impl SensorState {
    /// The state that a snapshot holds, without what is not needed any more.
    pub(super) fn restored(
        config: &FeatureConfig,
        samples: Samples,
        watermark_ns: i64,
        kept_from_ns: i64,
        open: Vec<Open>,
        irregular: Irregular,
    ) -> Self {
        let not_final = open.iter().filter(|open| open.published != Published::Final);
        let next_end_ns = not_final.map(end_of).min().unwrap_or(i64::MAX);
        let mut state = Self { samples, watermark_ns, kept_from_ns, open, next_end_ns, irregular };
        // Lateness or windows may be shorter than they were, so that the state fits within its bound again.
        state.retire(config);
        state.samples.shrink_to(0);
        state
    }

    /// Memory that was allocated for it.
    pub(super) fn bytes(&self) -> usize {
        let folded = self.open.iter().filter(|open| open.folded.is_some()).count();
        self.samples.bytes() + self.open.capacity() * size_of::<Open>() + folded * size_of::<Folded>()
    }

    /// Takes a reading of the record at `offset`.
    pub(super) fn take(&mut self, config: &FeatureConfig, time_ns: i64, value: f64, quality: Quality, offset: i64) -> Taken {
        let late = if time_ns < self.watermark_ns.saturating_sub(config.lateness_ns) {
            Some(Late::Lateness)
        } else {
            (time_ns < self.kept_from_ns).then_some(Late::Samples)
        };
        if let Some(late) = late {
            self.irregular.late += 1;
            return Taken::Late(late);
        }
        let taken = match self.samples.put(time_ns, value, quality) {
            Put::New => Taken::New,
            Put::Replaced => {
                self.irregular.conflicts += 1;
                Taken::Conflict
            }
            Put::Same => {
                self.irregular.duplicates += 1;
                return Taken::Duplicate;
            }
        };
        for window_ns in &config.windows_ns {
            let open = self.window(*window_ns, time_ns);
            open.revision = open.revision.max(offset);
            open.published = Published::Not;
            let end_ns = end_of(open);
            self.next_end_ns = self.next_end_ns.min(end_ns);
        }
        self.watermark_ns = self.watermark_ns.max(time_ns);
        taken
    }

    /// Brings the number of samples below twice the bound of a window, before a record is taken. What can no longer change is
    /// dropped first, after its rows were given out, so that the bound is met at the same record however records are batched;
    /// then what only late readings could change; and only windows that are longer than the bound by themselves are folded into
    /// moments.
    pub(super) fn make_room(&mut self, config: &FeatureConfig, processed_ms: i64, give: impl FnMut(Feature)) {
        let is_full = |samples: &Samples| samples.len() >= config.samples_max.saturating_mul(2);
        if !is_full(&self.samples) {
            return;
        }
        self.publish(config, false, processed_ms, give);
        self.retire(config);
        if is_full(&self.samples)
            && let Some(time_ns) = self.samples.time_ns(self.samples.len() - config.samples_max)
        {
            self.keep_windows_from(config, time_ns);
        }
        if is_full(&self.samples) {
            self.fold_older_half(config);
        }
    }

    /// Gives out the rows that are due: of windows whose end the sensor has passed, the final ones; with `early` also
    /// provisional ones of the others. Then drops what needs not be kept.
    pub(super) fn publish(&mut self, config: &FeatureConfig, early: bool, processed_ms: i64, mut give: impl FnMut(Feature)) {
        if !early && self.next_end_ns > self.watermark_ns {
            return;
        }
        self.next_end_ns = i64::MAX;
        let watermark_ns = self.watermark_ns;
        for open in &mut self.open {
            let passed = end_of(open) <= watermark_ns;
            let due = if passed { open.published != Published::Final } else { early && open.published == Published::Not };
            if due {
                open.published = if passed { Published::Final } else { Published::Provisional };
                give(row(&self.samples, open, processed_ms));
            }
            if open.published != Published::Final {
                self.next_end_ns = self.next_end_ns.min(end_of(open));
            }
        }
        self.retire(config);
    }

    /// True if a window has changed since its last row.
    pub(super) fn has_news(&self) -> bool {
        self.open.iter().any(|open| open.published == Published::Not)
    }

    /// Drops the windows that need no place of their own, and the samples that no window needs.
    pub(super) fn retire(&mut self, config: &FeatureConfig) {
        let late_ns = self.watermark_ns.saturating_sub(config.lateness_ns);
        self.open.retain(|open| open.published != Published::Final || open.folded.is_some() && end_of(open) > late_ns);
        self.keep_windows_from(config, late_ns);
    }

    /// Drops the samples of windows that end before `time_ns`; from it on a late reading finds its windows whole.
    fn keep_windows_from(&mut self, config: &FeatureConfig, time_ns: i64) {
        let first_ns = config.windows_ns.iter().map(|window_ns| start_of(*window_ns, time_ns)).min();
        self.samples.drop_before(first_ns.unwrap_or(time_ns));
        self.kept_from_ns = self.kept_from_ns.max(time_ns);
    }

    /// The window of this length at this time. One that is not there is made as if its final row were out, which it is where
    /// there are samples of it.
    fn window(&mut self, window_ns: i64, time_ns: i64) -> &mut Open {
        let key = (start_of(window_ns, time_ns), window_ns);
        let place = match self.open.last() {
            Some(last) if (last.start_ns, last.window_ns) == key => self.open.len() - 1,
            _ => match self.open.binary_search_by_key(&key, |open| (open.start_ns, open.window_ns)) {
                Ok(place) => place,
                Err(place) => {
                    let (start_ns, window_ns) = key;
                    let open = Open { start_ns, window_ns, revision: -1, published: Published::Final, folded: None };
                    if self.open.len() == self.open.capacity() {
                        self.open.reserve_exact(OPEN_GROWTH);
                    }
                    self.open.insert(place, open);
                    place
                }
            },
        };
        &mut self.open[place]
    }

    /// Folds the older half of the samples into the moments of their windows.
    fn fold_older_half(&mut self, config: &FeatureConfig) {
        let Some(to_ns) = self.samples.time_ns(self.samples.len() / 2) else { return };
        for window_ns in &config.windows_ns {
            let mut next = 0;
            while let Some(time_ns) = self.samples.time_ns(next).filter(|time_ns| *time_ns < to_ns) {
                let end_ns = end_of(self.window(*window_ns, time_ns));
                next = self.samples.before(end_ns).max(next + 1);
            }
        }
        let samples = &self.samples;
        for open in &mut self.open {
            let slice = samples.between(open.start_ns, end_of(open).min(to_ns));
            if slice.is_empty() {
                continue;
            }
            let folded = open.folded.get_or_insert_default();
            slice.usable().for_each(|(time_ns, value)| folded.moments.push(time_ns, value));
            folded.uncertain += slice.count(Quality::Uncertain) as u64;
            folded.bad += slice.count(Quality::Bad) as u64;
        }
        self.samples.drop_before(to_ns);
        self.kept_from_ns = self.kept_from_ns.max(to_ns);
    }
}

/// The window's figures as they are now.
fn row(samples: &Samples, open: &Open, processed_ms: i64) -> Feature {
    let slice = samples.between(open.start_ns, end_of(open));
    let (mut uncertain, mut bad) = (slice.count(Quality::Uncertain) as u64, slice.count(Quality::Bad) as u64);
    let (features, coverage);
    match &open.folded {
        None => {
            features = if bad == 0 {
                ScalarFeatures::of(slice.values())
            } else {
                ScalarFeatures::of(&slice.usable().map(|(_, value)| value).collect::<Vec<_>>())
            };
            coverage = median_step_ns(&slice).map(|step_ns| covered(open.window_ns, features.map_or(0, |f| f.count), step_ns));
        }
        Some(folded) => {
            let mut moments = folded.moments;
            slice.usable().for_each(|(time_ns, value)| moments.push(time_ns, value));
            uncertain += folded.uncertain;
            bad += folded.bad;
            features = moments.features();
            let span_ns = moments.last_time_ns.saturating_sub(moments.first_time_ns);
            coverage =
                (moments.count > 1).then(|| covered(open.window_ns, moments.count, span_ns as f64 / (moments.count - 1) as f64));
        }
    }
    Feature {
        window_ns: open.window_ns,
        start_ns: open.start_ns,
        end_ns: end_of(open),
        version: SCALAR_VERSION as i32,
        count: features.map_or(0, |features| features.count as i64),
        uncertain: uncertain as i64,
        bad: bad as i64,
        coverage,
        exact: open.folded.is_none(),
        provisional: open.published != Published::Final,
        revision: open.revision,
        processed_ms,
        figures: features.as_ref().map_or_else(Figures::default, figures),
        extras: "".into(),
    }
}

/// The figures by name.
pub(super) fn figures(features: &ScalarFeatures) -> Figures {
    let mut figures = Figures::default();
    let f = features;
    for (figure, value) in [
        (Figure::Mean, Some(f.mean)),
        (Figure::Std, f.std),
        (Figure::Min, Some(f.min)),
        (Figure::Max, Some(f.max)),
        (Figure::First, Some(f.first)),
        (Figure::Last, Some(f.last)),
        (Figure::Rms, f.rms),
        (Figure::Peak, Some(f.peak)),
        (Figure::PeakToPeak, f.peak_to_peak),
        (Figure::CrestFactor, f.crest_factor),
        (Figure::ShapeFactor, f.shape_factor),
        (Figure::ImpulseFactor, f.impulse_factor),
        (Figure::ClearanceFactor, f.clearance_factor),
        (Figure::Skewness, f.skewness),
        (Figure::KurtosisExcess, f.kurtosis_excess),
        (Figure::ZeroCrossings, f.zero_crossings.map(|crossings| crossings as f64)),
        (Figure::RmsAc, f.rms_ac),
        (Figure::PeakAc, f.peak_ac),
        (Figure::CrestFactorAc, f.crest_factor_ac),
    ] {
        figures.set(figure, value);
    }
    figures
}

/// Median distance of the samples that entered the figures, in ns.
fn median_step_ns(slice: &Slice<'_>) -> Option<f64> {
    let times: Vec<i64> = slice.usable().map(|(time_ns, _)| time_ns).collect();
    let mut steps: Vec<i64> = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
    let middle = steps.len() / 2;
    if steps.is_empty() {
        return None;
    }
    let (below, median, _) = steps.select_nth_unstable(middle);
    let upper = *median as f64;
    let lower = below.iter().max().map_or(upper, |lower| *lower as f64);
    Some(if times.len().is_multiple_of(2) { upper } else { f64::midpoint(lower, upper) })
}

fn covered(window_ns: i64, count: u64, step_ns: f64) -> f64 {
    (count as f64 * step_ns / window_ns as f64).min(1.0)
}

fn start_of(window_ns: i64, time_ns: i64) -> i64 {
    time_ns.saturating_sub(time_ns.rem_euclid(window_ns))
}

fn end_of(open: &Open) -> i64 {
    open.start_ns.saturating_add(open.window_ns)
}
