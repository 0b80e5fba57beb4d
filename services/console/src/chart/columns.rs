//! Any number of values in a bounded number of columns, of which each keeps what a chart must not lose.

use mantis_schemas::Quality;

/// The values that fall into one column of a chart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Column {
    /// Values that are not bad; the figures below are of them.
    pub(crate) values: u64,
    pub(crate) first_x: f64,
    pub(crate) first: f64,
    pub(crate) last_x: f64,
    pub(crate) last: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) uncertain: u64,
    pub(crate) bad: u64,
}

/// Columns over `[from, to]`.
#[derive(Clone, Debug)]
pub(crate) struct Columns {
    from: f64,
    width: f64,
    columns: Vec<Column>,
}

impl Columns {
    pub(crate) fn new(from: f64, to: f64, columns: usize) -> Self {
        let width = (to / columns as f64 - from / columns as f64).max(f64::MIN_POSITIVE);
        Self { from, width, columns: vec![Column::default(); columns.max(1)] }
    }

    /// Takes a value, in order of x. What lies outside falls into the nearest column.
    pub(crate) fn add(&mut self, x: f64, value: f64, quality: Quality) {
        let place = ((x - self.from) / self.width).max(0.0) as usize;
        let place = place.min(self.columns.len() - 1);
        let Some(column) = self.columns.get_mut(place) else { return };
        match quality {
            Quality::Good => {}
            Quality::Uncertain => column.uncertain += 1,
            Quality::Bad => {
                column.bad += 1;
                return;
            }
        }
        if column.values == 0 {
            let Column { uncertain, bad, .. } = *column;
            *column =
                Column { values: 0, first_x: x, first: value, last_x: x, last: value, min: value, max: value, uncertain, bad };
        }
        column.values += 1;
        (column.last_x, column.last) = (x, value);
        column.min = column.min.min(value);
        column.max = column.max.max(value);
    }

    pub(crate) fn all(&self) -> &[Column] {
        &self.columns
    }

    /// Smallest and largest value; `None` without any.
    pub(crate) fn range(&self) -> Option<(f64, f64)> {
        let filled = self.columns.iter().filter(|column| column.values > 0);
        filled.map(|column| (column.min, column.max)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_extreme_is_lost_and_every_value_is_counted(values in proptest::collection::vec(any::<f64>().prop_filter("finite", |v| v.is_finite()), 1..500)) {
            let mut columns = Columns::new(0.0, values.len() as f64, 20);
            for (x, value) in values.iter().enumerate() {
                columns.add(x as f64, *value, Quality::Good);
            }
            let min = values.iter().copied().fold(f64::INFINITY, f64::min);
            let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert_eq!(columns.range(), Some((min, max)));
            prop_assert_eq!(columns.all().iter().map(|column| column.values).sum::<u64>(), values.len() as u64);
            prop_assert!(columns.all().len() == 20);
        }
    }
}
