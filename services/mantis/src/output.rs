//! What commands print: lines and tables for people, JSON for machines.

use std::io::{self, Write};

use anyhow::Result;
use jiff::{Timestamp, Unit, fmt::temporal::DateTimePrinter};
use serde::Serialize;

/// Writes one JSON object as one line.
pub fn json_line(out: &mut impl Write, object: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, object)?;
    writeln!(out)?;
    Ok(())
}

/// Tells something beside the output, where neither a person nor a program takes it for a part of it.
pub fn note(text: &str) {
    // Nobody is left to tell it to where that fails.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Source time as RFC 3339 with nine digits; the plain number where a year has more than four digits.
pub fn time(time_ns: i64) -> String {
    let timestamp = Timestamp::from_nanosecond(time_ns.into());
    timestamp.map_or_else(|_| time_ns.to_string(), |t| PRINTER.timestamp_to_string(&t))
}

/// Time of a record in ms, without the digits it does not have.
pub fn time_ms(time_ms: i64) -> String {
    match Timestamp::from_millisecond(time_ms).and_then(|t| t.round(Unit::Millisecond)) {
        Ok(timestamp) if time_ms >= 0 => timestamp.to_string(),
        _ => "-".into(),
    }
}

const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(9));

/// 1234567 as `1 234 567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A table for people: the first column to the left, the others to the right.
pub fn table(out: &mut impl Write, header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(header.get(column).map(|name| name.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let header: Vec<String> = header.iter().map(|name| (*name).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 => write!(out, "{cell:<width$}")?,
                _ => write!(out, "  {cell:>width$}")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([0, 12, 123, 1234, 1_234_567].map(grouped), ["0", "12", "123", "1 234", "1 234 567"]);
    }

    #[test]
    fn times_have_nine_digits_and_extremes_stay_numbers() {
        assert_eq!(time(1), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(time(i64::MAX), "2262-04-11T23:47:16.854775807Z");
    }

    #[test]
    fn a_table_lines_its_columns_up() {
        let mut out = Vec::new();
        table(&mut out, &["topic", "rows"], &[vec!["a".into(), "1 000".into()]]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "topic   rows\na      1 000\n");
    }
}
