//! RFC 3339 times to nanoseconds.

use crate::value::Value;

const SECOND_NS: i128 = 1_000_000_000;

/// [`Value::Int`] with ns since the epoch; [`Value::BadTime`] if `text` is not RFC 3339 with at most nine digits of
/// fraction (more would have to be rounded), [`Value::Beyond`] if 64 bits do not hold it. A leap second is refused: it
/// has no number of its own.
pub(crate) fn parse(text: &[u8]) -> Value<'static> {
    match nanoseconds(text) {
        None => Value::BadTime,
        Some(time) => i64::try_from(time).map_or(Value::Beyond, Value::Int),
    }
}

fn nanoseconds(text: &[u8]) -> Option<i128> {
    let (date_time, rest) = text.split_first_chunk::<19>()?;
    let [y0, y1, y2, y3, b'-', o0, o1, b'-', d0, d1, b'T' | b't' | b' ', h0, h1, b':', m0, m1, b':', s0, s1] = *date_time else {
        return None;
    };
    let year = i64::from(two(y0, y1)?) * 100 + i64::from(two(y2, y3)?);
    let (month, day) = (two(o0, o1)?, two(d0, d1)?);
    let (hour, minute, second) = (two(h0, h1)?, two(m0, m1)?, two(s0, s1)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction_ns, zone) = match rest.split_first()? {
        (b'.', rest) => fraction(rest)?,
        _ => (0, rest),
    };
    let seconds = days(year, month, day) * 86_400 + i64::from(hour) * 3_600 + i64::from(minute) * 60 + i64::from(second);
    Some(i128::from(seconds - offset_seconds(zone)?) * SECOND_NS + i128::from(fraction_ns))
}

fn fraction(text: &[u8]) -> Option<(u32, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (fraction, zone) = text.split_at_checked(digits)?;
    if !(1..=9).contains(&digits) {
        return None;
    }
    let number = fraction.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    Some((number * 10_u32.pow(9 - digits as u32), zone))
}

fn offset_seconds(zone: &[u8]) -> Option<i64> {
    match *zone {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h0, h1, b':', m0, m1] => {
            let (hours, minutes) = (two(h0, h1)?, two(m0, m1)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = i64::from(hours) * 3_600 + i64::from(minutes) * 60;
            Some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn two(tens: u8, ones: u8) -> Option<u8> {
    (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| (tens - b'0') * 10 + (ones - b'0'))
}

fn days_in(year: i64, month: u8) -> u8 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar: years begin in March, so that the leap day is the last.
fn days(year: i64, month: u8, day: u8) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (i64::from(month) + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + i64::from(day) - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (text, time) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-09-01T00:00:00Z", 1_788_220_800_000_000_000),
            ("2026-09-01t02:00:00.5+02:00", 1_788_220_800_500_000_000),
            ("2026-08-31 19:29:59.999999999-04:30", 1_788_220_799_999_999_999),
            ("2000-02-29T23:59:59.000000001Z", 951_868_799_000_000_001),
            ("1969-12-31T23:59:59.999999999Z", -1),
            ("2262-04-11T23:47:16.854775807Z", i64::MAX),
            ("1677-09-21T00:12:43.145224192Z", i64::MIN),
        ] {
            assert_eq!(parse(text.as_bytes()), Value::Int(time), "{text}");
        }
        assert_eq!(parse(b"2262-04-11T23:47:16.854775808Z"), Value::Beyond);
        assert_eq!(parse(b"9999-12-31T23:59:59Z"), Value::Beyond);
    }

    #[test]
    fn what_is_not_a_time_with_zone_is_refused() {
        for text in [
            "",
            "2026-09-01",
            "2026-09-01T00:00:00",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-09-01T24:00:00Z",
            "2026-09-01T23:59:60Z",
            "2026-09-01T00:00:00.Z",
            "2026-09-01T00:00:00.1234567890Z",
            "2026-09-01T00:00:00+0200",
            "2026-09-01T00:00:00+24:00",
            "2026-09-01T00:00:00Zx",
            "+026-09-01T00:00:00Z",
        ] {
            assert_eq!(parse(text.as_bytes()), Value::BadTime, "{text}");
        }
    }
}
