//! `mantis sensors`: how the readings of each sensor come.

use std::{collections::HashMap, io::Write, time::Duration};

use anyhow::{Context, Result};
use mantis_schemas::Series;
use mantis_stores::raw::{Gathered, RawReader, Timing};
use mantis_workers::features::{Irregular, SensorAccount};
use serde_json::json;

use crate::{
    cli,
    config::Config,
    exit::Exit,
    output::{self, grouped},
    parts, run_file,
};

const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Sensors whose newest readings are asked for at once.
const SENSORS_PAGE: usize = 1_000;
/// Readings of a sensor that are looked at.
const READINGS_MAX: usize = 100_000;

/// Prints a line per sensor; exit code 3 when readings came too late or under a wrong key.
pub async fn sensors(config: &Config, args: &cli::Sensors, as_json: bool, out: &mut impl Write) -> Result<Exit> {
    let store = parts::raw_reader(config)?;
    let accounts = accounts(config, args.asset.as_deref()).await?;
    let (mut rows, mut attention, mut after) = (Vec::new(), false, None);
    loop {
        let page = store.newest_readings(after.as_ref(), SENSORS_PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (series, newest) in
            page.into_iter().filter(|(series, _)| args.asset.as_ref().is_none_or(|asset| **asset == *series.asset))
        {
            let timing = timing(&store, &series, newest.time_ns, args.last).await?;
            let account = accounts.get(&(series.asset.to_string(), series.sensor.to_string()));
            attention |= account.is_some_and(|account| account.misplaced || account.irregular.late > 0);
            if as_json {
                output::json_line(out, &object(&series, newest.time_ns, &timing, account))?;
            } else {
                rows.push(row(&series, &timing, account));
            }
        }
    }
    if !as_json {
        let header =
            ["asset / sensor", "readings/s", "step", "gaps", "longest", "skew", "duplicate", "conflict", "late", "last seen"];
        output::table(out, &header, &rows)?;
        if rows.is_empty() {
            writeln!(out, "no readings are stored of this asset: `mantis query series` lists what there is")?;
        }
        if accounts.values().any(|account| account.misplaced) {
            writeln!(
                out,
                "assets marked * come on another partition than their key says, so their order is not kept: set \
                 partitioner=murmur2_random in their gateway"
            )?;
        }
    }
    Ok(if attention { Exit::Attention } else { Exit::Done })
}

/// What the running features worker says, by asset and sensor; nothing where none runs.
async fn accounts(config: &Config, asset: Option<&str>) -> Result<HashMap<(String, String), SensorAccount>> {
    let Ok(running) = run_file::find(&config.data_dir) else { return Ok(HashMap::new()) };
    let (url, asset) = (format!("http://{}/sensors", running.http), asset.map(str::to_owned));
    let answer = tokio::task::spawn_blocking(move || -> Result<Vec<SensorAccount>> {
        let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WAIT)).build().into();
        let request = agent.get(&url);
        let request = match asset {
            Some(asset) => request.query("asset", asset),
            None => request,
        };
        let answered = request.call().and_then(|mut answer| answer.body_mut().read_json());
        answered.with_context(|| format!("`mantis up` does not answer at {url}: look at its log"))
    });
    Ok(answer.await??.into_iter().map(|account| ((account.asset.clone(), account.sensor.clone()), account)).collect())
}

async fn timing(store: &impl RawReader, series: &Series, newest_ns: i64, last_s: u32) -> Result<Timing> {
    let mut from_ns = newest_ns.saturating_sub(i64::from(last_s) * 1_000_000_000);
    let mut readings = store.readings(series, from_ns..newest_ns.saturating_add(1), READINGS_MAX).await?;
    // Of a fast sensor the newest part of the time is looked at, not the oldest.
    while readings.len() == READINGS_MAX && from_ns < newest_ns {
        from_ns += (newest_ns - from_ns) / 2 + 1;
        readings = store.readings(series, from_ns..newest_ns.saturating_add(1), READINGS_MAX).await?;
    }
    let mut gathered = Gathered::default();
    readings.iter().for_each(|reading| gathered.add(reading));
    Ok(gathered.timing())
}

fn row(series: &Series, timing: &Timing, account: Option<&SensorAccount>) -> Vec<String> {
    let none = || "-".to_owned();
    let mark = if account.is_some_and(|account| account.misplaced) { "*" } else { "" };
    let count = |count: fn(&Irregular) -> u64| account.map_or_else(none, |account| grouped(count(&account.irregular)));
    vec![
        format!("{}{mark} / {}", series.asset, series.sensor),
        timing.rate_hz.map_or_else(none, |hz| format!("{hz:.3}")),
        timing.median_step_ns.map_or_else(none, seconds),
        grouped(timing.gaps),
        timing.longest_gap_ns.map_or_else(none, seconds),
        timing.median_skew_ms.map_or_else(none, |ms| seconds(ms.saturating_mul(1_000_000))),
        count(|irregular| irregular.duplicates),
        count(|irregular| irregular.conflicts),
        count(|irregular| irregular.late),
        timing.newest_arrival_ms.map_or_else(none, output::time_ms),
    ]
}

fn object(series: &Series, newest_ns: i64, timing: &Timing, account: Option<&SensorAccount>) -> serde_json::Value {
    json!({
        "asset": series.asset,
        "sensor": series.sensor,
        "rate_hz": timing.rate_hz,
        "median_step_ns": timing.median_step_ns,
        "gaps": timing.gaps,
        "longest_gap_ns": timing.longest_gap_ns,
        "out_of_order": timing.out_of_order,
        "median_skew_ms": timing.median_skew_ms,
        "newest_arrival_ms": timing.newest_arrival_ms,
        "newest": output::time(newest_ns),
        "newest_ns": newest_ns,
        "irregular": account.map(|account| account.irregular),
        "misplaced": account.map(|account| account.misplaced),
    })
}

/// A length of time as people read it.
fn seconds(ns: i64) -> String {
    let s = ns as f64 / 1e9;
    match s.abs() {
        short if short < 1.0 => format!("{:.1} ms", s * 1e3),
        short if short < 600.0 => format!("{s:.2} s"),
        long if long < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        _ => format!("{:.1} d", s / 86_400.0),
    }
}
