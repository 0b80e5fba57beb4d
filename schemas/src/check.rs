//! The rules that every reading, frame and event must meet, whatever its encoding.

use std::{borrow::Cow, ops::RangeInclusive};

use crate::{
    Quality, SampleFormat, SeriesId, SeriesInterner,
    json::text,
    reject::{self, Refusal},
    value::Value,
};

/// Longest asset or sensor name.
pub const NAME_BYTES_MAX: usize = 256;

/// True if `name` may be an asset or a sensor: 1 to 256 bytes, no control characters (C0, DEL, C1) and no line or
/// paragraph separators, which would split lines and fields of the stores and exports behind.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && (name.bytes().all(|byte| (0x20..0x7f).contains(&byte))
            || !name.chars().any(|char| char.is_control() || matches!(char, '\u{2028}' | '\u{2029}')))
}

/// The id of the series; the record's key stands in for an asset that is not there.
pub(crate) fn series(
    interner: &mut SeriesInterner,
    asset: Value<'_>,
    sensor: Value<'_>,
    key: Option<&[u8]>,
) -> Result<SeriesId, Refusal> {
    let asset = self::asset(asset, key)?;
    let sensor = match sensor {
        Value::Absent | Value::Null => return Err(&reject::NO_SENSOR),
        sensor => name(sensor)?,
    };
    if let Some(known) = interner.find(&asset, &sensor) {
        return Ok(known);
    }
    interner.intern(valid(&asset)?, valid(&sensor)?).ok_or(&reject::TOO_MANY_SERIES)
}

/// The asset; the record's key where the payload has none. Not yet known to be valid.
pub(crate) fn asset<'a>(asset: Value<'a>, key: Option<&'a [u8]>) -> Result<Cow<'a, [u8]>, Refusal> {
    match asset {
        Value::Absent | Value::Null => key.filter(|key| !key.is_empty()).map(Cow::Borrowed).ok_or(&reject::NO_ASSET),
        asset => name(asset),
    }
}

fn name(value: Value<'_>) -> Result<Cow<'_, [u8]>, Refusal> {
    match value {
        Value::Text(_) => text(value).ok_or(&reject::BAD_NAME),
        // Half a surrogate pair is no character.
        Value::Escaped(_) => text(value).ok_or(&reject::BAD_NAME),
        _ => Err(&reject::WRONG_TYPE),
    }
}

/// The bytes as a name.
pub(crate) fn valid(name: &[u8]) -> Result<&str, Refusal> {
    std::str::from_utf8(name).ok().filter(|name| is_name(name)).ok_or(&reject::BAD_NAME)
}

/// The time within the accepted range.
pub(crate) fn time(value: Value<'_>, accepted: &RangeInclusive<i64>) -> Result<i64, Refusal> {
    match value {
        Value::Int(time) if accepted.contains(&time) => Ok(time),
        Value::Int(_) | Value::Beyond => Err(&reject::TIME_OUT_OF_RANGE),
        // A whole number too large for 64 bits comes as a double.
        Value::Float(time) if time.abs() >= i64::MAX as f64 => Err(&reject::TIME_OUT_OF_RANGE),
        Value::BadTime => Err(&reject::BAD_TIME),
        Value::Absent | Value::Null => Err(&reject::NO_TIME),
        _ => Err(&reject::WRONG_TYPE),
    }
}

/// The value, finite.
pub(crate) fn finite(value: Value<'_>) -> Result<f64, Refusal> {
    match value {
        Value::Float(value) if value.is_finite() => Ok(value),
        Value::Float(_) => Err(&reject::NOT_FINITE),
        Value::Int(value) => Ok(value as f64),
        Value::Absent | Value::Null => Err(&reject::NO_VALUE),
        _ => Err(&reject::WRONG_TYPE),
    }
}

/// The quality; good where none is given.
pub(crate) fn quality(value: Value<'_>) -> Result<Quality, Refusal> {
    match value {
        Value::Absent | Value::Null | Value::Text(b"good") => Ok(Quality::Good),
        Value::Text(b"uncertain") => Ok(Quality::Uncertain),
        Value::Text(b"bad") => Ok(Quality::Bad),
        Value::Text(_) | Value::Escaped(_) => Err(&reject::BAD_QUALITY),
        _ => Err(&reject::WRONG_TYPE),
    }
}

/// The samples' format.
pub(crate) fn format(value: Value<'_>) -> Result<SampleFormat, Refusal> {
    match value {
        Value::Text(b"f64") => Ok(SampleFormat::F64),
        Value::Text(b"f32") => Ok(SampleFormat::F32),
        Value::Text(b"i16") => Ok(SampleFormat::I16),
        Value::Absent | Value::Null => Err(&reject::NO_FIELD),
        _ => Err(&reject::FRAME_FORMAT),
    }
}

/// The sample rate.
pub(crate) fn rate(value: Value<'_>) -> Result<f64, Refusal> {
    match value {
        Value::Absent | Value::Null => Err(&reject::NO_FIELD),
        value => finite(value).ok().filter(|rate| *rate > 0.0).ok_or(&reject::FRAME_RATE),
    }
}

/// The scale; 1 where none is given.
pub(crate) fn scale(value: Value<'_>, format: SampleFormat) -> Result<f64, Refusal> {
    let scale = match value {
        Value::Absent | Value::Null => 1.0,
        value => finite(value).map_err(|_| &reject::FRAME_SCALE)?,
    };
    let fits = match format {
        SampleFormat::I16 => scale != 0.0 && (scale * f64::from(i16::MIN)).is_finite(),
        SampleFormat::F64 | SampleFormat::F32 => scale == 1.0,
    };
    if fits { Ok(scale) } else { Err(&reject::FRAME_SCALE) }
}

/// Checks a frame's samples and returns their number.
pub(crate) fn samples(samples: &[u8], format: SampleFormat) -> Result<usize, Refusal> {
    if samples.is_empty() || !samples.len().is_multiple_of(format.width()) {
        return Err(&reject::FRAME_SAMPLES);
    }
    let finite = match format {
        SampleFormat::F64 => samples.as_chunks().0.iter().fold(true, |all, sample| all & f64::from_le_bytes(*sample).is_finite()),
        SampleFormat::F32 => samples.as_chunks().0.iter().fold(true, |all, sample| all & f32::from_le_bytes(*sample).is_finite()),
        SampleFormat::I16 => true,
    };
    if finite { Ok(samples.len() / format.width()) } else { Err(&reject::NOT_FINITE) }
}

/// The time of a frame's last sample within the accepted range.
pub(crate) fn last_sample(start_ns: i64, rate_hz: f64, count: usize, accepted: &RangeInclusive<i64>) -> Result<(), Refusal> {
    let span_ns = (count.saturating_sub(1) as f64 * 1e9 / rate_hz).round();
    // A rate near 0 makes it infinite; the conversion saturates, and the longest span does not fit anyway.
    match start_ns.checked_add(span_ns as i64) {
        Some(last_ns) if span_ns < i64::MAX as f64 && accepted.contains(&last_ns) => Ok(()),
        _ => Err(&reject::TIME_OUT_OF_RANGE),
    }
}
