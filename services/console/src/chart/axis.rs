//! Axes: where values lie, and which of them are written down.

use jiff::{Timestamp, tz::TimeZone};

use crate::text;

/// Texts along an axis, about.
const TICKS: f64 = 4.0;
const SECOND: f64 = 1e9;
const DAY: f64 = 86_400.0 * SECOND;
/// Steps of time that people count in, ns.
const TIME_STEPS: [f64; 28] = [
    1e3,
    1e4,
    1e5,
    1e6,
    1e7,
    1e8,
    SECOND,
    2.0 * SECOND,
    5.0 * SECOND,
    10.0 * SECOND,
    30.0 * SECOND,
    60.0 * SECOND,
    120.0 * SECOND,
    300.0 * SECOND,
    600.0 * SECOND,
    1_800.0 * SECOND,
    3_600.0 * SECOND,
    7_200.0 * SECOND,
    21_600.0 * SECOND,
    43_200.0 * SECOND,
    DAY,
    2.0 * DAY,
    7.0 * DAY,
    28.0 * DAY,
    91.0 * DAY,
    365.0 * DAY,
    3_650.0 * DAY,
    36_500.0 * DAY,
];

/// An axis from `low` to `high`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    low: f64,
    high: f64,
    pub(crate) ticks: Vec<Tick>,
    /// What it shows, with its unit.
    pub(crate) title: String,
}

/// A place along an axis that is written down.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    /// In percent from the low end.
    pub(crate) at: String,
    /// In percent from the high end, for the axis that goes up.
    pub(crate) from_top: String,
    pub(crate) text: String,
}

impl Axis {
    /// An axis without texts.
    pub(crate) fn plain(low: f64, high: f64) -> Self {
        Self { low, high, ticks: Vec::new(), title: String::new() }
    }

    /// An axis of values that leaves some room above and below them.
    pub(crate) fn of_values((low, high): (f64, f64), title: String) -> Self {
        let room = (high / 2.0 - low / 2.0) * 0.1;
        let (low, high) = match room > 0.0 {
            true => (low - room, high + room),
            // One value only: it goes to the middle.
            false => (low - (low.abs() * 0.1).max(1e-9), high + (high.abs() * 0.1).max(1e-9)),
        };
        let (low, high) = (low.max(f64::MIN), high.min(f64::MAX));
        Self::with_ticks(low, high, nice(high / TICKS - low / TICKS), text::number, title)
    }

    /// An axis of a quantity that begins at its first value, such as Hz.
    pub(crate) fn exact(low: f64, high: f64, title: String) -> Self {
        Self::with_ticks(low, high, nice(high / TICKS - low / TICKS), text::number, title)
    }

    /// An axis of time from `from_ns` to `to_ns`; its values are ns after `from_ns`.
    pub(crate) fn of_time(from_ns: i64, to_ns: i64) -> Self {
        let length = (i128::from(to_ns) - i128::from(from_ns)).max(1) as f64;
        let step = TIME_STEPS.into_iter().find(|step| length / step <= TICKS + 1.0).unwrap_or(TIME_STEPS[TIME_STEPS.len() - 1]);
        let title = format!("{} to {}", text::time(from_ns), text::time(to_ns));
        let mut axis = Self { low: 0.0, high: length, ticks: Vec::new(), title };
        let step_ns = step as i128;
        let mut at = (i128::from(from_ns)).div_euclid(step_ns) * step_ns;
        let mut last_day = None;
        while at <= i128::from(to_ns) {
            if at >= i128::from(from_ns) {
                let day = at.div_euclid(DAY as i128);
                // The day is said once; times of the same day go without it.
                let with_day = step >= DAY || last_day.is_some_and(|last| last != day);
                last_day = Some(day);
                let text = tick_time(at, step, with_day);
                axis.ticks.push(axis.tick((at - i128::from(from_ns)) as f64, text));
            }
            at += step_ns;
        }
        axis
    }

    /// Where a value lies, 0 at the low end and 1 at the high one.
    pub(crate) fn part(&self, value: f64) -> f64 {
        // Halves, because the whole may be beyond a double.
        let whole = self.high / 2.0 - self.low / 2.0;
        if whole > 0.0 { (value / 2.0 - self.low / 2.0) / whole } else { 0.5 }
    }

    fn with_ticks(low: f64, high: f64, step: f64, text: impl Fn(f64) -> String, title: String) -> Self {
        let mut axis = Self { low, high, ticks: Vec::new(), title };
        if !(step.is_normal() && high > low) {
            return axis;
        }
        let first = (low / step).ceil();
        let mut index = 0.0;
        loop {
            let value = (first + index) * step;
            // Beyond the precision of a double a step no longer leads on.
            if value > high || !value.is_finite() || index > 2.0 * TICKS + 2.0 {
                return axis;
            }
            axis.ticks.push(axis.tick(value, text(value)));
            index += 1.0;
        }
    }

    fn tick(&self, value: f64, text: String) -> Tick {
        let part = self.part(value) * 100.0;
        Tick { at: format!("{part:.2}%"), from_top: format!("{:.2}%", 100.0 - part), text }
    }
}

/// The next of 1, 2 and 5 times a power of ten.
fn nice(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let times = step / power;
    let nice = if times <= 1.0 {
        1.0
    } else if times <= 2.0 {
        2.0
    } else if times <= 5.0 {
        5.0
    } else {
        10.0
    };
    nice * power
}

fn tick_time(at_ns: i128, step: f64, with_day: bool) -> String {
    let Ok(timestamp) = Timestamp::from_nanosecond(at_ns) else { return String::new() };
    let format = match (step, with_day) {
        (DAY.., _) => "%Y-%m-%d",
        (60e9.., true) => "%m-%d %H:%M",
        (60e9.., false) => "%H:%M",
        (SECOND.., _) => "%H:%M:%S",
        (1e6.., _) => "%H:%M:%S%.3f",
        _ => "%H:%M:%S%.6f",
    };
    timestamp.to_zoned(TimeZone::UTC).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE_NS: i64 = 60_000_000_000;

    fn texts(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.text.as_str()).collect()
    }

    #[test]
    fn values_are_written_at_round_places() {
        assert_eq!(texts(&Axis::exact(0.0, 100.0, String::new())), ["0", "50", "100"]);
        assert_eq!(texts(&Axis::of_values((0.0, 9.0), String::new())), ["0", "5"]);
        assert_eq!(texts(&Axis::of_values((7.0, 7.0), String::new())), ["6.5", "7", "7.5"]);
    }

    #[test]
    fn times_are_written_at_steps_that_people_count_in_and_name_a_day_that_begins() {
        let from_ns = 1_583_711_400_000_000_000; // 2020-03-08T23:50:00Z
        assert_eq!(texts(&Axis::of_time(from_ns, from_ns + 20 * MINUTE_NS)), ["23:50", "23:55", "03-09 00:00", "00:05", "00:10"]);
        assert_eq!(texts(&Axis::of_time(from_ns, from_ns + 3 * 1440 * MINUTE_NS)), ["2020-03-09", "2020-03-10", "2020-03-11"]);
        assert_eq!(texts(&Axis::of_time(0, 2_000_000)).len(), 3);
    }

    proptest! {
        #[test]
        fn every_axis_ends_and_has_its_values_on_it(a in any::<f64>(), b in any::<f64>(), from in any::<i64>(), to in any::<i64>()) {
            prop_assume!(a.is_finite() && b.is_finite());
            let (low, high) = (a.min(b), a.max(b));
            let axis = Axis::of_values((low, high), String::new());
            prop_assert!(axis.ticks.len() <= 12);
            prop_assert!((0.0..=1.0).contains(&axis.part(low)) && (0.0..=1.0).contains(&axis.part(high)));
            let axis = Axis::of_time(from.min(to), from.max(to));
            prop_assert!(axis.ticks.len() <= 8);
            prop_assert!(axis.ticks.iter().all(|tick| !tick.at.contains('-')));
        }
    }
}
