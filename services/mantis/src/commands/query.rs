//! `mantis query`: stored readings and frames.

use std::io::Write;

use anyhow::Result;
use mantis_schemas::Series;
use mantis_stores::raw::{RawReader, StoredFrame, StoredReading};
use serde_json::json;

use crate::{
    cli::{Query, Range},
    output,
};

const PAGE_ROWS: usize = 10_000;

/// Prints what `query` asks for.
pub async fn query(store: &impl RawReader, query: &Query, as_json: bool, out: &mut impl Write) -> Result<()> {
    match query {
        Query::Series => {
            for series in store.series().await? {
                if as_json {
                    output::json_line(out, &json!({"asset": series.asset, "sensor": series.sensor}))?;
                } else {
                    writeln!(out, "{}  {}", series.asset, series.sensor)?;
                }
            }
            Ok(())
        }
        Query::Readings(range) => readings(store, range, as_json, out).await,
        Query::Frames(range) => frames(store, range, as_json, out).await,
    }
}

/// The range asked for, half open; what is left open reaches to the ends of time.
pub fn time_range(from: Option<jiff::Timestamp>, to: Option<jiff::Timestamp>) -> std::ops::Range<i64> {
    let ns = |time: jiff::Timestamp| time.as_nanosecond().clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    from.map_or(i64::MIN, ns)..to.map_or(i64::MAX, ns)
}

fn series(range: &Range) -> Series {
    Series { asset: range.asset.as_str().into(), sensor: range.sensor.as_str().into() }
}

async fn readings(store: &impl RawReader, range: &Range, as_json: bool, out: &mut impl Write) -> Result<()> {
    let (series, mut times, mut left) = (series(range), time_range(range.from, range.to), range.limit);
    let mut found = false;
    while left > 0 {
        let page = store.readings(&series, times.clone(), left.min(PAGE_ROWS)).await?;
        let Some(last) = page.last() else { break };
        times.start = last.time_ns.saturating_add(1);
        left -= page.len();
        found = true;
        for reading in &page {
            print_reading(reading, as_json, out)?;
        }
    }
    none_found(found, &series, "readings", store, as_json, out).await
}

fn print_reading(reading: &StoredReading, as_json: bool, out: &mut impl Write) -> Result<()> {
    if as_json {
        let object = json!({
            "time": output::time(reading.time_ns),
            "time_ns": reading.time_ns,
            "value": reading.value,
            "quality": reading.quality.name(),
            "arrival_ms": reading.arrival_ms,
        });
        return output::json_line(out, &object);
    }
    writeln!(out, "{}  {:<24} {}", output::time(reading.time_ns), reading.value, reading.quality.name())?;
    Ok(())
}

async fn frames(store: &impl RawReader, range: &Range, as_json: bool, out: &mut impl Write) -> Result<()> {
    let (series, mut times, mut left) = (series(range), time_range(range.from, range.to), range.limit);
    let mut found = false;
    while left > 0 {
        // A frame may be a megabyte: small pages.
        let page = store.frames(&series, times.clone(), left.min(16)).await?;
        let Some(last) = page.last() else { break };
        times.start = last.start_ns.saturating_add(1);
        left -= page.len();
        found = true;
        for frame in &page {
            print_frame(frame, as_json, out)?;
        }
    }
    none_found(found, &series, "frames", store, as_json, out).await
}

fn print_frame(frame: &StoredFrame, as_json: bool, out: &mut impl Write) -> Result<()> {
    let samples = frame.samples.len() / frame.format.width();
    if as_json {
        let object = json!({
            "start": output::time(frame.start_ns),
            "start_ns": frame.start_ns,
            "sample_rate_hz": frame.sample_rate_hz,
            "format": frame.format.name(),
            "scale": frame.scale,
            "quality": frame.quality.name(),
            "arrival_ms": frame.arrival_ms,
            "samples": frame.format.values(frame.scale, &frame.samples).collect::<Vec<_>>(),
        });
        return output::json_line(out, &object);
    }
    let (low, high) = frame
        .format
        .values(frame.scale, &frame.samples)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    let (start, format, quality) = (output::time(frame.start_ns), frame.format.name(), frame.quality.name());
    writeln!(out, "{start}  {samples} samples at {} Hz, {format}, {low} to {high}, {quality}", frame.sample_rate_hz)?;
    Ok(())
}

/// An empty answer says whether the name is wrong or the range.
async fn none_found(
    found: bool,
    series: &Series,
    what: &str,
    store: &impl RawReader,
    as_json: bool,
    out: &mut impl Write,
) -> Result<()> {
    if found || as_json {
        return Ok(());
    }
    let (asset, sensor) = (&series.asset, &series.sensor);
    if store.series().await?.contains(series) {
        writeln!(out, "{asset} / {sensor} has no {what} in this range")?;
    } else {
        writeln!(out, "the store knows no sensor {sensor} of {asset}: `mantis query series` lists what there is")?;
    }
    Ok(())
}
