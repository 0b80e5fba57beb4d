//! The spectrum of a frame's envelope: what repeats in it, such as a rolling element that passes over a defect.

use crate::{Band, Spectrum};

/// Version of the envelope spectrum and the bearing lines in it: stored with the rows; raise when a figure could change.
pub const ENVELOPE_VERSION: u32 = 1;

/// How far from where it is expected a line is looked for, as a part of its frequency: rolling elements slip.
pub const LINE_TOLERANCE: f64 = 0.02;
/// Where the median is taken that lines are compared with: above slow drifts, below what the envelope has no lines in.
pub const MEDIAN_BAND: Band = Band::known(20.0, 500.0);
/// Fewest bins of which a median says something.
pub const MEDIAN_BINS_MIN: usize = 8;

/// The spectrum of an envelope: the magnitude of the analytic signal (band-pass and Hilbert transform in the frequency domain), its
/// mean removed, periodic Hann window.
#[derive(Clone, Copy, Debug)]
pub struct EnvelopeSpectrum<'a> {
    pub(crate) spectrum: Spectrum<'a>,
    /// Of |X|, scaled as the spectrum is.
    pub(crate) median: Option<f64>,
}

/// What was found near the frequency of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// Where the line was expected.
    pub expected_hz: f64,
    /// Where the spectrum is strongest, at most [`LINE_TOLERANCE`] away.
    pub found_hz: f64,
    /// Peak amplitude there, in the unit of the samples.
    pub amplitude: Option<f64>,
    /// |X| there over the median of |X| in [`MEDIAN_BAND`]. `None` with fewer than [`MEDIAN_BINS_MIN`] bins in it, or a median of 0.
    pub over_median: Option<f64>,
}

impl<'a> EnvelopeSpectrum<'a> {
    /// The spectrum itself.
    pub fn spectrum(&self) -> &Spectrum<'a> {
        &self.spectrum
    }

    /// The strongest bin near `expected_hz`. `None` where that is not above 0, is too high for the sample rate, or the frame is so
    /// short that bins are further apart than the search is wide.
    pub fn line(&self, expected_hz: f64) -> Option<Line> {
        let near = Band::new(expected_hz * (1.0 - LINE_TOLERANCE), expected_hz * (1.0 + LINE_TOLERANCE)).ok()?;
        let spectrum = &self.spectrum;
        if near.high_hz() > spectrum.sample_rate_hz / 2.0 || near.high_hz() - near.low_hz() < spectrum.resolution_hz() {
            return None;
        }
        let bin = spectrum.strongest(spectrum.bins_of(near))?;
        let over_median = spectrum.power.get(bin)?.sqrt() / self.median.unwrap_or(0.0);
        Some(Line {
            expected_hz,
            found_hz: spectrum.frequency_hz(bin),
            amplitude: spectrum.amplitude(bin),
            over_median: crate::finite(over_median),
        })
    }
}

/// The median of |X| in [`MEDIAN_BAND`], as far as the spectrum reaches.
pub(crate) fn median(spectrum: &Spectrum<'_>, sorted: &mut Vec<f64>) -> Option<f64> {
    let powers = spectrum.power.get(spectrum.bins_of(MEDIAN_BAND))?;
    if powers.len() < MEDIAN_BINS_MIN {
        return None;
    }
    sorted.clear();
    sorted.extend(powers);
    let (below, upper, _) = sorted.select_nth_unstable_by(powers.len() / 2, f64::total_cmp);
    let lower = if powers.len().is_multiple_of(2) { below.iter().copied().fold(0.0, f64::max) } else { *upper };
    Some((lower.sqrt() + upper.sqrt()) / 2.0)
}
