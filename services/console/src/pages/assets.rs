//! `/assets`: the assets that have sent something.

use std::{collections::HashMap, sync::Arc};

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use mantis_pipeline::Fault;
use mantis_schemas::Series;
use mantis_stores::raw::RawReader;
use serde::Deserialize;

use super::{Console, Name, STORE_WAIT, Shell, Time, render};
use crate::{Site, directory::Names, text};

/// Assets on one page.
pub const ASSETS_SHOWN_MAX: usize = 100;
/// Sensors of an asset that are looked at for its newest reading.
const SENSORS_LOOKED_AT: usize = 20;
const LIVE_MS: u32 = 5_000;

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// Part of the name of the asset, or of one of its sensors.
    q: Option<String>,
    /// The last asset of the page before.
    after: Option<String>,
}

#[derive(Template)]
#[template(path = "assets.html")]
struct Assets {
    shell: Shell,
    q: String,
    rows: Result<Vec<Row>, String>,
    /// Why the newest readings are not there.
    trouble: Option<String>,
    matching: usize,
    known: usize,
    is_cut: bool,
    next: Option<String>,
    brokers: String,
}

struct Row {
    name: Name,
    sensors: String,
    newest: Option<Time>,
}

pub(super) async fn page<S: Site>(State(console): State<Arc<Console<S>>>, Query(asked): Query<Asked>) -> Response {
    let shell = Shell::new("Assets", "assets", LIVE_MS);
    let q = asked.q.unwrap_or_default();
    let mut page = Assets {
        shell,
        rows: Ok(Vec::new()),
        trouble: None,
        matching: 0,
        known: 0,
        is_cut: false,
        next: None,
        brokers: console.site.brokers(),
        q: q.clone(),
    };
    match console.names().await {
        Ok(names) => fill(&mut page, &console, &names, &asked.after.unwrap_or_default()).await,
        Err(trouble) => page.rows = Err(trouble),
    }
    render(&page)
}

async fn fill<S: Site>(page: &mut Assets, console: &Console<S>, names: &Names, after: &str) {
    let q = page.q.to_lowercase();
    let matches = |name: &str| name.to_lowercase().contains(&q);
    let wanted = |(asset, sensors): &(&str, &[Series])| {
        q.is_empty() || matches(asset) || sensors.iter().any(|series| matches(&series.sensor))
    };
    page.known = names.assets().count();
    page.is_cut = names.is_cut;
    page.matching = names.assets().filter(wanted).count();
    let shown: Vec<(&str, usize)> = names
        .assets()
        .filter(|(asset, _)| *asset > after)
        .filter(wanted)
        .map(|(asset, sensors)| (asset, sensors.len()))
        .take(ASSETS_SHOWN_MAX + 1)
        .collect();
    if shown.len() > ASSETS_SHOWN_MAX
        && let Some((last, _)) = shown.get(ASSETS_SHOWN_MAX - 1)
    {
        page.next = Some(format!("/assets?{}", text::query(&[("q", &page.q), ("after", last)])));
    }
    let shown = shown.get(..ASSETS_SHOWN_MAX).unwrap_or(&shown);
    let newest = match newest(console, shown).await {
        Ok(newest) => newest,
        Err(trouble) => {
            page.trouble = Some(trouble);
            HashMap::new()
        }
    };
    let row = |(asset, sensors): &(&str, usize)| Row {
        name: Name::asset(asset),
        sensors: text::count(*sensors as u64),
        newest: newest.get(*asset).map(|time_ns| Time::new(*time_ns, page.shell.now)),
    };
    page.rows = Ok(shown.iter().map(row).collect());
}

/// The newest source time among the first sensors of each asset.
async fn newest<S: Site>(console: &Console<S>, shown: &[(&str, usize)]) -> Result<HashMap<String, i64>, String> {
    let Some(raw) = console.site.raw()? else { return Ok(HashMap::new()) };
    let shown: Vec<(String, usize)> = shown.iter().map(|(asset, sensors)| ((*asset).to_owned(), *sensors)).collect();
    let question = async move {
        let mut newest = HashMap::new();
        for (asset, sensors) in shown {
            // No name is empty: every sensor of the asset lies behind.
            let before = Series { asset: asset.as_str().into(), sensor: "".into() };
            let readings = raw.newest_readings(Some(&before), sensors.min(SENSORS_LOOKED_AT)).await?;
            let times = readings.iter().filter(|(series, _)| *series.asset == asset).map(|(_, reading)| reading.time_ns);
            if let Some(time_ns) = times.max() {
                newest.insert(asset, time_ns);
            }
        }
        Ok::<_, Fault>(newest)
    };
    console.asker.ask("the raw store", STORE_WAIT, question).await
}
