//! Condition features: figures of a window of readings, or of a waveform frame.

use crate::SeriesId;

macro_rules! figures {
    ($($figure:ident $name:literal $doc:literal;)*) => {
        /// A figure of a window or frame. The order is that of columns everywhere; new ones go to the end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Figure {
            $(#[doc = $doc] $figure,)*
        }

        impl Figure {
            /// All of them, in order.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$figure),*];

            /// Its name in schemas, stores and commands.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$figure => $name,)*
                }
            }
        }
    };
}

figures! {
    Mean "mean" "Arithmetic mean.";
    Std "std" "Population standard deviation.";
    Min "min" "Smallest value.";
    Max "max" "Largest value.";
    First "first" "Earliest value.";
    Last "last" "Latest value.";
    Rms "rms" "Root of the mean square of the raw signal.";
    Peak "peak" "Largest absolute value of the raw signal.";
    PeakToPeak "peak_to_peak" "Largest less smallest value.";
    CrestFactor "crest_factor" "Peak over RMS of the raw signal.";
    ShapeFactor "shape_factor" "RMS over mean absolute value.";
    ImpulseFactor "impulse_factor" "Peak over mean absolute value.";
    ClearanceFactor "clearance_factor" "Peak over the square of the mean root of the absolute value.";
    Skewness "skewness" "g1, biased.";
    KurtosisExcess "kurtosis_excess" "g2, biased: 0 for a normal distribution.";
    ZeroCrossings "zero_crossings" "Changes of sign of the signal less its mean.";
    RmsAc "rms_ac" "RMS of the signal less its mean.";
    PeakAc "peak_ac" "Peak of the signal less its mean.";
    CrestFactorAc "crest_factor_ac" "Crest factor of the signal less its mean.";
    SampleRateHz "sample_rate_hz" "Samples per second of the frame.";
    DominantFrequencyHz "dominant_frequency_hz" "Frequency of the largest line of the spectrum, DC left out.";
    DominantAmplitude "dominant_amplitude" "Amplitude of that line, in the unit of the samples.";
    CentroidHz "centroid_hz" "Centre of the power spectrum.";
}

/// The figures of a row, by [`Figure`]; each is finite or not there.
#[derive(Clone, Copy, Debug)]
pub struct Figures([f64; Figure::ALL.len()]);

impl Default for Figures {
    fn default() -> Self {
        Self([f64::NAN; Figure::ALL.len()])
    }
}

impl Figures {
    /// The figure, if it is there.
    pub fn get(&self, figure: Figure) -> Option<f64> {
        Some(self.0[figure as usize]).filter(|value| !value.is_nan())
    }

    /// Sets or takes out a figure; one that is not finite counts as not there.
    pub fn set(&mut self, figure: Figure, value: Option<f64>) {
        self.0[figure as usize] = value.filter(|value| value.is_finite()).unwrap_or(f64::NAN);
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Figure, Option<f64>)> + '_ {
        Figure::ALL.into_iter().map(|figure| (figure, self.get(figure)))
    }
}

/// Bit for bit; what is not there equals what is not there.
impl PartialEq for Figures {
    fn eq(&self, other: &Self) -> bool {
        let bits = |value: f64| if value.is_nan() { u64::MAX } else { value.to_bits() };
        self.0.iter().zip(&other.0).all(|(a, b)| bits(*a) == bits(*b))
    }
}

/// Everything about a window or frame of a sensor but whose it is. (series, `window_ns`, `start_ns`) is its identity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Feature {
    /// Length of the window in ns; 0: the figures are of one waveform frame.
    pub window_ns: i64,
    /// Start of the window, a multiple of its length, or of the frame; ns since the epoch.
    pub start_ns: i64,
    /// End of the window or frame, ns since the epoch, not included.
    pub end_ns: i64,
    /// Version of the figures' definition.
    pub version: i32,
    /// Samples that the figures are of.
    pub count: i64,
    /// Of them, those of uncertain quality.
    pub uncertain: i64,
    /// Readings of bad quality, left out.
    pub bad: i64,
    /// Share of the window that the samples cover at their median distance, 0 to 1; `None` below two samples.
    pub coverage: Option<f64>,
    /// True: from all samples, sorted by time. False: from mergeable moments.
    pub exact: bool,
    /// True while the sensor's own time has not passed the end of the window.
    pub provisional: bool,
    /// Offset of the last record that changed the window.
    pub revision: i64,
    /// When the figures were computed, ms since the epoch.
    pub processed_ms: i64,
    /// The figures.
    pub figures: Figures,
    /// Figures that were declared for the sensor (band RMS, bearing lines, ISO zone), as a JSON object of numbers with sorted
    /// keys; empty: none.
    pub extras: Box<str>,
}

impl Feature {
    /// How much a row knows of its window: of two rows with one identity a store keeps the greater, and an equal one
    /// changes nothing. So neither a retry nor the older state of a worker that was thought dead takes a figure back.
    pub fn rank(&self) -> (i32, i64, i64, bool) {
        (self.version, self.count.saturating_add(self.bad), self.revision, !self.provisional)
    }
}

/// Rows of features, each with its series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeatureColumns {
    /// The series of each row.
    pub series: Vec<SeriesId>,
    /// The rows.
    pub rows: Vec<Feature>,
    /// Bytes of all `extras`.
    pub extras_bytes: usize,
}

impl FeatureColumns {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Appends a row.
    pub fn push(&mut self, series: SeriesId, row: Feature) {
        self.extras_bytes += row.extras.len();
        self.series.push(series);
        self.rows.push(row);
    }

    /// Keeps the first `rows` rows.
    pub fn truncate(&mut self, rows: usize) {
        self.series.truncate(rows);
        self.rows.truncate(rows);
        self.extras_bytes = self.rows.iter().map(|row| row.extras.len()).sum();
    }

    /// Bytes that the rows take.
    pub fn bytes(&self) -> usize {
        self.rows.len() * (size_of::<Feature>() + size_of::<SeriesId>()) + self.extras_bytes
    }
}

/// The length of a window as people write it: `10s`, `1m`, `1d`; `frame` for 0.
pub fn window_name(window_ns: i64) -> String {
    const UNITS: [(i64, &str); 6] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1, "ns"),
    ];
    if window_ns == 0 {
        return "frame".into();
    }
    let fits = UNITS.iter().find(|(unit, _)| window_ns % unit == 0);
    fits.map_or_else(String::new, |(unit, name)| format!("{}{name}", window_ns / unit))
}

/// The length that [`window_name`] names, in ns; `None` for other texts and lengths that are not positive.
pub fn parse_window(text: &str) -> Option<i64> {
    if text == "frame" {
        return Some(0);
    }
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit_ns = match unit {
        "d" => 86_400_000_000_000,
        "h" => 3_600_000_000_000,
        "m" => 60_000_000_000,
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "ns" => 1,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit_ns).filter(|window_ns| *window_ns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_named_as_people_write_it_and_read_back() {
        for (window_ns, name) in [
            (10_000_000_000, "10s"),
            (60_000_000_000, "1m"),
            (90_000_000_000, "90s"),
            (86_400_000_000_000, "1d"),
            (0, "frame"),
            (7, "7ns"),
        ] {
            assert_eq!(window_name(window_ns), name);
            assert_eq!(parse_window(name), Some(window_ns));
        }
        for text in ["", "0s", "s", "1", "-1s", "1 s", "99999999999999999999d", "1µs"] {
            assert_eq!(parse_window(text), None, "{text}");
        }
    }

    #[test]
    fn a_figure_that_is_not_finite_is_not_there() {
        let mut figures = Figures::default();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            figures.set(Figure::Rms, Some(value));
            assert_eq!(figures, Figures::default());
        }
        figures.set(Figure::Rms, Some(-0.0));
        assert_eq!(figures.get(Figure::Rms).map(f64::to_bits), Some((-0.0_f64).to_bits()));
    }
}
