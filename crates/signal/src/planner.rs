//! From the samples of a frame to its spectrum and the spectrum of its envelope.

use realfft::num_complex::Complex;

use crate::{
    Band, EnvelopeSpectrum, FRAME_SAMPLES_MAX, SPECTRUM_SAMPLES_MIN, Spectrum,
    centred::Centred,
    envelope,
    plans::{Plan, Plans},
    spectrum::bin_frequency_hz,
};

/// Computes spectra. Keeps plans for the lengths of frame used last, and its buffers: nothing is allocated for a frame of a known
/// length. One per thread.
///
/// The transform picks its instructions by processor: bits are the same on the same kind of processor, elsewhere to about 1e-15.
#[derive(Default)]
pub struct SpectrumPlanner {
    plans: Plans,
    /// Samples; the in-phase part of the analytic signal.
    time: Vec<f64>,
    /// The quadrature part of the analytic signal; then its magnitude.
    quadrature: Vec<f64>,
    bins: Vec<Complex<f64>>,
    /// The bins a quarter of a turn later.
    turned: Vec<Complex<f64>>,
    scratch: Vec<Complex<f64>>,
    power: Vec<f64>,
    /// Room to sort in.
    sorted: Vec<f64>,
}

/// Why samples are no frame.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// More samples than a frame may have.
    #[error("the frame has {0} samples, at most {FRAME_SAMPLES_MAX} are taken: send shorter frames")]
    TooLong(usize),
    /// No sample, or one that is no number.
    #[error("the frame has no sample, or one that is not finite: mend the sender")]
    Samples,
    /// A sample rate that is none.
    #[error("the sample rate {0} Hz is not finite and above 0: mend the sender")]
    SampleRate(f64),
}

impl SpectrumPlanner {
    /// A planner that has planned nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The spectrum of the samples. `None` for a frame shorter than [`SPECTRUM_SAMPLES_MIN`] and for a constant one.
    ///
    /// # Errors
    /// For what is no frame.
    pub fn spectrum(&mut self, samples: &[f64], sample_rate_hz: f64) -> Result<Option<Spectrum<'_>>, FrameError> {
        Ok(self.spectrum_of(&frame(samples, sample_rate_hz)?, sample_rate_hz))
    }

    /// The spectrum of the samples' envelope within `band`, or of all frequencies but 0. `None` as for [`spectrum`](Self::spectrum),
    /// and where nothing is left in the band.
    ///
    /// # Errors
    /// For what is no frame.
    pub fn envelope(
        &mut self,
        samples: &[f64],
        sample_rate_hz: f64,
        band: Option<Band>,
    ) -> Result<Option<EnvelopeSpectrum<'_>>, FrameError> {
        Ok(self.envelope_of(&frame(samples, sample_rate_hz)?, sample_rate_hz, band))
    }

    pub(crate) fn spectrum_of(&mut self, frame: &Centred<'_>, sample_rate_hz: f64) -> Option<Spectrum<'_>> {
        self.fill_power(frame)?;
        Some(self.filled(frame, sample_rate_hz, frame.scale.up))
    }

    pub(crate) fn envelope_of(
        &mut self,
        frame: &Centred<'_>,
        sample_rate_hz: f64,
        band: Option<Band>,
    ) -> Option<EnvelopeSpectrum<'_>> {
        self.fill_envelope(frame, sample_rate_hz, band)?;
        let values = std::mem::take(&mut self.quadrature);
        let envelope = Centred::of(&values)?;
        self.fill_power(&envelope)?;
        let up = envelope.scale.up * frame.scale.up;
        let mut sorted = std::mem::take(&mut self.sorted);
        let median = envelope::median(&self.filled(frame, sample_rate_hz, up), &mut sorted);
        self.sorted = sorted;
        self.quadrature = values;
        Some(EnvelopeSpectrum { spectrum: self.filled(frame, sample_rate_hz, up), median })
    }

    fn filled(&self, frame: &Centred<'_>, sample_rate_hz: f64, up: f64) -> Spectrum<'_> {
        Spectrum { power: &self.power, samples: frame.values.len(), sample_rate_hz, up }
    }

    /// |X|^2 of the windowed deviations into `power`.
    fn fill_power(&mut self, frame: &Centred<'_>) -> Option<()> {
        let plan = self.plan(frame)?;
        self.time.clear();
        self.time.extend(frame.deviations().zip(&*plan.window).map(|(deviation, weight)| deviation * weight));
        self.transform(&plan)?;
        self.power.clear();
        self.power.extend(self.bins.iter().map(Complex::norm_sqr));
        Some(())
    }

    /// The magnitude of the analytic signal into `quadrature`: both parts of it are real inverse transforms, the second of the bins
    /// turned by a quarter.
    fn fill_envelope(&mut self, frame: &Centred<'_>, sample_rate_hz: f64, band: Option<Band>) -> Option<()> {
        let plan = self.plan(frame)?;
        self.time.clear();
        self.time.extend(frame.deviations());
        self.transform(&plan)?;
        let samples = frame.values.len();
        let inside = |hz: f64| band.is_none_or(|band| band.contains(hz));
        for (bin, value) in self.bins.iter_mut().enumerate() {
            if bin == 0 || !inside(bin_frequency_hz(bin, samples, sample_rate_hz)) {
                *value = Complex::ZERO;
            }
        }
        self.turned.clear();
        self.turned.extend(self.bins.iter().map(|value| Complex::new(value.im, -value.re)));
        if samples.is_multiple_of(2)
            && let (Some(last), Some(turned)) = (self.bins.last_mut(), self.turned.last_mut())
        {
            // Half of the sample rate is its own negative: it has no quadrature.
            last.im = 0.0;
            *turned = Complex::ZERO;
        }
        self.quadrature.resize(samples, 0.0);
        self.scratch.resize(plan.inverse.get_scratch_len(), Complex::ZERO);
        // Only wrong lengths are errors.
        plan.inverse.process_with_scratch(&mut self.bins, &mut self.time, &mut self.scratch).ok()?;
        plan.inverse.process_with_scratch(&mut self.turned, &mut self.quadrature, &mut self.scratch).ok()?;
        for (quadrature, in_phase) in self.quadrature.iter_mut().zip(&self.time) {
            *quadrature = (*quadrature * *quadrature + in_phase * in_phase).sqrt() / samples as f64;
        }
        Some(())
    }

    fn plan(&mut self, frame: &Centred<'_>) -> Option<Plan> {
        let known = frame.values.len() >= SPECTRUM_SAMPLES_MIN && !frame.is_constant();
        known.then(|| self.plans.plan(frame.values.len()))
    }

    /// `time` to `bins`.
    fn transform(&mut self, plan: &Plan) -> Option<()> {
        self.bins.resize(self.time.len() / 2 + 1, Complex::ZERO);
        self.scratch.resize(plan.forward.get_scratch_len(), Complex::ZERO);
        // Only wrong lengths are errors.
        plan.forward.process_with_scratch(&mut self.time, &mut self.bins, &mut self.scratch).ok()
    }
}

/// The samples, if they are a frame.
pub(crate) fn frame(samples: &[f64], sample_rate_hz: f64) -> Result<Centred<'_>, FrameError> {
    if samples.len() > FRAME_SAMPLES_MAX {
        return Err(FrameError::TooLong(samples.len()));
    }
    if !(sample_rate_hz.is_finite() && sample_rate_hz > 0.0) {
        return Err(FrameError::SampleRate(sample_rate_hz));
    }
    Centred::of(samples).ok_or(FrameError::Samples)
}
