//! What raw stores refuse, and the codes that they keep. Pure.

use mantis_pipeline::Reason;
use mantis_schemas::{Frame, SampleFormat};

use crate::codes::refuse_time;

/// Largest frame, far above what a record can bring.
pub(super) const FRAME_BYTES_MAX: usize = 64 << 20;

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

/// The sample format behind a stored code.
pub(super) fn format(code: u8) -> Option<SampleFormat> {
    [SampleFormat::F64, SampleFormat::F32, SampleFormat::I16].into_iter().find(|format| *format as u8 == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_of_formats_never_change() {
        let formats = [SampleFormat::F64, SampleFormat::F32, SampleFormat::I16].map(|format| format as u8);
        assert_eq!(formats, [0, 1, 2]);
        assert_eq!(format(1), Some(SampleFormat::F32));
        assert_eq!(format(3), None);
    }
}
