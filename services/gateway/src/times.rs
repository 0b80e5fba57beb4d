//! The times of a file's rows.

use std::collections::HashMap;

use jiff::{
    Timestamp, ToSpan,
    civil::{DateTime, Time},
    fmt::{strtime::BrokenDownTime, temporal::Pieces},
    tz::{AmbiguousOffset, Offset, TimeZone},
};

use crate::{
    mapping::{Gap, Overlap, TimeMapping},
    number::scaled_ns,
    rows::Row,
    source::FileNames,
    template::Bound,
};

const NS_PER_S: i128 = 1_000_000_000;
/// The time of day goes back by more than this at midnight only.
const HALF_DAY_NS: i128 = 12 * 3600 * NS_PER_S;
/// Series whose last time is remembered to tell the two passes of an overlap apart.
const SERIES_MAX: usize = 100_000;

/// Gives each row its time.
#[derive(Debug)]
pub(crate) struct Times {
    mapping: TimeMapping,
    value: Bound,
    form: Form,
    zone: TimeZone,
    /// The column to add, and its unit in ns.
    add: Option<(usize, i64)>,
    decimal: char,
    rate_hz: Option<f64>,
    /// Midnights passed, where the text has no date of its own.
    days: i64,
    last_of_day: Option<Time>,
    /// Last time of each series, where the zone has overlaps.
    last_ns: HashMap<String, i128>,
    text: String,
}

#[derive(Clone, Debug)]
enum Form {
    Iso,
    Pattern(String),
    /// A count of units of so many ns since 1970.
    Epoch(i64),
}

enum Instant {
    Exact(i128),
    Local(DateTime),
}

/// Whether a `time.format` is one.
pub(crate) fn check_format(format: &str) -> Result<(), String> {
    form(format).map(|_| ())
}

impl Times {
    /// The times of one file; `column` numbers a column by its name, `days` midnights were passed before it.
    pub(crate) fn bind(
        mapping: &TimeMapping,
        rate_hz: Option<f64>,
        decimal: char,
        days: i64,
        file: &FileNames,
        mut column: impl FnMut(&str) -> Result<usize, String>,
    ) -> Result<Self, String> {
        // Without a column the rows follow each other at the rate; with one each has its own time.
        let own_time = mapping.value.has_columns() || mapping.add.is_some();
        Ok(Self {
            value: mapping.value.bind(file, &mut column)?,
            form: form(&mapping.format)?,
            zone: TimeZone::get(&mapping.zone).map_err(|error| error.to_string())?,
            add: mapping.add.as_ref().map(|add| column(&add.column).map(|number| (number, add.unit.ns()))).transpose()?,
            decimal,
            rate_hz: mapping.rate_hz.or(if own_time { None } else { rate_hz }),
            days,
            last_of_day: None,
            last_ns: HashMap::new(),
            text: String::new(),
            mapping: mapping.clone(),
        })
    }

    /// The time of the row with this index in its file, ns since the epoch; `series` is whose order decides in overlaps.
    pub(crate) fn of(&mut self, row: &Row, index: u64, series: &str) -> Result<i64, String> {
        let mut text = std::mem::take(&mut self.text);
        let filled = self.value.fill(&mut text, |column| Some(row.cell(column)).filter(|cell| !cell.is_empty()));
        let at = match filled {
            Some(()) => self.instant(&text, series),
            None => Err("the time is blank".into()),
        };
        self.text = text;
        let mut ns = at?;
        if let Some((column, unit_ns)) = self.add {
            let cell = row.cell(column);
            let more = scaled_ns(cell, unit_ns, self.decimal);
            ns += i128::from(more.ok_or_else(|| format!("`{cell}` is no number to add to the time"))?);
        }
        if let Some(rate_hz) = self.rate_hz {
            ns += steps_ns(index, rate_hz);
        }
        i64::try_from(ns).map_err(|_| "the time does not fit into 64 bits of ns (1677 to 2262)".into())
    }

    fn instant(&mut self, text: &str, series: &str) -> Result<i128, String> {
        let local = match parse(&self.form, text, self.decimal).ok_or_else(|| self.no_time(text))? {
            Instant::Exact(ns) => return Ok(ns),
            Instant::Local(local) => self.dated(local).ok_or_else(|| self.no_time(text))?,
        };
        let resolved = self.resolve(local, text, series)?;
        if self.zone.to_fixed_offset().is_err() {
            if let Some(last) = self.last_ns.get_mut(series) {
                *last = (*last).max(resolved);
            } else if self.last_ns.len() < SERIES_MAX {
                self.last_ns.insert(series.to_owned(), resolved);
            }
        }
        Ok(resolved)
    }

    /// A local time on the day that is meant.
    fn dated(&mut self, local: DateTime) -> Option<DateTime> {
        let mut local = local;
        if self.mapping.day_rolls_over {
            let of_day = local.time();
            let back = self.last_of_day.is_some_and(|last| ns_of_day(of_day) < ns_of_day(last) - HALF_DAY_NS);
            self.days += i64::from(back);
            self.last_of_day = Some(of_day);
            local = local.checked_add(self.days.days()).ok()?;
        }
        if self.mapping.midnight_ends_day && local.time() == Time::midnight() {
            local = local.checked_add(1.day()).ok()?;
        }
        Some(local)
    }

    fn resolve(&self, local: DateTime, text: &str, series: &str) -> Result<i128, String> {
        let ns = |offset: Offset| -> Result<i128, String> {
            offset.to_timestamp(local).map(Timestamp::as_nanosecond).map_err(|_| self.no_time(text))
        };
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => ns(offset),
            AmbiguousOffset::Gap { before, .. } => match self.mapping.gap {
                Gap::Shift => ns(before),
                Gap::Refuse => Err(format!("`{text}` was skipped when clocks in {} were put forward", self.mapping.zone)),
            },
            AmbiguousOffset::Fold { before, after } => match self.mapping.overlap {
                Overlap::Earlier => ns(before),
                Overlap::Later => ns(after),
                Overlap::Refuse => Err(format!("`{text}` came twice when clocks in {} were put back", self.mapping.zone)),
                Overlap::InOrder => {
                    let earlier = ns(before)?;
                    let back = self.last_ns.get(series).is_some_and(|last| earlier < *last);
                    if back { ns(after) } else { Ok(earlier) }
                }
            },
        }
    }

    fn no_time(&self, text: &str) -> String {
        format!("`{text}` is no time of the format `{}`", self.mapping.format)
    }
}

/// `index` steps of `1 / rate_hz` in ns, to the nearest.
pub(crate) fn steps_ns(index: u64, rate_hz: f64) -> i128 {
    if rate_hz.fract() == 0.0 && rate_hz < 1e12 {
        let rate = rate_hz as i128;
        return (i128::from(index) * NS_PER_S + rate / 2) / rate;
    }
    (index as f64 * (NS_PER_S as f64 / rate_hz)).round() as i128
}

fn form(format: &str) -> Result<Form, String> {
    match format {
        "iso" => Ok(Form::Iso),
        "s" => Ok(Form::Epoch(1_000_000_000)),
        "ms" => Ok(Form::Epoch(1_000_000)),
        "us" => Ok(Form::Epoch(1_000)),
        "ns" => Ok(Form::Epoch(1)),
        pattern if pattern.contains('%') => Ok(Form::Pattern(pattern.to_owned())),
        _ => Err(format!(
            "`time.format` is `{format}`: give \"iso\", \"s\", \"ms\", \"us\", \"ns\" or a pattern such as \"%d.%m.%Y %H:%M:%S\""
        )),
    }
}

fn parse(form: &Form, text: &str, decimal: char) -> Option<Instant> {
    match form {
        Form::Epoch(unit_ns) => scaled_ns(text, *unit_ns, decimal).map(|ns| Instant::Exact(i128::from(ns))),
        Form::Iso => {
            let pieces = Pieces::parse(text).ok()?;
            let local = DateTime::from_parts(pieces.date(), pieces.time().unwrap_or(Time::midnight()));
            match (pieces.to_numeric_offset(), pieces.to_time_zone().ok()?) {
                (Some(offset), _) => exact(offset, local),
                (None, Some(zone)) => Some(Instant::Exact(zone.to_timestamp(local).ok()?.as_nanosecond())),
                (None, None) => Some(Instant::Local(local)),
            }
        }
        Form::Pattern(pattern) => {
            let broken = BrokenDownTime::parse(pattern, text).ok()?;
            if let Some(at) = broken.timestamp() {
                return Some(Instant::Exact(at.as_nanosecond()));
            }
            let date = broken.to_date().ok()?;
            let time = if broken.hour().is_some() { broken.to_time().ok()? } else { Time::midnight() };
            let local = DateTime::from_parts(date, time);
            match broken.offset() {
                Some(offset) => exact(offset, local),
                None => Some(Instant::Local(local)),
            }
        }
    }
}

fn exact(offset: Offset, local: DateTime) -> Option<Instant> {
    Some(Instant::Exact(offset.to_timestamp(local).ok()?.as_nanosecond()))
}

fn ns_of_day(time: Time) -> i128 {
    let seconds = i128::from(time.hour()) * 3600 + i128::from(time.minute()) * 60 + i128::from(time.second());
    seconds * NS_PER_S + i128::from(time.subsec_nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(toml: &str) -> Times {
        let mapping: TimeMapping = toml::from_str(toml).unwrap();
        let file = FileNames { name: "2003.10.22.12.06.24".into(), stem: "2003.10.22.12.06".into(), parent: "1st".into() };
        Times::bind(&mapping, Some(4.0), '.', 0, &file, |name| {
            ["t", "u"].iter().position(|known| *known == name).ok_or("no".into())
        })
        .unwrap()
    }

    fn row(cells: &[&str]) -> Row {
        Row::of(cells)
    }

    fn at(times: &mut Times, text: &str) -> Result<String, String> {
        times.of(&row(&[text]), 0, "a").map(|ns| Timestamp::from_nanosecond(i128::from(ns)).unwrap().to_string())
    }

    #[test]
    fn times_in_many_forms_are_read() {
        for (toml, text, expected) in [
            ("value = '{t}'", "2020-03-09 10:14:33", "2020-03-09T10:14:33Z"),
            ("value = '{t}'", "2020-03-09T10:14:33.25+01:00", "2020-03-09T09:14:33.25Z"),
            ("value = '{t}'", "2022-08-31 22:00:00+00:00", "2022-08-31T22:00:00Z"),
            ("value = '{t}'\nzone = 'Europe/Berlin'", "2022-08-31 22:00:00Z", "2022-08-31T22:00:00Z"),
            ("value = '{t}'\nzone = 'Asia/Kolkata'", "2022-08-31", "2022-08-30T18:30:00Z"),
            ("value = '{t}'\nformat = '%d/%m/%Y %H:%M'", "31/12/2018 23:45", "2018-12-31T23:45:00Z"),
            ("value = '{t}'\nformat = '%d.%m.%Y %H:%M:%S%.f'", "1.2.2018 3:04:05,5", "error"),
            ("value = '{t}'\nformat = '%m/%d/%Y %I:%M:%S %p'", "1/2/2018 3:04:05 PM", "2018-01-02T15:04:05Z"),
            ("value = '{t}'\nformat = '%Y-%m-%d %H:%M:%S %z'", "2018-01-02 03:04:05 +0200", "2018-01-02T01:04:05Z"),
            ("value = '{t}'\nformat = 'ms'", "1583748873500", "2020-03-09T10:14:33.5Z"),
            ("value = '{t}'\nformat = 's'", "1583748873.5", "2020-03-09T10:14:33.5Z"),
            ("value = '2009-03-12 {t}:00'", "8:40", "error"),
            ("value = '2009-03-12 {t}:00'\nformat = '%Y-%m-%d %H:%M:%S'", "8:4", "2009-03-12T08:04:00Z"),
            ("value = '2009-03-12'\nadd = { column = 't', unit = 'us' }", "1.5004e+05", "2009-03-12T00:00:00.15004Z"),
            ("value = '{file.name}'\nformat = '%Y.%m.%d.%H.%M.%S'", "", "2003-10-22T12:06:24Z"),
            ("value = '{t}'", "2020-02-30 10:00:00", "error"),
            ("value = '{t}'", "", "error"),
        ] {
            let found = at(&mut times(toml), text).unwrap_or("error".into());
            assert_eq!(found, expected, "{toml}: {text}");
        }
    }

    #[test]
    fn rows_without_a_time_of_their_own_follow_at_the_rate() {
        let mut times = times("value = '1970-01-01'");
        assert_eq!(times.of(&row(&[]), 3, "a"), Ok(750_000_000));
        assert_eq!(steps_ns(3, 25_600.0), 117_188);
        assert_eq!(steps_ns(3, 0.5), 6_000_000_000);
    }

    #[test]
    fn an_hour_that_clocks_repeat_is_read_in_the_order_of_the_rows() {
        let mut times = times("value = '{t}'\nzone = 'Europe/Berlin'");
        let found: Vec<String> = [
            "2021-10-31 01:30",
            "2021-10-31 02:00",
            "2021-10-31 02:00",
            "2021-10-31 02:30",
            "2021-10-31 02:00",
            "2021-10-31 02:30",
            "2021-10-31 03:00",
        ]
        .iter()
        .map(|text| at(&mut times, text).unwrap()[11..16].to_owned())
        .collect();
        assert_eq!(found, ["23:30", "00:00", "00:00", "00:30", "01:00", "01:30", "02:00"]);
        let mut later = self::times("value = '{t}'\nzone = 'Europe/Berlin'\noverlap = 'later'");
        assert_eq!(at(&mut later, "2021-10-31 02:00").unwrap(), "2021-10-31T01:00:00Z");
        let mut refuse = self::times("value = '{t}'\nzone = 'Europe/Berlin'\noverlap = 'refuse'");
        assert!(at(&mut refuse, "2021-10-31 02:00").is_err());
    }

    #[test]
    fn an_hour_that_clocks_skip_is_refused_or_shifted() {
        let mut refuse = times("value = '{t}'\nzone = 'Europe/Berlin'");
        assert!(at(&mut refuse, "2021-03-28 02:30").unwrap_err().contains("put forward"));
        let mut shift = times("value = '{t}'\nzone = 'Europe/Berlin'\ngap = 'shift'");
        assert_eq!(at(&mut shift, "2021-03-28 02:30").unwrap(), "2021-03-28T01:30:00Z");
    }

    #[test]
    fn midnight_belongs_to_the_day_that_it_ends_where_the_mapping_says_so() {
        let mut times = times("value = '{t}'\nformat = '%d/%m/%Y %H:%M'\nmidnight_ends_day = true");
        assert_eq!(at(&mut times, "31/12/2018 00:00").unwrap(), "2019-01-01T00:00:00Z");
        assert_eq!(at(&mut times, "31/12/2018 00:15").unwrap(), "2018-12-31T00:15:00Z");
    }

    #[test]
    fn a_time_of_day_that_goes_back_begins_the_next_day() {
        let mut times = times("value = '2009-03-12 {t}'\nday_rolls_over = true");
        assert_eq!(at(&mut times, "23:59:59").unwrap(), "2009-03-12T23:59:59Z");
        assert_eq!(at(&mut times, "23:59:58").unwrap(), "2009-03-12T23:59:58Z");
        assert_eq!(at(&mut times, "00:00:01").unwrap(), "2009-03-13T00:00:01Z");
    }
}
