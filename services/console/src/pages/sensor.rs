//! `/sensor`: the readings, features and waveforms of a sensor.

use std::{ops::Range, sync::Arc};

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use mantis_pipeline::Fault;
use mantis_schemas::{Figure, Series, parse_window, window_name};
use mantis_stores::{
    ReadingReader,
    features::FeatureReader,
    raw::{RawReader, StoredReading},
};
use serde::Deserialize;

use super::{
    Console, Name, STORE_WAIT, Shell, bad_request, not_found, render,
    sensor_views::{FeaturesView, LatestView, RawView, WaveView},
};
use crate::{
    Site, features, history,
    period::{CHOICES, Period, end_field, field},
    text, waveform,
};

const LIVE_MS: u32 = 5_000;
/// Preferred length of a window, ns: neither noisy nor slow.
const MINUTE_NS: i64 = 60_000_000_000;

/// What an address says.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Asked {
    asset: String,
    sensor: String,
    period: Option<String>,
    from: Option<String>,
    to: Option<String>,
    window: Option<String>,
    figure: Option<String>,
    /// Start of the frame that is shown, ns.
    frame: Option<i64>,
}

impl Asked {
    /// The address of the same page.
    pub(super) fn href(&self) -> String {
        let frame = self.frame.map(|start_ns| start_ns.to_string());
        let given = [
            ("period", self.period.as_deref()),
            ("from", self.from.as_deref()),
            ("to", self.to.as_deref()),
            ("window", self.window.as_deref()),
            ("figure", self.figure.as_deref()),
            ("frame", frame.as_deref()),
        ];
        let mut pairs = vec![("asset", &*self.asset), ("sensor", &*self.sensor)];
        pairs.extend(given.into_iter().filter_map(|(key, value)| Some((key, value?))));
        format!("/sensor?{}", text::query(&pairs))
    }

    /// With another period.
    pub(super) fn with_period(&self, period: Option<&str>, from: Option<String>) -> Self {
        Self { period: period.map(str::to_owned), from, to: None, ..self.clone() }
    }

    /// With another frame.
    pub(super) fn with_frame(&self, start_ns: i64) -> Self {
        Self { frame: Some(start_ns), ..self.clone() }
    }
}

#[derive(Template)]
#[template(path = "sensor.html")]
struct Sensor {
    shell: Shell,
    asked: Asked,
    asset: Name,
    name: String,
    periods: Vec<Choice>,
    from: String,
    to: String,
    latest: Result<Option<LatestView>, String>,
    /// `None` for a sensor without readings.
    raw: Result<Option<RawView>, String>,
    /// `None` where there are none.
    features: Result<Option<FeaturesView>, String>,
    /// `None` for a sensor without frames.
    wave: Result<Option<WaveView>, String>,
}

/// One of several that can be chosen.
pub(super) struct Choice {
    pub(super) name: String,
    pub(super) href: String,
    pub(super) is_current: bool,
}

/// Oldest and newest source time, and the newest reading where there is one.
struct Extent {
    oldest_ns: i64,
    newest_ns: i64,
    newest: Option<StoredReading>,
}

pub(super) async fn page<S: Site>(State(console): State<Arc<Console<S>>>, Query(asked): Query<Asked>) -> Response {
    let period = match Period::parse(asked.period.as_deref(), asked.from.as_deref(), asked.to.as_deref()) {
        Ok(period) => period,
        Err(wrong) => return bad_request(&wrong),
    };
    let series = Series { asset: asked.asset.as_str().into(), sensor: asked.sensor.as_str().into() };
    match console.names().await {
        Ok(names) if !names.has(&series) => return not_found("No sensor of this name has sent anything."),
        // A failing store is told by the panels.
        _ => {}
    }
    let live_ms = if matches!(period, Period::Between(..)) { 0 } else { LIVE_MS };
    let shell = Shell::new(format!("{} · {}", text::visible(&asked.sensor), text::visible(&asked.asset)), "assets", live_ms);
    let extent = extent(&console, &series).await;
    let times = extent.as_ref().ok().and_then(Option::as_ref).map(|extent| period.times(extent.oldest_ns, extent.newest_ns));
    let has_readings = extent.as_ref().is_ok_and(|extent| extent.as_ref().is_some_and(|extent| extent.newest.is_some()));
    let declared = console.site.declared(&series);
    let unit = declared.unit.clone();
    let (raw, features, wave) = tokio::join!(
        raw(&console, &series, times.clone().filter(|_| has_readings), &asked, unit.as_deref()),
        self::features(&console, &series, times.clone(), &asked, unit.as_deref()),
        wave(&console, &series, &asked),
    );
    let periods = CHOICES.iter().enumerate().map(|(index, (key, name, _))| Choice {
        name: (*name).to_owned(),
        href: asked.with_period(Some(key), None).href(),
        is_current: period.is(index),
    });
    let (from, to) = times.map_or_else(Default::default, |times| (field(times.start), end_field(times.end)));
    let latest = extent.as_ref().map_err(String::clone).map(|extent| {
        let reading = extent.as_ref()?.newest?;
        Some(LatestView::new(&reading, unit.as_deref(), shell.now))
    });
    render(&Sensor {
        asset: Name::asset(&asked.asset),
        name: text::visible(&asked.sensor),
        periods: periods.collect(),
        from,
        to,
        latest,
        raw: extent.map(drop).and(raw),
        features,
        wave,
        shell,
        asked,
    })
}

/// What a sensor has; `None` for one with neither readings nor frames.
async fn extent<S: Site>(console: &Console<S>, series: &Series) -> Result<Option<Extent>, String> {
    let Some(raw) = console.site.raw()? else { return Ok(None) };
    let series = series.clone();
    let question = async move {
        let Some(newest) = raw.newest_reading(&series).await? else {
            let Some(newest) = raw.newest_frame(&series).await? else { return Ok(None) };
            let oldest = raw.frames(&series, i64::MIN..i64::MAX, 1).await?;
            let oldest_ns = oldest.first().map_or(newest.start_ns, |frame| frame.start_ns);
            return Ok(Some(Extent { oldest_ns, newest_ns: newest.start_ns, newest: None }));
        };
        let oldest = raw.readings(&series, i64::MIN..i64::MAX, 1).await?;
        let oldest_ns = oldest.first().map_or(newest.time_ns, |reading| reading.time_ns);
        Ok::<_, Fault>(Some(Extent { oldest_ns, newest_ns: newest.time_ns, newest: Some(newest) }))
    };
    console.asker.ask("the raw store", STORE_WAIT, question).await
}

async fn raw<S: Site>(
    console: &Console<S>,
    series: &Series,
    times: Option<Range<i64>>,
    asked: &Asked,
    unit: Option<&str>,
) -> Result<Option<RawView>, String> {
    let (Some(raw), Some(times)) = (console.site.raw()?, times) else { return Ok(None) };
    let (series, asked_of) = (series.clone(), series.clone());
    let question = async move { history::read(&raw, &series, times).await };
    let history = console.asker.ask("the raw store", STORE_WAIT, question).await?;
    let site = console.site.clone();
    let question = async move { Ok::<_, String>(site.irregular(&asked_of).await) };
    // Without that account the rest is as good.
    let irregular = console.asker.ask("the features worker", STORE_WAIT, question).await.unwrap_or_default();
    Ok(Some(RawView::new(&history, irregular, asked, unit)))
}

async fn features<S: Site>(
    console: &Console<S>,
    series: &Series,
    times: Option<Range<i64>>,
    asked: &Asked,
    unit: Option<&str>,
) -> Result<Option<FeaturesView>, String> {
    let Some(store) = console.site.features()? else { return Ok(None) };
    let series = series.clone();
    let (window, figure) = (asked.window.as_deref().and_then(parse_window), asked.figure.clone());
    let question = async move {
        let windows = store.windows(&series).await?;
        let default = windows.iter().find(|window_ns| **window_ns >= MINUTE_NS).or(windows.first());
        let chosen = window.filter(|window_ns| windows.contains(window_ns));
        let Some(window_ns) = chosen.or(default.copied()) else { return Ok(None) };
        let usual = if window_ns == 0 { Figure::RmsAc } else { Figure::Mean };
        let figure = Figure::ALL.into_iter().find(|known| figure.as_deref() == Some(known.name())).unwrap_or(usual);
        // A window begins before the readings in it.
        let newest = store.latest(&series).await?.into_iter().find(|feature| feature.window_ns == window_ns);
        let times = match (times, &newest) {
            (Some(times), _) => times.start.saturating_sub(window_ns)..times.end,
            (None, Some(newest)) => newest.start_ns..newest.start_ns.saturating_add(1),
            (None, None) => return Ok(None),
        };
        let read = features::read(&store, &series, window_ns, figure, times).await?;
        Ok::<_, Fault>(Some((windows, window_ns, figure, newest, read)))
    };
    let found = console.asker.ask("the feature store", STORE_WAIT, question).await?;
    Ok(found.map(|(windows, window_ns, figure, newest, read)| {
        let choices = windows.into_iter().map(|other| Choice {
            name: window_name(other),
            href: Asked { window: Some(window_name(other)), ..asked.clone() }.href(),
            is_current: other == window_ns,
        });
        FeaturesView::new(choices.collect(), window_ns, figure, newest.as_ref(), &read, asked, unit)
    }))
}

async fn wave<S: Site>(console: &Console<S>, series: &Series, asked: &Asked) -> Result<Option<WaveView>, String> {
    let Some(raw) = console.site.raw()? else { return Ok(None) };
    let (declared, unit) = (console.site.declared(series), console.site.declared(series).unit);
    let (series, start_ns) = (series.clone(), asked.frame);
    let question = async move {
        let frame = match start_ns {
            Some(start_ns) => {
                raw.frames(&series, start_ns..start_ns.saturating_add(1), 1).await.map(|frames| frames.into_iter().next())
            }
            None => raw.newest_frame(&series).await,
        };
        let Some(frame) = frame.map_err(|fault| fault.to_string())? else { return Ok(None) };
        let computed = tokio::task::spawn_blocking(move || waveform::of(&frame, &declared)).await;
        computed.map_err(|error| error.to_string())?.map(Some)
    };
    let waveform = console.asker.ask("the raw store", STORE_WAIT, question).await?;
    Ok(waveform.map(|waveform| WaveView::new(waveform, asked.frame.is_some(), unit.as_deref())))
}
