//! How well a sensor keeps time, by the readings of a period.

use super::StoredReading;

/// A step is a gap when it is so many times the usual one.
const GAP_STEPS: i64 = 5;

/// Gathers the readings of a sensor, in order of time.
#[derive(Debug, Default)]
pub struct Gathered {
    first_ns: Option<i64>,
    last: Option<(i64, i64)>,
    steps_ns: Vec<i64>,
    skews_ms: Vec<i64>,
    newest_arrival_ms: Option<i64>,
    out_of_order: u64,
}

impl Gathered {
    /// Takes the next reading.
    pub fn add(&mut self, reading: &StoredReading) {
        self.first_ns.get_or_insert(reading.time_ns);
        if let Some((time_ns, arrival_ms)) = self.last {
            self.steps_ns.push(reading.time_ns.saturating_sub(time_ns));
            self.out_of_order += u64::from(arrival_ms > reading.arrival_ms && reading.arrival_ms >= 0);
        }
        if reading.arrival_ms >= 0 {
            self.skews_ms.push(reading.arrival_ms - reading.time_ns / 1_000_000);
            self.newest_arrival_ms = self.newest_arrival_ms.max(Some(reading.arrival_ms));
        }
        self.last = Some((reading.time_ns, reading.arrival_ms));
    }

    /// What it says together.
    pub fn timing(mut self) -> Timing {
        let median_step_ns = median(&mut self.steps_ns);
        let gap_ns = median_step_ns.map_or(i64::MAX, |step| step.saturating_mul(GAP_STEPS));
        let gaps = self.steps_ns.iter().filter(|step| **step > gap_ns);
        let span_ns = self.first_ns.zip(self.last).map(|(first, (last, _))| i128::from(last) - i128::from(first));
        Timing {
            rate_hz: span_ns.filter(|span| *span > 0).map(|span| self.steps_ns.len() as f64 * 1e9 / span as f64),
            median_step_ns,
            gaps: gaps.clone().count() as u64,
            longest_gap_ns: gaps.max().copied(),
            out_of_order: self.out_of_order,
            median_skew_ms: median(&mut self.skews_ms),
            newest_arrival_ms: self.newest_arrival_ms,
        }
    }
}

/// How well a sensor keeps time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timing {
    /// Readings per second; `None` below two.
    pub rate_hz: Option<f64>,
    /// The usual distance of two readings.
    pub median_step_ns: Option<i64>,
    /// Steps of more than five times that.
    pub gaps: u64,
    /// The longest of them.
    pub longest_gap_ns: Option<i64>,
    /// Readings that arrived after one with a later source time.
    pub out_of_order: u64,
    /// Arrival less source time.
    pub median_skew_ms: Option<i64>,
    /// When the last of them arrived.
    pub newest_arrival_ms: Option<i64>,
}

impl Timing {
    /// Distance beyond which two readings are not joined in a chart, ns.
    pub fn break_ns(&self) -> f64 {
        self.median_step_ns.map_or(f64::INFINITY, |step| step as f64 * 2.0 * GAP_STEPS as f64)
    }
}

fn median(values: &mut [i64]) -> Option<i64> {
    if values.is_empty() {
        return None;
    }
    let (_, median, _) = values.select_nth_unstable(values.len() / 2);
    Some(*median)
}

#[cfg(test)]
mod tests {
    use mantis_schemas::Quality;

    use super::*;

    fn timing(readings: &[(i64, i64)]) -> Timing {
        let mut gathered = Gathered::default();
        for (time_ms, arrival_ms) in readings {
            gathered.add(&StoredReading {
                time_ns: time_ms * 1_000_000,
                value: 0.0,
                quality: Quality::Good,
                arrival_ms: *arrival_ms,
            });
        }
        gathered.timing()
    }

    #[test]
    fn rate_gaps_order_and_skew_are_found() {
        let found = timing(&[(0, 10), (100, 110), (200, 500), (300, 310), (1_000, 1_010)]);
        assert_eq!(found.rate_hz, Some(4.0));
        assert_eq!((found.median_step_ns, found.gaps, found.longest_gap_ns), (Some(100_000_000), 1, Some(700_000_000)));
        assert_eq!((found.out_of_order, found.median_skew_ms, found.newest_arrival_ms), (1, Some(10), Some(1_010)));
    }

    #[test]
    fn one_reading_without_arrival_says_nothing() {
        assert_eq!(timing(&[(5, -1)]), Timing::default());
        assert_eq!(timing(&[]).break_ns(), f64::INFINITY);
    }
}
