//! Sums that lose no digits.

/// An unevaluated sum `high + low` of two doubles: about 32 digits.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sum {
    pub(crate) high: f64,
    pub(crate) low: f64,
}

impl Sum {
    /// Adds `value`; its rounding error goes into `low` (Knuth's two-sum in Neumaier's summation).
    pub(crate) fn add(&mut self, value: f64) {
        let total = self.high + value;
        let added = total - self.high;
        self.low += (self.high - (total - added)) + (value - added);
        self.high = total;
    }

    /// The sum as a double.
    pub(crate) fn value(self) -> f64 {
        self.high + self.low
    }

    /// The sum divided by `count`.
    pub(crate) fn over(self, count: f64) -> Self {
        let high = self.high / count;
        let rest = (-high).mul_add(count, self.high) + self.low;
        let mut quotient = Self { high, low: 0.0 };
        quotient.add(rest / count);
        quotient.normal()
    }

    /// `value` less this sum. Exact but for one rounding, however close the two are.
    pub(crate) fn below(self, value: f64) -> f64 {
        (value - self.high) - self.low
    }

    /// The same sum, with `high` its value as a double.
    pub(crate) fn normal(self) -> Self {
        let mut normal = Self { high: self.high, low: 0.0 };
        normal.add(self.low);
        normal
    }
}

impl Extend<f64> for Sum {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        values.into_iter().for_each(|value| self.add(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plain_sum_would_lose_is_kept() {
        let mut sum = Sum::default();
        sum.extend([1e100, 1.0, 1e-10, -1e100]);
        assert_eq!(sum.value(), 1.0 + 1e-10);
    }

    #[test]
    fn a_third_has_32_digits() {
        let mut one = Sum::default();
        one.add(1.0);
        let third = one.over(3.0);
        assert_eq!(third.high, 1.0 / 3.0);
        assert_eq!(third.below(1.0 / 3.0), -(1.0 / 3.0) * f64::EPSILON / 4.0);
    }
}
