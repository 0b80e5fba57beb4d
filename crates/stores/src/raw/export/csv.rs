//! CSV.

use std::{fmt, io::Write};

use jiff::Timestamp;
use mantis_schemas::Series;

use super::{ExportError, RowWriter, StoredFrame, StoredReading, format_name, quality_name, samples};

/// Readings, a line each.
pub(super) struct Readings<W> {
    out: W,
    with_arrival: bool,
}

impl<W: Write> Readings<W> {
    pub(super) fn new(mut out: W, with_arrival: bool) -> Result<Self, ExportError> {
        writeln!(out, "asset,sensor,time,time_ns,value,quality{}", if with_arrival { ",arrival_ms" } else { "" })?;
        Ok(Self { out, with_arrival })
    }
}

impl<W: Write> RowWriter<StoredReading> for Readings<W> {
    fn write(&mut self, series: &Series, rows: &[StoredReading]) -> Result<(), ExportError> {
        let identity = identity(series);
        for row in rows {
            let (time, value, quality) = (Rfc3339(row.time_ns), row.value, quality_name(row.quality));
            write!(self.out, "{identity},{time},{},{value:?},{quality}", row.time_ns)?;
            end_line(&mut self.out, self.with_arrival, row.arrival_ms)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), ExportError> {
        Ok(self.out.flush()?)
    }
}

/// Frames, a line each.
pub(super) struct Frames<W> {
    out: W,
    with_arrival: bool,
}

impl<W: Write> Frames<W> {
    pub(super) fn new(mut out: W, with_arrival: bool) -> Result<Self, ExportError> {
        let arrival = if with_arrival { ",arrival_ms" } else { "" };
        writeln!(out, "asset,sensor,start,start_ns,sample_rate_hz,format,scale,quality,samples{arrival}")?;
        Ok(Self { out, with_arrival })
    }
}

impl<W: Write> RowWriter<StoredFrame> for Frames<W> {
    fn write(&mut self, series: &Series, rows: &[StoredFrame]) -> Result<(), ExportError> {
        let identity = identity(series);
        for row in rows {
            let (start, format, quality) = (Rfc3339(row.start_ns), format_name(row.format), quality_name(row.quality));
            let (start_ns, rate, scale) = (row.start_ns, row.sample_rate_hz, row.scale);
            write!(self.out, "{identity},{start},{start_ns},{rate:?},{format},{scale:?},{quality},")?;
            for (index, sample) in samples(row).enumerate() {
                let space = if index == 0 { "" } else { " " };
                write!(self.out, "{space}{sample:?}")?;
            }
            end_line(&mut self.out, self.with_arrival, row.arrival_ms)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), ExportError> {
        Ok(self.out.flush()?)
    }
}

fn end_line(out: &mut impl Write, with_arrival: bool, arrival_ms: i64) -> Result<(), ExportError> {
    match (with_arrival, arrival_ms) {
        (false, _) => writeln!(out)?,
        // The record had no timestamp.
        (true, ..0) => writeln!(out, ",")?,
        (true, _) => writeln!(out, ",{arrival_ms}")?,
    }
    Ok(())
}

fn identity(series: &Series) -> String {
    format!("{},{}", field(&series.asset), field(&series.sensor))
}

/// Quoted where RFC 4180 asks for it.
fn field(name: &str) -> String {
    if name.contains([',', '"', '\r', '\n']) { format!("\"{}\"", name.replace('"', "\"\"")) } else { name.to_owned() }
}

/// UTC with nine digits, so that lines sort as times do.
struct Rfc3339(i64);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every number of ns that 64 bits hold is between the years 1677 and 2262.
        let time = Timestamp::from_nanosecond(i128::from(self.0)).map_err(|_| fmt::Error)?;
        write!(f, "{time:.9}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits_from_the_first_to_the_last() {
        let formatted = [i64::MIN, -1, 0, 1_700_000_000_000_000_001, i64::MAX].map(|time_ns| Rfc3339(time_ns).to_string());
        assert_eq!(
            formatted,
            [
                "1677-09-21T00:12:43.145224192Z",
                "1969-12-31T23:59:59.999999999Z",
                "1970-01-01T00:00:00.000000000Z",
                "2023-11-14T22:13:20.000000001Z",
                "2262-04-11T23:47:16.854775807Z"
            ]
        );
    }

    #[test]
    fn names_are_quoted_where_they_must_be() {
        assert_eq!(field("a b=c"), "a b=c");
        assert_eq!(field("a,b"), "\"a,b\"");
        assert_eq!(field("say \"x\""), "\"say \"\"x\"\"\"");
    }
}
