//! Charts as SVG, drawn here: pages need no script for them. A chart is laid out in parts of its size, so that it fits any
//! screen; its texts keep their size.

mod axis;
mod columns;

use std::fmt::Write;

use mantis_schemas::Quality;

pub(crate) use axis::Axis;
pub(crate) use columns::{Column, Columns};

/// Columns of a chart: more than a screen has would not be seen.
pub(crate) const COLUMNS: usize = 640;
/// Columns of a small line.
const SPARK_COLUMNS: usize = 60;
/// The square in which lines are drawn, before the browser stretches it.
const SQUARE: f64 = 1_000.0;
/// Places of a chart where a quality is marked; neighbours become one.
const STRIPES_MAX: usize = 200;

/// A chart, ready to be shown.
#[derive(Debug, PartialEq)]
pub(crate) struct Chart {
    /// What it shows, for those who cannot see it.
    pub(crate) label: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    /// The line's `d`.
    pub(crate) path: String,
    /// Single points, as a `d` of dots.
    pub(crate) dots: String,
    /// Places along x that are marked.
    pub(crate) marks: Vec<Mark>,
    /// Where values were not good.
    pub(crate) stripes: Vec<Stripe>,
}

/// A marked place along x.
#[derive(Debug, PartialEq)]
pub(crate) struct Mark {
    /// In percent of the width.
    pub(crate) at: String,
    pub(crate) text: String,
}

/// A stretch of x where values were not good.
#[derive(Debug, PartialEq)]
pub(crate) struct Stripe {
    /// In percent of the width.
    pub(crate) at: String,
    pub(crate) width: String,
    /// The worst quality in it.
    pub(crate) quality: &'static str,
}

impl Chart {
    /// A chart of columns. A line is broken where nothing came for longer than `gap`, in the unit of x.
    pub(crate) fn of_columns(label: String, x: Axis, y: Axis, columns: &[Column], gap: f64) -> Self {
        let mut path = Path::new(&x, &y);
        let mut dots = Path::new(&x, &y);
        let mut last: Option<f64> = None;
        let mut filled = columns.iter().filter(|column| column.values > 0).peekable();
        while let Some(column) = filled.next() {
            let joined = last.is_some_and(|last| column.first_x - last <= gap);
            let goes_on = filled.peek().is_some_and(|next| next.first_x - column.last_x <= gap);
            last = Some(column.last_x);
            path.add(column.first_x, column.first, joined);
            if column.values > 1 {
                // Between its first and last value a column stands up and down over all it has, so that no peak is lost.
                let middle = (column.first_x / 2.0) + (column.last_x / 2.0);
                path.add(middle, column.min, true);
                path.add(middle, column.max, true);
                path.add(column.last_x, column.last, true);
            } else if !joined && !goes_on {
                dots.dot(column.first_x, column.first);
            }
        }
        let (path, dots) = (path.d, dots.d);
        Self { label, stripes: stripes(columns), x, y, path, dots, marks: Vec::new() }
    }

    /// A chart of single values, joined in their order, each with its dot.
    pub(crate) fn of_points(label: String, x: Axis, y: Axis, points: &[(f64, f64)], gap: f64) -> Self {
        let mut path = Path::new(&x, &y);
        let mut dots = Path::new(&x, &y);
        let mut last: Option<f64> = None;
        for (at, value) in points {
            path.add(*at, *value, last.is_some_and(|last| at - last <= gap));
            dots.dot(*at, *value);
            last = Some(*at);
        }
        let (path, dots) = (path.d, dots.d);
        Self { label, x, y, path, dots, marks: Vec::new(), stripes: Vec::new() }
    }

    /// With places marked that lie within the axis.
    pub(crate) fn with_marks(mut self, marks: impl IntoIterator<Item = (f64, String)>) -> Self {
        let x = &self.x;
        let inside = marks.into_iter().filter(|(at, _)| (0.0..=1.0).contains(&x.part(*at)));
        self.marks = inside.map(|(at, text)| Mark { at: percent(x.part(at)), text }).collect();
        self
    }
}

/// A line without axes, for a cell of a table.
pub(crate) fn sparkline(points: &[(f64, f64)]) -> String {
    let Some((first, last)) = points.first().zip(points.last()) else { return String::new() };
    let mut columns = Columns::new(first.0, last.0, SPARK_COLUMNS);
    points.iter().for_each(|(x, y)| columns.add(*x, *y, Quality::Good));
    let Some((low, high)) = columns.range() else { return String::new() };
    let (x, y) = (Axis::plain(first.0, last.0), Axis::plain(low, high));
    let mut path = Path::new(&x, &y);
    for column in columns.all().iter().filter(|column| column.values > 0) {
        path.add(column.first_x, column.min, true);
        if column.max > column.min {
            path.add(column.last_x, column.max, true);
        }
    }
    path.d
}

struct Path<'a> {
    x: &'a Axis,
    y: &'a Axis,
    d: String,
}

impl<'a> Path<'a> {
    fn new(x: &'a Axis, y: &'a Axis) -> Self {
        Self { x, y, d: String::new() }
    }

    fn add(&mut self, at: f64, value: f64, joined: bool) {
        let command = if joined && !self.d.is_empty() { 'L' } else { 'M' };
        self.point(command, at, value);
    }

    /// A line without length, which the round end of the stroke makes a dot.
    fn dot(&mut self, at: f64, value: f64) {
        self.point('M', at, value);
        self.d.push_str("h0");
    }

    fn point(&mut self, command: char, at: f64, value: f64) {
        let (x, y) = (self.x.part(at) * SQUARE, (1.0 - self.y.part(value)) * SQUARE);
        // Writing to a String does not fail.
        let _ = write!(self.d, "{command}{x:.1} {y:.1}");
    }
}

fn stripes(columns: &[Column]) -> Vec<Stripe> {
    let width = 1.0 / columns.len().max(1) as f64;
    let mut found: Vec<(usize, usize, bool)> = Vec::new();
    for (index, column) in columns.iter().enumerate().filter(|(_, column)| column.bad + column.uncertain > 0) {
        let is_bad = column.bad > 0;
        match found.last_mut() {
            Some((_, end, bad)) if *end == index && *bad == is_bad => *end = index + 1,
            _ => found.push((index, index + 1, is_bad)),
        }
    }
    let stripe = |(from, to, is_bad): (usize, usize, bool)| Stripe {
        at: percent(from as f64 * width),
        width: percent((to - from) as f64 * width),
        quality: if is_bad { "bad" } else { "uncertain" },
    };
    found.into_iter().take(STRIPES_MAX).map(stripe).collect()
}

fn percent(part: f64) -> String {
    format!("{:.2}%", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[(f64, f64, Quality)], gap: f64) -> Chart {
        let mut columns = Columns::new(0.0, 10.0, 10);
        values.iter().for_each(|(x, y, quality)| columns.add(*x, *y, *quality));
        Chart::of_columns(String::new(), Axis::plain(0.0, 10.0), Axis::plain(0.0, 10.0), columns.all(), gap)
    }

    #[test]
    fn a_line_breaks_at_a_gap_and_a_lonely_value_is_a_dot() {
        let good = Quality::Good;
        let drawn = chart(&[(0.0, 5.0, good), (1.0, 5.0, good), (9.0, 10.0, good)], 2.0);
        assert_eq!(drawn.path, "M0.0 500.0L100.0 500.0M900.0 0.0");
        assert_eq!(drawn.dots, "M900.0 0.0h0");
    }

    #[test]
    fn a_peak_within_a_column_is_drawn() {
        let good = Quality::Good;
        let drawn = chart(&[(0.0, 1.0, good), (0.1, 10.0, good), (0.2, 0.0, good), (0.3, 1.0, good)], 2.0);
        assert!(drawn.path.contains(" 0.0L") && drawn.path.contains(" 1000.0L"), "{}", drawn.path);
    }

    #[test]
    fn stretches_that_are_not_good_are_marked_and_bad_values_are_not_drawn() {
        let drawn = chart(&[(0.0, 1.0, Quality::Bad), (1.0, 1.0, Quality::Bad), (5.0, 2.0, Quality::Uncertain)], 2.0);
        let stripes: Vec<_> = drawn.stripes.iter().map(|s| (s.at.as_str(), s.width.as_str(), s.quality)).collect();
        assert_eq!(stripes, [("0.00%", "20.00%", "bad"), ("50.00%", "10.00%", "uncertain")]);
        assert_eq!(drawn.path, "M500.0 800.0");
    }

    #[test]
    fn marks_outside_of_the_axis_are_left_out() {
        let drawn = chart(&[], 1.0).with_marks([(5.0, "in".to_owned()), (11.0, "out".to_owned())]);
        assert_eq!(drawn.marks, [Mark { at: "50.00%".into(), text: "in".into() }]);
    }
}
