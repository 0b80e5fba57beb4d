//! The one-sided spectrum of a frame.

use crate::{Band, finite};

/// Version of [`Spectrum`] and the figures from it: stored with the rows; raise when a figure could change.
pub const SPECTRUM_VERSION: u32 = 1;

/// Shortest frame with a spectrum: below, there are no two frequencies to tell apart.
pub const SPECTRUM_SAMPLES_MIN: usize = 4;

/// The spectrum of a frame: mean removed, periodic Hann window (equivalent noise bandwidth 1.5 bins), bins from 0 to half of the
/// sample rate. Borrowed from the planner that computed it.
#[derive(Clone, Copy, Debug)]
pub struct Spectrum<'a> {
    /// |X|^2 of the scaled samples, a value per bin.
    pub(crate) power: &'a [f64],
    /// Samples of the frame.
    pub(crate) samples: usize,
    pub(crate) sample_rate_hz: f64,
    /// Factor from scaled samples to their unit.
    pub(crate) up: f64,
}

impl Spectrum<'_> {
    /// Number of bins: samples / 2 + 1.
    pub fn bins(&self) -> usize {
        self.power.len()
    }

    /// Distance of two bins: sample rate / samples.
    pub fn resolution_hz(&self) -> f64 {
        self.sample_rate_hz / self.samples as f64
    }

    /// Frequency of a bin.
    pub fn frequency_hz(&self, bin: usize) -> f64 {
        bin_frequency_hz(bin, self.samples, self.sample_rate_hz)
    }

    /// Peak amplitude of a bin in the unit of the samples: 2 |X| / sum(w), and |X| / sum(w) at 0 and at half of the sample rate.
    /// `None` beyond the last bin.
    pub fn amplitude(&self, bin: usize) -> Option<f64> {
        let amplitude = self.sides(bin) * self.power.get(bin)?.sqrt() / (WINDOW_MEAN * self.samples as f64);
        finite(amplitude * self.up)
    }

    /// Power spectral density of a bin, in the unit squared per Hz: 2 |X|^2 / (sample rate * sum(w^2)), half of it at 0 and at half
    /// of the sample rate. `None` beyond the last bin.
    pub fn psd(&self, bin: usize) -> Option<f64> {
        finite(self.mean_square(bin, *self.power.get(bin)?) / self.resolution_hz() * self.up * self.up)
    }

    /// Frequency of the largest |X|, bin 0 left out; of equal ones the lowest.
    pub fn dominant_frequency_hz(&self) -> Option<f64> {
        self.dominant_bin().map(|bin| self.frequency_hz(bin))
    }

    /// Peak amplitude at the dominant frequency.
    pub fn dominant_amplitude(&self) -> Option<f64> {
        self.amplitude(self.dominant_bin()?)
    }

    /// sum(f * PSD) / sum(PSD) over all bins.
    pub fn centroid_hz(&self) -> Option<f64> {
        let (mut weighted, mut total) = (0.0, 0.0);
        for (bin, power) in self.power.iter().enumerate() {
            let square = self.mean_square(bin, *power);
            weighted += bin as f64 * square;
            total += square;
        }
        finite(weighted / total / self.samples as f64 * self.sample_rate_hz)
    }

    /// sqrt(sum(PSD) * resolution) over the bins of the band, in the unit of the samples. `None` where no bin lies in the band, or
    /// where it goes beyond half of the sample rate.
    pub fn band_rms(&self, band: Band) -> Option<f64> {
        if band.high_hz() > self.sample_rate_hz / 2.0 {
            return None;
        }
        let bins = self.bins_of(band);
        let squares = self.power.get(bins.clone())?.iter().zip(bins.clone()).map(|(power, bin)| self.mean_square(bin, *power));
        let mean_square: f64 = squares.sum();
        finite(mean_square.sqrt() * self.up).filter(|_| !bins.is_empty())
    }

    /// The bins of the band.
    pub(crate) fn bins_of(&self, band: Band) -> std::ops::Range<usize> {
        let from = self.first_bin_from(band.low_hz());
        from..self.first_bin_from(band.high_hz()).max(from)
    }

    /// The bin with the largest |X| of `bins`; of equal ones the lowest. `None` where there is nothing.
    pub(crate) fn strongest(&self, bins: std::ops::Range<usize>) -> Option<usize> {
        let mut strongest = (0.0, None);
        for (power, bin) in self.power.get(bins.clone())?.iter().zip(bins) {
            if *power > strongest.0 {
                strongest = (*power, Some(bin));
            }
        }
        strongest.1
    }

    fn dominant_bin(&self) -> Option<usize> {
        self.strongest(1..self.bins())
    }

    /// The first bin whose frequency is not below `frequency_hz`; at most the number of bins.
    fn first_bin_from(&self, frequency_hz: f64) -> usize {
        let near = (frequency_hz / self.resolution_hz()).floor() as usize;
        // The quotient may be off by its rounding.
        let mut bin = near.saturating_sub(1).min(self.bins());
        while bin < self.bins() && self.frequency_hz(bin) < frequency_hz {
            bin += 1;
        }
        bin
    }

    /// What a bin of this |X|^2 adds to the mean square of the scaled samples: PSD * resolution.
    fn mean_square(&self, bin: usize, power: f64) -> f64 {
        let samples = self.samples as f64;
        self.sides(bin) * power / (WINDOW_SQUARE_MEAN * samples * samples)
    }

    /// 2, as each bin stands for its negative frequency too; 1 for the two that have none.
    fn sides(&self, bin: usize) -> f64 {
        if bin == 0 || 2 * bin == self.samples { 1.0 } else { 2.0 }
    }
}

/// Frequency of a bin of a frame of so many samples. Rounded once, so that a bin whose frequency is a whole number has just that
/// one and lies in the band that begins with it.
pub(crate) fn bin_frequency_hz(bin: usize, samples: usize, sample_rate_hz: f64) -> f64 {
    let (bin, samples) = (bin as f64, samples as f64);
    let rounded_once = bin * sample_rate_hz / samples;
    // Only the product may be out of range, the frequency is at most half of the sample rate.
    if rounded_once.is_finite() { rounded_once } else { bin / samples * sample_rate_hz }
}

/// Mean of the periodic Hann window.
const WINDOW_MEAN: f64 = 0.5;
/// Mean of its square.
const WINDOW_SQUARE_MEAN: f64 = 0.375;
