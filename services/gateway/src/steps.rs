//! Whether the rows of a waveform follow each other as their rate says.

/// Samples that a row may come too late or too early: stamps are rounded.
const SAMPLES_OFF: f64 = 1.5;
/// Of a step between stamps, how far it may be off because the real rate is a little other than the declared one.
const RATE_OFF: f64 = 0.01;
/// Longest that a stamp may have lasted before the first row of it that is there.
const STAMP_NS_MAX: i64 = 1_000_000_000;

/// Follows the stamps of rows that were sampled at one rate.
///
/// Stamps may be coarser than the rate: then rows share one, and only where it changes the number of rows can be held against the
/// time that has passed. That is done for the step, so that a hole is found where it is, and for the whole stretch, so that single
/// missing rows and a wrong rate do not add up.
#[derive(Debug)]
pub(crate) struct Steps {
    rate_hz: f64,
    /// How far a row may be off, where the mapping says it.
    gap_ns: Option<i64>,
    /// The last stamp, and the rows since it came.
    last: Option<(i64, u64)>,
    /// A stamp whose first row is known, and the rows since that.
    base: Option<(i64, u64)>,
    /// True if rows share stamps.
    shared: bool,
    /// True if rows of the last stamp may be missing in front.
    partial: bool,
}

impl Steps {
    pub(crate) fn new(rate_hz: f64, gap_ns: Option<i64>) -> Self {
        Self { rate_hz, gap_ns, last: None, base: None, shared: false, partial: true }
    }

    /// The next row belongs to another waveform.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.rate_hz, self.gap_ns);
    }

    /// A row that has no stamp.
    pub(crate) fn skip(&mut self) {
        for (_, rows) in self.last.iter_mut().chain(&mut self.base) {
            *rows += 1;
        }
    }

    /// True if rows are missing before this one, or it does not belong behind the one before.
    pub(crate) fn breaks(&mut self, time_ns: i64) -> bool {
        self.skip();
        let Some((last_ns, rows)) = self.last else {
            (self.last, self.base) = (Some((time_ns, 0)), Some((time_ns, 0)));
            return false;
        };
        if time_ns == last_ns {
            if !self.shared {
                // The first row of its stamp was not known to be that.
                (self.shared, self.base) = (true, self.base.filter(|_| !self.partial));
            }
            return false;
        }
        self.last = Some((time_ns, 0));
        let step_ns = time_ns.saturating_sub(last_ns);
        let begun_before = self.partial && self.shared && (0..=STAMP_NS_MAX).contains(&step_ns);
        let of_stretch = self.base.is_some_and(|(base_ns, rows)| self.is_off(time_ns.saturating_sub(base_ns), rows));
        let breaks = of_stretch || self.is_off(step_ns, rows) && !begun_before;
        self.partial = breaks && self.shared;
        if breaks || self.base.is_none() {
            self.base = Some((time_ns, 0)).filter(|_| !self.partial);
        }
        breaks
    }

    /// Whether so many rows do not take this time.
    fn is_off(&self, passed_ns: i64, rows: u64) -> bool {
        let off_ns = passed_ns as f64 - rows as f64 / self.rate_hz * 1e9;
        let by_rate = SAMPLES_OFF / self.rate_hz * 1e9 + RATE_OFF * passed_ns.unsigned_abs() as f64;
        off_ns.abs() > self.gap_ns.map_or(by_rate, |gap_ns| gap_ns as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of the rows that break, of rows that were sampled at these indexes.
    fn breaks(rate_hz: f64, resolution_ns: i64, indexes: impl IntoIterator<Item = i64>) -> Vec<i64> {
        let mut steps = Steps::new(rate_hz, None);
        let stamp = |index: i64| (index as f64 / rate_hz * 1e9) as i64 / resolution_ns * resolution_ns;
        indexes.into_iter().filter(|index| steps.breaks(stamp(*index))).collect()
    }

    #[test]
    fn rows_that_follow_their_rate_belong_together_however_coarse_their_stamps_are() {
        for rate_hz in [0.1, 1.0, 50.0, 1_000.0, 12_000.0, 25_600.0] {
            for resolution_ns in [1, 1_000, 10_000, 1_000_000, 1_000_000_000] {
                let found = breaks(rate_hz, resolution_ns, 7..60_000);
                assert_eq!(found, Vec::<i64>::new(), "{rate_hz} Hz, {resolution_ns} ns");
            }
        }
    }

    #[test]
    fn missing_rows_are_noticed_as_finely_as_the_stamps_tell() {
        let without = |from, to| (0..60_000).filter(move |index| !(from..to).contains(index));
        assert_eq!(breaks(25_600.0, 1_000, without(500, 502)), [502]);
        assert_eq!(breaks(0.5, 1_000_000, without(500, 502)), [502]);
        // Stamps in ms: where the next one begins, some rows behind the hole.
        let [found] = breaks(25_600.0, 1_000_000, without(10_000, 20_000))[..] else { panic!("not one break") };
        assert!((20_000..20_026).contains(&found), "{found}");
        assert_eq!(breaks(25_600.0, 1_000_000_000, without(30_000, 33_000)).len(), 1);
    }

    #[test]
    fn single_missing_rows_and_a_wrong_rate_do_not_add_up() {
        // Every tenth row is missing: each alone is within the bound.
        let found = breaks(1_000.0, 1_000, (0..1_000).filter(|index| index % 10 != 9));
        assert!(found.len() > 30, "{} breaks", found.len());
        // Stamps of a rate of 50 Hz.
        let mut steps = Steps::new(100.0, None);
        let found = (0..100).filter(|row| steps.breaks(row * 20_000_000)).count();
        assert!(found > 40, "{found} breaks");
    }

    #[test]
    fn a_hole_behind_the_first_row_is_noticed() {
        let mut steps = Steps::new(100.0, None);
        assert_eq!([0, 500, 510, 520].map(|ms| steps.breaks(ms * 1_000_000)), [false, true, false, false]);
        steps.reset();
        assert_eq!([0, 500, 510].map(|ms| steps.breaks(ms * 1_000_000)), [false, true, false]);
    }

    #[test]
    fn a_row_that_goes_back_in_time_does_not_belong_behind_the_one_before() {
        let order = (0..100).chain(50..60).chain(200..300);
        assert_eq!(breaks(1_000.0, 1_000, order), [50, 200]);
    }

    #[test]
    fn a_real_rate_that_is_a_little_other_than_the_declared_one_breaks_nothing() {
        let mut steps = Steps::new(25_600.0, None);
        assert!(!(0..100_000).any(|row| steps.breaks(row * 39_000)));
        let mut steps = Steps::new(25_600.0, None);
        assert!(!(0..100_000).any(|row| steps.breaks(row * 39_000 / 1_000_000_000 * 1_000_000_000)));
    }

    #[test]
    fn a_mapping_may_say_how_far_rows_may_be_off() {
        let mut steps = Steps::new(1_000.0, Some(20_000_000));
        let stamps = [0, 1, 15, 16, 17, 60];
        assert_eq!(stamps.map(|ms| steps.breaks(ms * 1_000_000)), [false, false, false, false, false, true]);
    }
}
