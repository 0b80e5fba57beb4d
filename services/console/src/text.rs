//! Numbers, times and names as the pages show them.

use std::fmt::Write;

use jiff::{Timestamp, tz::TimeZone};

/// Stands for a figure that is not there.
pub(crate) const NONE: &str = "–";
/// Between groups of digits: narrow, and no line ends at it.
const GROUP: char = '\u{202f}';
/// Digits of a value that are shown.
const DIGITS: i32 = 6;
const MS_NS: i128 = 1_000_000;
const SECOND_NS: i128 = 1_000_000_000;

/// A value to six digits, in powers of ten where it is very large or very small.
pub(crate) fn number(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let exponent = value.abs().log10().floor() as i32;
    if !(-4..7).contains(&exponent) {
        let text = format!("{value:.*e}", DIGITS as usize - 1);
        let Some((digits, power)) = text.split_once('e') else { return text };
        return format!("{}e{power}", without_zeros(digits));
    }
    let decimals = (DIGITS - 1 - exponent).clamp(0, 9);
    let text = format!("{value:.*}", decimals as usize);
    without_zeros(&text).to_owned()
}

fn without_zeros(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// The value, or the sign for none.
pub(crate) fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| NONE.into(), number)
}

/// A count with its digits in groups.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len());
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(GROUP);
        }
        text.push(digit);
    }
    text
}

/// A rate per second: whole where it is large.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second >= 100.0 { count(per_second.round() as u64) } else { number((per_second * 10.0).round() / 10.0) }
}

/// A size for people.
pub(crate) fn bytes(size: usize) -> String {
    match size {
        0..1024 => format!("{size} B"),
        1024..1_048_576 => format!("{} KiB", number((size as f64 / 102.4).round() / 10.0)),
        _ => format!("{} MiB", number((size as f64 / 104_857.6).round() / 10.0)),
    }
}

/// A time in ns since the epoch as `2026-09-01 12:30:05 UTC`, with as many digits of the second as it has: none, 3 or 9.
pub(crate) fn time(time_ns: i64) -> String {
    let Ok(timestamp) = Timestamp::from_nanosecond(time_ns.into()) else { return time_ns.to_string() };
    let fraction = timestamp.subsec_nanosecond().rem_euclid(SECOND_NS as i32);
    let format = match fraction {
        0 => "%Y-%m-%d %H:%M:%S UTC",
        ns if ns % MS_NS as i32 == 0 => "%Y-%m-%d %H:%M:%S%.3f UTC",
        _ => "%Y-%m-%d %H:%M:%S%.9f UTC",
    };
    timestamp.to_zoned(TimeZone::UTC).strftime(format).to_string()
}

/// A time of this process, to the second.
pub(crate) fn moment(timestamp: Timestamp) -> String {
    timestamp.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// The same for machines, for the attribute `datetime`.
pub(crate) fn machine(time_ns: i64) -> String {
    Timestamp::from_nanosecond(time_ns.into()).map_or_else(|_| String::new(), |time| time.to_string())
}

/// A length of time in its two largest units, such as `3 d 4 h`.
pub(crate) fn span(span_ns: i128) -> String {
    const UNITS: [(i128, &str); 5] = [
        (365 * 86_400 * SECOND_NS, "y"),
        (86_400 * SECOND_NS, "d"),
        (3_600 * SECOND_NS, "h"),
        (60 * SECOND_NS, "min"),
        (SECOND_NS, "s"),
    ];
    let (sign, ns) = if span_ns < 0 { ("-", -span_ns) } else { ("", span_ns) };
    if ns < 10 * SECOND_NS {
        let (unit_ns, unit) = match ns {
            0..1_000 => (1, "ns"),
            1_000..MS_NS => (1_000, "µs"),
            MS_NS..SECOND_NS => (MS_NS, "ms"),
            _ => (SECOND_NS, "s"),
        };
        let value = ns as f64 / unit_ns as f64;
        return format!("{sign}{} {unit}", number((value * 1_000.0).round() / 1_000.0));
    }
    let Some(largest) = UNITS.iter().position(|(unit_ns, _)| ns >= *unit_ns) else { return String::new() };
    let (unit_ns, unit) = UNITS[largest];
    let mut text = format!("{sign}{} {unit}", ns / unit_ns);
    if let Some((next_ns, next)) = UNITS.get(largest + 1)
        && ns % unit_ns >= *next_ns
    {
        // Writing to a String does not fail.
        let _ = write!(text, " {} {next}", ns % unit_ns / next_ns);
    }
    text
}

/// How long ago a time was, in one unit.
pub(crate) fn age(time_ns: i64, now: Timestamp) -> String {
    let ns = now.as_nanosecond() - i128::from(time_ns);
    if ns < 0 {
        return format!("{} ahead", span(-ns));
    }
    if ns < SECOND_NS {
        return "now".into();
    }
    span(ns - ns % SECOND_NS)
}

/// Text of others with what could hide or reorder it made visible, such as `‹U+202E›`.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let hides = c.is_control() && c != '\n' && c != '\t'
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if hides {
            let _ = write!(shown, "‹U+{:04X}›", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// `key=value&...`, encoded so that any name comes back as it is.
pub(crate) fn query(pairs: &[(&str, &str)]) -> String {
    let mut query = String::new();
    for (key, value) in pairs {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(key);
        query.push('=');
        for byte in value.bytes() {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => query.push(byte.into()),
                _ => {
                    let _ = write!(query, "%{byte:02X}");
                }
            }
        }
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_six_digits_at_most() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.5, "1.5"),
            (-12.345_678_9, "-12.3457"),
            (1_234_567.0, "1234567"),
            (0.000_123_456_7, "0.000123457"),
            (1e-9, "1e-9"),
            (f64::MAX, "1.79769e308"),
            (-2.5e7, "-2.5e7"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn counts_and_sizes_read_easily() {
        assert_eq!([0, 999, 1_000, 12_345_678].map(count), ["0", "999", "1\u{202f}000", "12\u{202f}345\u{202f}678"]);
        assert_eq!([0, 1_023, 1_536, 5 << 20].map(bytes), ["0 B", "1023 B", "1.5 KiB", "5 MiB"]);
        assert_eq!([0.0, 0.04, 12.34, 1_234.6].map(rate), ["0", "0", "12.3", "1\u{202f}235"]);
    }

    #[test]
    fn times_are_utc_and_say_so_with_the_digits_they_have() {
        assert_eq!(time(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(time(1_500_000_000), "1970-01-01 00:00:01.500 UTC");
        assert_eq!(time(-1), "1969-12-31 23:59:59.999999999 UTC");
        assert_eq!(time(i64::MAX), "2262-04-11 23:47:16.854775807 UTC");
        assert_eq!(time(i64::MIN + 2), "1677-09-21 00:12:43.145224194 UTC");
    }

    #[test]
    fn spans_have_their_two_largest_units() {
        for (ns, text) in [
            (0, "0 ns"),
            (1_500, "1.5 µs"),
            (250_000_000, "250 ms"),
            (1_234_000_000, "1.234 s"),
            (61_000_000_000, "1 min 1 s"),
            (7_200_000_000_000, "2 h"),
            (90_000_000_000_000, "1 d 1 h"),
            (-61_000_000_000, "-1 min 1 s"),
            (i128::from(u64::MAX), "584 y 343 d"),
        ] {
            assert_eq!(span(ns), text);
        }
    }

    #[test]
    fn what_could_hide_or_reorder_text_is_visible() {
        assert_eq!(visible("a\u{202e}b\u{200b}\u{7}<é>"), "a‹U+202E›b‹U+200B›‹U+0007›<é>");
    }

    #[test]
    fn any_name_survives_a_query() {
        assert_eq!(query(&[("name", "a b/&=%é"), ("x", "1")]), "name=a%20b%2F%26%3D%25%C3%A9&x=1");
    }
}
