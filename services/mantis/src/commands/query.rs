//! `mantis query`: stored readings, frames and features.

use std::io::Write;

use anyhow::Result;
use mantis_schemas::{Feature, Series, window_name};
use mantis_stores::{
    ReadingReader,
    features::FeatureReader,
    raw::{RawReader, StoredFrame, StoredReading},
};
use serde_json::json;

use crate::{
    cli::{Query, Range},
    config::Config,
    output, parts,
};

const PAGE_ROWS: usize = 10_000;

/// Prints what `query` asks for.
pub async fn query(config: &Config, query: &Query, as_json: bool, out: &mut impl Write) -> Result<()> {
    match query {
        Query::Series => {
            for series in parts::raw_reader(config)?.series().await? {
                if as_json {
                    output::json_line(out, &json!({"asset": series.asset, "sensor": series.sensor}))?;
                } else {
                    writeln!(out, "{}  {}", series.asset, series.sensor)?;
                }
            }
            Ok(())
        }
        Query::Readings(range) => readings(&parts::raw_reader(config)?, range, as_json, out).await,
        Query::Frames(range) => frames(&parts::raw_reader(config)?, range, as_json, out).await,
        Query::Features { window, range } => features(&parts::features_reader(config)?, *window, range, as_json, out).await,
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
    if left == 0 && !store.readings(&series, times.clone(), 1).await?.is_empty() {
        tell_more(times.start, "readings");
    }
    none_found(found, &series, "readings", store, as_json, out).await
}

/// Says that the limit ended the answer, and where it goes on.
fn tell_more(from_ns: i64, what: &str) {
    output::note(&format!("there are more {what}: go on with --from {}, or raise --limit", output::time(from_ns)));
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
    if left == 0 && !store.frames(&series, times.clone(), 1).await?.is_empty() {
        tell_more(times.start, "frames");
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

async fn features(
    store: &impl FeatureReader,
    window: Option<i64>,
    range: &Range,
    as_json: bool,
    out: &mut impl Write,
) -> Result<()> {
    let series = series(range);
    let windows = store.windows(&series).await?;
    let mut found = false;
    for window_ns in windows.into_iter().filter(|window_ns| window.is_none_or(|wanted| wanted == *window_ns)) {
        let (mut times, mut left) = (time_range(range.from, range.to), range.limit);
        while left > 0 {
            let page = store.features(&series, window_ns, times.clone(), left.min(PAGE_ROWS)).await?;
            let Some(last) = page.last() else { break };
            times.start = last.start_ns.saturating_add(1);
            left -= page.len();
            found = true;
            for feature in &page {
                print_feature(feature, as_json, out)?;
            }
        }
        if left == 0 && !store.features(&series, window_ns, times.clone(), 1).await?.is_empty() {
            tell_more(times.start, &format!("features of {}", window_name(window_ns)));
        }
    }
    if !found && !as_json {
        let (asset, sensor) = (&series.asset, &series.sensor);
        writeln!(
            out,
            "there are no such features of {asset} / {sensor}: `mantis query series` lists sensors, `mantis status` the lag"
        )?;
    }
    Ok(())
}

fn print_feature(feature: &Feature, as_json: bool, out: &mut impl Write) -> Result<()> {
    let window = window_name(feature.window_ns);
    if as_json {
        let mut object = json!({
            "window": window,
            "start": output::time(feature.start_ns),
            "start_ns": feature.start_ns,
            "end_ns": feature.end_ns,
            "version": feature.version,
            "count": feature.count,
            "uncertain": feature.uncertain,
            "bad": feature.bad,
            "coverage": feature.coverage,
            "exact": feature.exact,
            "provisional": feature.provisional,
            "revision": feature.revision,
            "processed_ms": feature.processed_ms,
        });
        for (figure, value) in feature.figures.iter() {
            object[figure.name()] = value.into();
        }
        object["extras"] = serde_json::from_str(&feature.extras).unwrap_or(serde_json::Value::Null);
        return output::json_line(out, &object);
    }
    let state = match (feature.provisional, feature.exact) {
        (true, _) => "  provisional",
        (false, false) => "  from moments",
        (false, true) => "",
    };
    let bad = if feature.bad > 0 { format!("  {} bad", feature.bad) } else { String::new() };
    writeln!(out, "{}  {window:<5}  {} samples{bad}{state}", output::time(feature.start_ns), feature.count)?;
    let figures: Vec<String> =
        feature.figures.iter().filter_map(|(figure, value)| Some(format!("{} {}", figure.name(), value?))).collect();
    for line in figures.chunks(4) {
        writeln!(out, "    {}", line.join("  "))?;
    }
    if !feature.extras.is_empty() {
        writeln!(out, "    {}", feature.extras)?;
    }
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
