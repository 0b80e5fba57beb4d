//! A range of frequencies.

/// Frequencies from `low_hz` up to, but not including, `high_hz`: bands that touch share no bin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Band {
    low_hz: f64,
    high_hz: f64,
}

/// Why two numbers are no band.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("{low_hz} Hz to {high_hz} Hz is no band: give finite frequencies from 0 up, the lower one first")]
pub struct BandError {
    low_hz: f64,
    high_hz: f64,
}

impl Band {
    /// The band `[low_hz, high_hz)`.
    ///
    /// # Errors
    /// Unless 0 <= `low_hz` < `high_hz` and both are finite.
    pub fn new(low_hz: f64, high_hz: f64) -> Result<Self, BandError> {
        if 0.0 <= low_hz && low_hz < high_hz && high_hz.is_finite() {
            Ok(Self { low_hz, high_hz })
        } else {
            Err(BandError { low_hz, high_hz })
        }
    }

    /// A band known to be right.
    pub(crate) const fn known(low_hz: f64, high_hz: f64) -> Self {
        Self { low_hz, high_hz }
    }

    /// Where it begins.
    pub fn low_hz(self) -> f64 {
        self.low_hz
    }

    /// Where it ends.
    pub fn high_hz(self) -> f64 {
        self.high_hz
    }

    /// True if the frequency is within.
    pub fn contains(self, frequency_hz: f64) -> bool {
        self.low_hz <= frequency_hz && frequency_hz < self.high_hz
    }
}
