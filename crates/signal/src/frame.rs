//! All figures of a waveform frame.

use crate::{
    Band, BearingGeometry, BearingLines, FrameError, ScalarFeatures, Severity, Spectrum, SpectrumPlanner, ZoneLimits, planner,
};

/// Most bands of one sensor.
pub const BANDS_MAX: usize = 32;

/// What is known of the sensor whose frames are looked at. Nothing of it is guessed: without it there is no figure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameSettings {
    /// Bands whose RMS is wanted, at most [`BANDS_MAX`].
    pub bands: Vec<Band>,
    /// The band of the envelope, such as around a resonance; all frequencies but 0 without it.
    pub envelope_band: Option<Band>,
    /// The bearing whose lines are wanted.
    pub bearing: Option<BearingGeometry>,
    /// The declared unit of the samples (UCUM).
    pub unit: Option<String>,
    /// Limits of the machine's zones.
    pub zone_limits: Option<ZoneLimits>,
}

/// Why settings cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Too many bands.
    #[error("{0} bands for one sensor: at most {BANDS_MAX}")]
    Bands(usize),
}

/// Computes the figures of a sensor's frames.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameAnalyzer {
    settings: FrameSettings,
}

/// Figures of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct FrameFeatures {
    /// Of the samples as they are.
    pub scalar: ScalarFeatures,
    /// Of the spectrum. `None` for frames of fewer than [`SPECTRUM_SAMPLES_MIN`](crate::SPECTRUM_SAMPLES_MIN) samples and for
    /// constant ones, as are the figures below.
    pub spectrum: Option<SpectrumFeatures>,
    /// Lines of the bearing. `None` without its geometry and the shaft's speed.
    pub bearing: Option<BearingLines>,
    /// Severity of the vibration; `None` as for [`Severity::of`].
    pub severity: Option<Severity>,
}

/// Figures of a frame's spectrum; amplitudes and RMS in the unit of the samples.
#[derive(Clone, Debug, PartialEq)]
pub struct SpectrumFeatures {
    /// Frequency of the largest amplitude, 0 left out.
    pub dominant_frequency_hz: Option<f64>,
    /// Peak amplitude there.
    pub dominant_amplitude: Option<f64>,
    /// Centre of gravity of the power.
    pub centroid_hz: Option<f64>,
    /// RMS in each of the settings' bands; `None` as for [`Spectrum::band_rms`].
    pub band_rms: Vec<Option<f64>>,
}

impl FrameAnalyzer {
    /// An analyzer of frames of which `settings` are known.
    ///
    /// # Errors
    /// With too many bands.
    pub fn new(settings: FrameSettings) -> Result<Self, SettingsError> {
        if settings.bands.len() > BANDS_MAX {
            return Err(SettingsError::Bands(settings.bands.len()));
        }
        Ok(Self { settings })
    }

    /// The figures of a frame of samples at `sample_rate_hz`. `shaft_hz` is the speed of the shaft (rpm / 60), if it is known.
    ///
    /// # Errors
    /// For what is no frame.
    pub fn features(
        &self,
        planner: &mut SpectrumPlanner,
        samples: &[f64],
        sample_rate_hz: f64,
        shaft_hz: Option<f64>,
    ) -> Result<FrameFeatures, FrameError> {
        let settings = &self.settings;
        let frame = planner::frame(samples, sample_rate_hz)?;
        let scalar = ScalarFeatures::of_centred(&frame).ok_or(FrameError::Samples)?;
        let spectrum = planner.spectrum_of(&frame, sample_rate_hz);
        let severity = spectrum
            .zip(settings.zone_limits.as_ref())
            .and_then(|(spectrum, limits)| Severity::of(&spectrum, settings.unit.as_deref(), limits));
        let spectrum = spectrum.map(|spectrum| SpectrumFeatures::of(&spectrum, &settings.bands));
        let frequencies = settings.bearing.zip(shaft_hz).and_then(|(bearing, shaft_hz)| bearing.frequencies(shaft_hz));
        let bearing = frequencies.and_then(|frequencies| {
            planner.envelope_of(&frame, sample_rate_hz, settings.envelope_band).map(|envelope| frequencies.lines(&envelope))
        });
        Ok(FrameFeatures { scalar, spectrum, bearing, severity })
    }
}

impl SpectrumFeatures {
    fn of(spectrum: &Spectrum<'_>, bands: &[Band]) -> Self {
        Self {
            dominant_frequency_hz: spectrum.dominant_frequency_hz(),
            dominant_amplitude: spectrum.dominant_amplitude(),
            centroid_hz: spectrum.centroid_hz(),
            band_rms: bands.iter().map(|band| spectrum.band_rms(*band)).collect(),
        }
    }
}
