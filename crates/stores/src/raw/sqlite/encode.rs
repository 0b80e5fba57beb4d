//! Between columns and what the tables hold. Pure.

use mantis_pipeline::Reason;
use mantis_schemas::{Frame, Quality, SampleFormat};

/// First time that can be stored; the two below are the bounds of half-open ranges, as in InfluxDB.
pub(super) const TIME_NS_MIN: i64 = -9_223_372_036_854_775_806;
/// Last time that can be stored.
pub(super) const TIME_NS_MAX: i64 = 9_223_372_036_854_775_806;
/// Largest frame, far above what a record can bring.
pub(super) const FRAME_BYTES_MAX: usize = 64 << 20;

/// Why a reading cannot be stored, if so.
pub(super) fn refuse_reading(time_ns: i64, value: f64) -> Option<Reason> {
    if let Some(reason) = refuse_time(time_ns) {
        return Some(reason);
    }
    (!value.is_finite())
        .then(|| Reason::new("not-finite", format!("the value {value} is not a finite number: send none instead")))
}

/// Why a frame cannot be stored, if so.
pub(super) fn refuse_frame(frame: &Frame<'_>) -> Option<Reason> {
    if let Some(reason) = refuse_time(frame.start_ns) {
        return Some(reason);
    }
    if !frame.sample_rate_hz.is_finite() || !frame.scale.is_finite() {
        return Some(Reason::new(
            "not-finite",
            format!("the rate {} or the scale {} is not a finite number", frame.sample_rate_hz, frame.scale),
        ));
    }
    (frame.samples.len() > FRAME_BYTES_MAX).then(|| {
        Reason::new(
            "frame-too-large",
            format!("the frame has {} bytes of at most {FRAME_BYTES_MAX}: send shorter frames", frame.samples.len()),
        )
    })
}

fn refuse_time(time_ns: i64) -> Option<Reason> {
    (!(TIME_NS_MIN..=TIME_NS_MAX).contains(&time_ns))
        .then(|| Reason::new("time-out-of-range", format!("the time {time_ns} ns is outside of {TIME_NS_MIN}..={TIME_NS_MAX}")))
}

/// The quality behind a stored code.
pub(super) fn quality(code: u8) -> Option<Quality> {
    [Quality::Good, Quality::Uncertain, Quality::Bad].into_iter().find(|quality| *quality as u8 == code)
}

/// The sample format behind a stored code.
pub(super) fn format(code: u8) -> Option<SampleFormat> {
    [SampleFormat::F64, SampleFormat::F32, SampleFormat::I16].into_iter().find(|format| *format as u8 == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_of_quality_and_format_never_change() {
        let qualities = [Quality::Good, Quality::Uncertain, Quality::Bad].map(|quality| quality as u8);
        assert_eq!(qualities, [0, 1, 2]);
        let formats = [SampleFormat::F64, SampleFormat::F32, SampleFormat::I16].map(|format| format as u8);
        assert_eq!(formats, [0, 1, 2]);
        assert_eq!(quality(2), Some(Quality::Bad));
        assert_eq!(quality(3), None);
        assert_eq!(format(1), Some(SampleFormat::F32));
        assert_eq!(format(3), None);
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
