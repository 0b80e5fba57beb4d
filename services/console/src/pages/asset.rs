//! `/asset`: the sensors of an asset with their latest values.

use std::{collections::HashMap, sync::Arc};

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use mantis_pipeline::Fault;
use mantis_schemas::Series;
use mantis_stores::{
    cache::Cache,
    raw::{RawReader, StoredReading},
};
use serde::Deserialize;

use super::{Console, Name, STORE_WAIT, Shell, Time, not_found, quality_name, render};
use crate::{Site, chart, recent, text};

/// Sensors on one page.
pub const SENSORS_SHOWN_MAX: usize = 50;
const LIVE_MS: u32 = 3_000;

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    name: String,
    /// The last sensor of the page before.
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "asset.html")]
struct Asset {
    shell: Shell,
    name: String,
    rows: Result<Vec<Row>, String>,
    sensors: usize,
    next: Option<String>,
}

struct Row {
    name: Name,
    value: String,
    unit: String,
    quality: &'static str,
    time: Option<Time>,
    /// The `d` of its line.
    spark: String,
    is_waveform: bool,
}

/// The newest of a sensor.
enum Newest {
    Reading(StoredReading),
    /// Start and quality of a frame.
    Frame(i64, &'static str, usize),
    Nothing,
}

pub(super) async fn page<S: Site>(State(console): State<Arc<Console<S>>>, Query(asked): Query<Asked>) -> Response {
    let mut page = Asset {
        shell: Shell::new(text::visible(&asked.name), "assets", LIVE_MS),
        name: text::visible(&asked.name),
        rows: Ok(Vec::new()),
        sensors: 0,
        next: None,
    };
    let names = match console.names().await {
        Ok(names) => names,
        Err(trouble) => {
            page.rows = Err(trouble);
            return render(&page);
        }
    };
    let sensors = names.sensors(&asked.name);
    if sensors.is_empty() {
        return not_found("No asset of this name has sent anything.");
    }
    page.sensors = sensors.len();
    let after = asked.after.unwrap_or_default();
    let shown: Vec<Series> = sensors.iter().filter(|series| *series.sensor > *after).take(SENSORS_SHOWN_MAX).cloned().collect();
    if let (Some(last), Some(end)) = (shown.last(), sensors.last())
        && last != end
    {
        page.next = Some(format!("/asset?{}", text::query(&[("name", &asked.name), ("after", &last.sensor)])));
    }
    let found = newest(&console, shown.clone()).await;
    let row = |series: &Series, (newest, spark): Shown| {
        let unit = console.site.declared(series).unit.unwrap_or_default();
        let (value, unit, quality, time_ns, is_waveform) = match newest {
            Newest::Reading(reading) => {
                (text::number(reading.value), unit, quality_name(reading.quality), Some(reading.time_ns), false)
            }
            Newest::Frame(start_ns, quality, samples) => {
                (format!("{} samples", text::count(samples as u64)), String::new(), quality, Some(start_ns), true)
            }
            Newest::Nothing => (text::NONE.to_owned(), String::new(), text::NONE, None, false),
        };
        Row {
            name: Name::sensor(&series.asset, &series.sensor),
            value,
            unit,
            quality,
            time: time_ns.map(|time_ns| Time::new(time_ns, page.shell.now)),
            spark: chart::sparkline(&spark),
            is_waveform,
        }
    };
    page.rows = found.map(|found| shown.iter().zip(found).map(|(series, found)| row(series, found)).collect());
    render(&page)
}

/// A sensor's newest, and the points of its sparkline.
type Shown = (Newest, Vec<(f64, f64)>);

/// The newest of each sensor, with some readings before it. The cache is asked first; what it has forgotten is in the store.
async fn newest<S: Site>(console: &Console<S>, shown: Vec<Series>) -> Result<Vec<Shown>, String> {
    let (raw, cache) = (console.site.raw()?, console.site.cache());
    let question = async move {
        let mut cached: HashMap<Series, StoredReading> = HashMap::new();
        if let (Some(cache), Some(series)) = (&cache, shown.first()) {
            cached.extend(cache.readings(&series.asset).await?);
        }
        let mut found = Vec::new();
        for series in &shown {
            let reading = match (cached.get(series), &raw) {
                (Some(reading), _) => Some(*reading),
                (None, Some(raw)) => raw.newest_reading(series).await?,
                (None, None) => None,
            };
            found.push(match (reading, &raw) {
                (Some(reading), Some(raw)) => (Newest::Reading(reading), recent::points(raw, series, reading.time_ns).await?),
                (Some(reading), None) => (Newest::Reading(reading), Vec::new()),
                (None, Some(raw)) => (frame(raw, series).await?, Vec::new()),
                (None, None) => (Newest::Nothing, Vec::new()),
            });
        }
        Ok::<_, Fault>(found)
    };
    console.asker.ask("the raw store", STORE_WAIT, question).await
}

async fn frame(raw: &impl RawReader, series: &Series) -> Result<Newest, Fault> {
    Ok(raw.newest_frame(series).await?.map_or(Newest::Nothing, |frame| {
        Newest::Frame(frame.start_ns, quality_name(frame.quality), frame.samples.len() / frame.format.width())
    }))
}
