//! A window that is too long to keep its samples, as sums that merge.

use crate::{Basis, ScalarFeatures, centred::Scale, means::Means, sum::Sum};

/// Version of the layout and meaning of [`Moments`]: stored with snapshots; raise when either changes.
pub const MOMENTS_VERSION: u32 = 1;

/// Central moments and sums of a window's values. Merging is associative and independent of the order up to rounding
/// (relative errors of about 1e-15 per thousand values).
///
/// The update formulas are those of Pébay, "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order
/// statistical moments", Sandia report SAND2008-6212, 2008. The mean is kept to 32 digits, so that a large offset costs no digit
/// of the spread. Squares are not scaled: figures of deviations beyond 1e75, or below 1e-72, may be `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// Number of values; the other fields mean nothing while it is 0.
    pub count: u64,
    /// Mean of the values.
    pub mean: f64,
    /// What the mean has beyond the digits of a double.
    pub mean_low: f64,
    /// Sum of (x - mean)^2.
    pub m2: f64,
    /// Sum of (x - mean)^3.
    pub m3: f64,
    /// Sum of (x - mean)^4.
    pub m4: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// Sum of |x|.
    pub abs_sum: f64,
    /// Sum of sqrt|x|.
    pub abs_sqrt_sum: f64,
    /// Time of the earliest value.
    pub first_time_ns: i64,
    /// The earliest value; of several at that time the smallest.
    pub first: f64,
    /// Time of the latest value.
    pub last_time_ns: i64,
    /// The latest value; of several at that time the largest.
    pub last: f64,
}

impl Moments {
    /// Number of words of [`to_words`](Self::to_words).
    pub const WORDS: usize = 14;

    /// The moments of one value.
    pub fn of(time_ns: i64, value: f64) -> Self {
        Self {
            count: 1,
            mean: value,
            min: value,
            max: value,
            abs_sum: value.abs(),
            abs_sqrt_sum: value.abs().sqrt(),
            first_time_ns: time_ns,
            first: value,
            last_time_ns: time_ns,
            last: value,
            ..Self::default()
        }
    }

    /// Adds a value. One that is not finite leaves no figure of the window.
    pub fn push(&mut self, time_ns: i64, value: f64) {
        self.merge(&Self::of(time_ns, value));
    }

    /// Adds the values of `other`, none of which may be among these.
    pub fn merge(&mut self, other: &Self) {
        match (self.count, other.count) {
            (_, 0) => {}
            (0, _) => *self = *other,
            _ => *self = self.merged(other),
        }
    }

    fn merged(&self, other: &Self) -> Self {
        let count = self.count.saturating_add(other.count);
        let n = count as f64;
        let (ours, theirs) = (self.count as f64 / n, other.count as f64 / n);
        let apart = (other.mean - self.mean) + (other.mean_low - self.mean_low);
        // Means at both ends of the range of a double are further apart than a double can say.
        let step = if apart.is_finite() { apart * theirs } else { other.mean * theirs - self.mean * ours };
        let mut mean = Sum { high: self.mean, low: self.mean_low };
        mean.add(step);
        let mean = mean.normal();
        let between = apart * apart * n * ours * theirs;
        let first = earlier((self.first_time_ns, self.first), (other.first_time_ns, other.first));
        let last = later((self.last_time_ns, self.last), (other.last_time_ns, other.last));
        Self {
            count,
            mean: mean.high,
            mean_low: mean.low,
            m2: self.m2 + other.m2 + between,
            m3: self.m3 + other.m3 + between * apart * (ours - theirs) + 3.0 * apart * (ours * other.m2 - theirs * self.m2),
            m4: self.m4
                + other.m4
                + between * apart * apart * (ours * ours - ours * theirs + theirs * theirs)
                + 6.0 * apart * apart * (ours * ours * other.m2 + theirs * theirs * self.m2)
                + 4.0 * apart * (ours * other.m3 - theirs * self.m3),
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            abs_sum: self.abs_sum + other.abs_sum,
            abs_sqrt_sum: self.abs_sqrt_sum + other.abs_sqrt_sum,
            first_time_ns: first.0,
            first: first.1,
            last_time_ns: last.0,
            last: last.1,
        }
    }

    /// The figures, without zero crossings. `None` without values, or where one was not finite.
    pub fn features(&self) -> Option<ScalarFeatures> {
        let ends = [self.mean, self.mean_low, self.min, self.max, self.first, self.last];
        if self.count == 0 || self.min > self.max || !ends.into_iter().all(f64::is_finite) {
            return None;
        }
        let n = self.count as f64;
        let means = Means {
            count: self.count,
            scale: Scale::ONE,
            mean: Sum { high: self.mean, low: self.mean_low },
            min: self.min,
            max: self.max,
            square: self.m2 / n,
            cube: self.m3 / n,
            fourth: self.m4 / n,
            absolute: self.abs_sum / n,
            root: self.abs_sqrt_sum / n,
        };
        Some(means.features(Basis::Moments, self.first, self.last))
    }

    /// The fields in their order as 64-bit words, bit by bit, for snapshots.
    pub fn to_words(&self) -> [u64; Self::WORDS] {
        [
            self.count,
            self.mean.to_bits(),
            self.mean_low.to_bits(),
            self.m2.to_bits(),
            self.m3.to_bits(),
            self.m4.to_bits(),
            self.min.to_bits(),
            self.max.to_bits(),
            self.abs_sum.to_bits(),
            self.abs_sqrt_sum.to_bits(),
            self.first_time_ns.cast_unsigned(),
            self.first.to_bits(),
            self.last_time_ns.cast_unsigned(),
            self.last.to_bits(),
        ]
    }

    /// The moments whose [`to_words`](Self::to_words) were `words`. Any words are taken; those that make no sense have no figures.
    pub fn from_words(words: [u64; Self::WORDS]) -> Self {
        let [count, mean, mean_low, m2, m3, m4, min, max, abs_sum, abs_sqrt_sum, first_time, first, last_time, last] = words;
        Self {
            count,
            mean: f64::from_bits(mean),
            mean_low: f64::from_bits(mean_low),
            m2: f64::from_bits(m2),
            m3: f64::from_bits(m3),
            m4: f64::from_bits(m4),
            min: f64::from_bits(min),
            max: f64::from_bits(max),
            abs_sum: f64::from_bits(abs_sum),
            abs_sqrt_sum: f64::from_bits(abs_sqrt_sum),
            first_time_ns: first_time.cast_signed(),
            first: f64::from_bits(first),
            last_time_ns: last_time.cast_signed(),
            last: f64::from_bits(last),
        }
    }
}

fn earlier(one: (i64, f64), other: (i64, f64)) -> (i64, f64) {
    if one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)).is_le() { one } else { other }
}

fn later(one: (i64, f64), other: (i64, f64)) -> (i64, f64) {
    if one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)).is_ge() { one } else { other }
}
