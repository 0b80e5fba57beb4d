//! Condition features: figures of a window of readings, of a waveform's spectrum and envelope, and what they say of bearings
//! and machines. The formulas, units and cases without a figure are in `docs/features.md`.
//!
//! Pure: no I/O, no clock, no task. No figure is ever infinite or NaN: what is not known or does not fit a double is `None`.

mod band;
mod bearing;
mod centred;
mod envelope;
mod frame;
mod means;
mod moments;
mod planner;
mod plans;
mod scalar;
mod severity;
mod spectrum;
mod sum;

pub use band::{Band, BandError};
pub use bearing::{BearingFrequencies, BearingGeometry, BearingLines, GeometryError};
pub use envelope::{ENVELOPE_VERSION, EnvelopeSpectrum, LINE_TOLERANCE, Line, MEDIAN_BAND, MEDIAN_BINS_MIN};
pub use frame::{BANDS_MAX, FrameAnalyzer, FrameFeatures, FrameSettings, SettingsError, SpectrumFeatures};
pub use moments::{MOMENTS_VERSION, Moments};
pub use planner::{FrameError, SpectrumPlanner};
pub use plans::{FRAME_SAMPLES_MAX, PLANNED_SAMPLES_MAX, PLANS_MAX};
pub use scalar::{Basis, SCALAR_VERSION, ScalarFeatures};
pub use severity::{
    FRAME_MIN_S, Group, SAMPLE_RATE_ABOVE_HZ, SEVERITY_BAND, SEVERITY_VERSION, Severity, Support, UNIT, Zone, ZoneLimits,
    ZoneLimitsError,
};
pub use spectrum::{SPECTRUM_SAMPLES_MIN, SPECTRUM_VERSION, Spectrum};

/// The figure, unless it is none.
fn finite(figure: f64) -> Option<f64> {
    figure.is_finite().then_some(figure)
}
