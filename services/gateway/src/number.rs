//! Numbers as they stand in recordings.

/// A decimal number with `.` or `,` before its fraction. `NaN` and `inf` are numbers here.
pub(crate) fn value(cell: &str, decimal: char) -> Option<f64> {
    if decimal == '.' {
        return cell.parse().ok();
    }
    // A point in such a file groups thousands or is a mistake: not guessed.
    (!cell.contains('.')).then(|| cell.replace(decimal, ".").parse().ok())?
}

/// A decimal number of units of `unit_ns` as ns, exact: no detour over a binary float. Fractions of a ns are rounded
/// to the nearest. `None` for what is no finite decimal number or no 64-bit number of ns.
pub(crate) fn scaled_ns(text: &str, unit_ns: i64, decimal: char) -> Option<i64> {
    const DIGITS_MAX: u32 = 24;
    const EXPONENT_MAX: i32 = 24;
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, text.get(1..)?),
        b'+' => (false, text.get(1..)?),
        _ => (false, text),
    };
    let (mantissa, exponent) = match rest.find(['e', 'E']) {
        Some(at) => (rest.get(..at)?, rest.get(at + 1..)?.parse::<i32>().ok()?),
        None => (rest, 0),
    };
    let (mut number, mut digits, mut fraction, mut point) = (0i128, 0, 0, false);
    for letter in mantissa.chars() {
        match letter.to_digit(10) {
            Some(digit) => {
                digits += 1;
                fraction += i32::from(point);
                number = number * 10 + i128::from(digit);
            }
            None if letter == decimal && !point => point = true,
            None => return None,
        }
        if digits > DIGITS_MAX {
            return None;
        }
    }
    let exponent = exponent.checked_sub(fraction)?;
    if digits == 0 || exponent.abs() > EXPONENT_MAX {
        return None;
    }
    let ten = 10i128.checked_pow(exponent.unsigned_abs())?;
    let product = number.checked_mul(i128::from(unit_ns))?;
    let ns = if exponent >= 0 { product.checked_mul(ten)? } else { product.checked_add(ten / 2)?.div_euclid(ten) };
    i64::try_from(if negative { -ns } else { ns }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_comma_is_read_and_grouped_thousands_are_not_guessed() {
        assert_eq!(value("-1,5e3", ','), Some(-1500.0));
        assert_eq!(value("1.234,5", ','), None);
        assert_eq!(value("1,5", '.'), None);
        assert!(value("NaN", '.').is_some_and(f64::is_nan));
        assert_eq!(value("", '.'), None);
    }

    #[test]
    fn numbers_of_a_unit_become_exact_nanoseconds() {
        assert_eq!(scaled_ns("1.5004e+05", 1_000, '.'), Some(150_040_000));
        assert_eq!(scaled_ns("1583740473.123456789", 1_000_000_000, '.'), Some(1_583_740_473_123_456_789));
        assert_eq!(scaled_ns("-0,5", 1_000_000_000, ','), Some(-500_000_000));
        assert_eq!(scaled_ns("1.00", 3_600_000_000_000, '.'), Some(3_600_000_000_000));
        assert_eq!(scaled_ns("1583740473000", 1_000_000, '.'), Some(1_583_740_473_000_000_000));
        for wrong in ["", "-", ".", "1e", "1e99", "1.2.3", "NaN", "0x1", "99999999999999999999", "12 "] {
            assert_eq!(scaled_ns(wrong, 1_000_000_000, '.'), None, "{wrong}");
        }
    }
}
