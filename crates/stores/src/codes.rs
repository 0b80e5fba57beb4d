//! What stores refuse, and the codes that they keep. Pure.

use mantis_pipeline::Reason;
use mantis_schemas::Quality;

/// First time that can be stored; the two below are the bounds of half-open ranges, as in InfluxDB.
pub(crate) const TIME_NS_MIN: i64 = -9_223_372_036_854_775_806;
/// Last time that can be stored.
pub(crate) const TIME_NS_MAX: i64 = 9_223_372_036_854_775_806;

/// Why a row at this time cannot be stored, if so.
pub(crate) fn refuse_time(time_ns: i64) -> Option<Reason> {
    (!(TIME_NS_MIN..=TIME_NS_MAX).contains(&time_ns))
        .then(|| Reason::new("time-out-of-range", format!("the time {time_ns} ns is outside of {TIME_NS_MIN}..={TIME_NS_MAX}")))
}

/// Why a reading cannot be stored, if so.
pub(crate) fn refuse_reading(time_ns: i64, value: f64) -> Option<Reason> {
    if let Some(reason) = refuse_time(time_ns) {
        return Some(reason);
    }
    (!value.is_finite())
        .then(|| Reason::new("not-finite", format!("the value {value} is not a finite number: send none instead")))
}

/// The quality behind a stored code.
pub(crate) fn quality(code: u8) -> Option<Quality> {
    [Quality::Good, Quality::Uncertain, Quality::Bad].into_iter().find(|quality| *quality as u8 == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_of_quality_never_change() {
        let qualities = [Quality::Good, Quality::Uncertain, Quality::Bad].map(|quality| quality as u8);
        assert_eq!(qualities, [0, 1, 2]);
        assert_eq!(quality(2), Some(Quality::Bad));
        assert_eq!(quality(3), None);
    }

    #[test]
    fn only_finite_values_at_times_that_can_be_stored_are_taken() {
        for value in [0.0, -0.0, f64::MAX, f64::MIN, 5e-324] {
            assert_eq!(refuse_reading(0, value), None);
        }
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(refuse_reading(0, value).map(|reason| reason.code), Some("not-finite"));
        }
        for time_ns in [TIME_NS_MIN, -1, 0, TIME_NS_MAX] {
            assert_eq!(refuse_reading(time_ns, 1.0), None);
        }
        for time_ns in [i64::MIN, i64::MIN + 1, i64::MAX] {
            assert_eq!(refuse_reading(time_ns, 1.0).map(|reason| reason.code), Some("time-out-of-range"));
        }
    }
}
