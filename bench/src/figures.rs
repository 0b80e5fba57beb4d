//! Measured figures, as a table and as JSON.

use std::io::{self, Write};

use serde::Serialize;

/// A measured figure and what is wanted of it.
#[derive(Debug, Serialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
}

impl Figure {
    /// A figure that is measured for its own sake.
    pub fn plain(name: &str, value: f64, unit: &'static str) -> Self {
        Self { name: name.to_owned(), value, unit, at_least: None, at_most: None }
    }

    /// A figure that should reach a bound.
    pub fn at_least(name: &str, value: f64, unit: &'static str, bound: f64) -> Self {
        Self { at_least: Some(bound), ..Self::plain(name, value, unit) }
    }

    /// A figure that should stay below a bound.
    pub fn at_most(name: &str, value: f64, unit: &'static str, bound: f64) -> Self {
        Self { at_most: Some(bound), ..Self::plain(name, value, unit) }
    }

    fn verdict(&self) -> String {
        let met = self.at_least.is_none_or(|bound| self.value >= bound) && self.at_most.is_none_or(|bound| self.value <= bound);
        match (self.at_least, self.at_most) {
            (Some(bound), _) => format!(">= {} {}", readable(bound), if met { "met" } else { "NOT MET" }),
            (_, Some(bound)) => format!("<= {} {}", readable(bound), if met { "met" } else { "NOT MET" }),
            _ => String::new(),
        }
    }
}

/// The middle one; of an even number the upper of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A line per figure.
pub fn table(figures: &[Figure], out: &mut impl Write) -> io::Result<()> {
    for figure in figures {
        let (name, value, unit) = (&figure.name, readable(figure.value), figure.unit);
        writeln!(out, "{name:<72} {value:>9} {unit:<14} {}", figure.verdict())?;
    }
    Ok(())
}

fn readable(value: f64) -> String {
    match value.abs() {
        x if x >= 1e6 => format!("{:.2} M", value / 1e6),
        x if x >= 1e3 => format!("{:.1} k", value / 1e3),
        x if x >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
