//! The period that a page is about.

use std::ops::Range;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

const HOUR_NS: i64 = 3_600_000_000_000;

/// What can be chosen: its name in addresses, its name for people, and its length.
pub(crate) const CHOICES: [(&str, &str, Option<i64>); 5] = [
    ("1h", "1 h", Some(HOUR_NS)),
    ("6h", "6 h", Some(6 * HOUR_NS)),
    ("1d", "1 d", Some(24 * HOUR_NS)),
    ("7d", "7 d", Some(7 * 24 * HOUR_NS)),
    ("all", "all", None),
];

/// A stretch of source time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Period {
    /// One of [`CHOICES`]. It ends at the sensor's newest reading, not now: a recording that is replayed has its own time.
    Choice(usize),
    /// From a time to another, ns since the epoch.
    Between(i64, i64),
}

impl Period {
    /// Reads what an address says; a plain one means the last hour.
    ///
    /// # Errors
    /// A sentence about what cannot be read.
    pub(crate) fn parse(choice: Option<&str>, from: Option<&str>, to: Option<&str>) -> Result<Self, String> {
        let given = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(parse_time).transpose();
        let (from_ns, to_ns) = (given(from)?, given(to)?);
        if from_ns.is_some() || to_ns.is_some() {
            let (from_ns, to_ns) = (from_ns.unwrap_or(i64::MIN), to_ns.unwrap_or(i64::MAX));
            if from_ns >= to_ns {
                return Err("the period ends before it begins: give a later end".into());
            }
            return Ok(Self::Between(from_ns, to_ns));
        }
        let choice = choice.unwrap_or(CHOICES[0].0);
        let found = CHOICES.iter().position(|(name, ..)| *name == choice);
        found.map(Self::Choice).ok_or_else(|| format!("{choice:?} is no period: use one of 1h, 6h, 1d, 7d, all"))
    }

    /// The source times from the first one to behind the last one, for a sensor whose readings are between `oldest_ns` and
    /// `newest_ns`.
    pub(crate) fn times(self, oldest_ns: i64, newest_ns: i64) -> Range<i64> {
        let end = newest_ns.saturating_add(1);
        match self {
            Self::Choice(choice) => match CHOICES.get(choice).and_then(|(.., length)| *length) {
                Some(length_ns) => newest_ns.saturating_sub(length_ns).max(oldest_ns)..end,
                None => oldest_ns..end,
            },
            Self::Between(from_ns, to_ns) => from_ns.max(oldest_ns)..to_ns.min(end),
        }
    }

    /// Whether it is this one of [`CHOICES`].
    pub(crate) fn is(self, choice: usize) -> bool {
        self == Self::Choice(choice)
    }
}

/// A time as fields of forms give it, which have no zone and mean UTC, or as RFC 3339.
fn parse_time(text: &str) -> Result<i64, String> {
    let timestamp = text.parse::<Timestamp>().ok().or_else(|| {
        let civil = text.parse::<DateTime>().ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    });
    let ns = timestamp.and_then(|timestamp| i64::try_from(timestamp.as_nanosecond()).ok());
    ns.ok_or_else(|| format!("{text:?} is no time: write it like 2026-09-01T12:30, in UTC"))
}

/// The end of a period as a field of a form takes it: the next full second, so that nothing is left out.
pub(crate) fn end_field(end_ns: i64) -> String {
    field(end_ns.saturating_add(999_999_999))
}

/// A time as a field of a form takes it, to the second.
pub(crate) fn field(time_ns: i64) -> String {
    let timestamp = Timestamp::from_nanosecond(time_ns.into()).ok();
    timestamp.map_or_else(String::new, |time| time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON_NS: i64 = 1_788_264_000_000_000_000; // 2026-09-01T12:00:00Z

    #[test]
    fn periods_are_read_from_addresses_and_forms() {
        assert_eq!(Period::parse(None, None, None), Ok(Period::Choice(0)));
        assert_eq!(Period::parse(Some("all"), Some(""), Some("")), Ok(Period::Choice(4)));
        let day = Period::parse(None, Some("2026-09-01T12:00"), Some("2026-09-02T12:00:00Z"));
        assert_eq!(day, Ok(Period::Between(NOON_NS, NOON_NS + 24 * HOUR_NS)));
        assert_eq!(Period::parse(None, Some("2026-09-01T12:00"), None), Ok(Period::Between(NOON_NS, i64::MAX)));
        assert_eq!(Period::parse(None, None, Some("2026-09-01T12:00")), Ok(Period::Between(i64::MIN, NOON_NS)));
        for (choice, from, to) in
            [(Some("2h"), None, None), (None, Some("noon"), None), (None, Some("2026-09-02T12:00"), Some("2026-09-01T12:00"))]
        {
            assert!(Period::parse(choice, from, to).is_err(), "{choice:?} {from:?} {to:?}");
        }
        assert_eq!(field(NOON_NS), "2026-09-01T12:00:00");
        assert_eq!((end_field(NOON_NS), end_field(NOON_NS + 1)), (field(NOON_NS), "2026-09-01T12:00:01".to_owned()));
    }

    #[test]
    fn a_period_ends_at_the_newest_reading_and_begins_at_the_oldest_one_at_the_earliest() {
        let (oldest, newest) = (NOON_NS - 2 * HOUR_NS, NOON_NS);
        assert_eq!(Period::Choice(0).times(oldest, newest), NOON_NS - HOUR_NS..NOON_NS + 1);
        assert_eq!(Period::Choice(3).times(oldest, newest), oldest..NOON_NS + 1);
        assert_eq!(Period::Choice(4).times(oldest, newest), oldest..NOON_NS + 1);
        assert_eq!(Period::Between(i64::MIN, NOON_NS - HOUR_NS).times(oldest, newest), oldest..NOON_NS - HOUR_NS);
        assert!(Period::Between(newest + 5, newest + 9).times(oldest, newest).is_empty());
        assert_eq!(Period::Choice(4).times(i64::MIN, i64::MAX), i64::MIN..i64::MAX);
    }
}
