//! `/`: what the workers do.

use std::{collections::BTreeMap, sync::Arc};

use askama::Template;
use axum::{extract::State, response::Response};
use jiff::Timestamp;
use mantis_schemas::topics;

use super::{Console, KAFKA_WAIT, Shell, Time, render};
use crate::{Site, Topic, Worker, WorkerState, directory::Names, text};

const LIVE_MS: u32 = 2_000;
/// Workers and topics of one worker that are shown.
const ROWS_MAX: usize = 50;
/// Troubles of one worker that are shown.
const TROUBLES_MAX: usize = 10;

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    shell: Shell,
    totals: Totals,
    workers: Result<Vec<WorkerView>, String>,
    /// Assets and sensors that are known.
    known: Result<(usize, usize), String>,
    missing: usize,
    brokers: String,
}

struct Totals {
    state: &'static str,
    running: String,
    rows: String,
    rate: String,
    lag: String,
    dead_letters: String,
    has_dead_letters: bool,
}

struct WorkerView {
    name: String,
    group: String,
    state: &'static str,
    since: Time,
    troubles: Vec<(String, String)>,
    last_error: Option<(String, Time)>,
    last_commit: Option<Time>,
    lag: String,
    rate: String,
    topics: Vec<TopicView>,
}

struct TopicView {
    topic: String,
    lag: String,
    rate: String,
    /// Rows; written, duplicates, conflicts, rejected; dead letters.
    counts: [String; 6],
    needs_attention: bool,
    gap: Option<String>,
}

pub(super) async fn page<S: Site>(State(console): State<Arc<Console<S>>>) -> Response {
    let shell = Shell::new("Overview", "overview", LIVE_MS);
    let site = console.site.clone();
    let ask = console.asker.ask("the process", KAFKA_WAIT, async move { Ok::<_, String>(site.workers().await) });
    let (workers, names) = tokio::join!(ask, console.names());
    let totals = totals(workers.as_deref().unwrap_or_default());
    let views = workers.map(|workers| workers.iter().take(ROWS_MAX).map(|worker| view(worker, shell.now)).collect());
    render(&Overview {
        totals,
        workers: views,
        known: names.map(|names| (names.assets().count(), Names::len(&names))),
        missing: console.site.missing().len(),
        brokers: console.site.brokers(),
        shell,
    })
}

/// Rows of a topic pass several workers: the one that is furthest counts.
fn totals(workers: &[Worker]) -> Totals {
    let mut by_topic: BTreeMap<&str, (u64, f64)> = BTreeMap::new();
    for topic in workers.iter().flat_map(|worker| &worker.topics).filter(|topic| topic.topic != topics::FEATURES) {
        let (rows, rate) = by_topic.entry(&topic.topic).or_default();
        *rows = (*rows).max(topic.rows);
        *rate = rate.max(topic.rows_per_s);
    }
    let running = workers.iter().filter(|worker| worker.state == WorkerState::Running).count();
    let worst = workers.iter().map(|worker| worker.state).max();
    let dead_letters: u64 = workers.iter().flat_map(|worker| &worker.topics).map(|topic| topic.dead_letters).sum();
    let lag = workers.iter().map(lag).collect::<Option<Vec<_>>>().and_then(|lags| lags.into_iter().max());
    Totals {
        state: worst.map_or("none", WorkerState::name),
        running: format!("{running} of {}", workers.len()),
        rows: text::count(by_topic.values().map(|(rows, _)| rows).sum()),
        rate: text::rate(by_topic.values().map(|(_, rate)| rate).sum()),
        lag: lag.map_or_else(|| text::NONE.into(), text::count),
        dead_letters: text::count(dead_letters),
        has_dead_letters: dead_letters > 0,
    }
}

fn lag(worker: &Worker) -> Option<u64> {
    worker.topics.iter().map(|topic| topic.lag).sum()
}

fn view(worker: &Worker, now: Timestamp) -> WorkerView {
    let time = |timestamp: Timestamp| Time::of_ms(timestamp.as_millisecond(), now);
    WorkerView {
        name: worker.name.clone(),
        group: worker.group.clone(),
        state: worker.state.name(),
        since: time(worker.since),
        troubles: worker.troubles.iter().take(TROUBLES_MAX).map(|(place, error)| (place.clone(), text::visible(error))).collect(),
        last_error: worker.last_error.as_ref().map(|(error, at)| (text::visible(error), time(*at))),
        last_commit: worker.last_commit.map(time),
        lag: lag(worker).map_or_else(|| text::NONE.into(), text::count),
        rate: text::rate(worker.topics.iter().map(|topic| topic.rows_per_s).sum()),
        topics: worker.topics.iter().take(ROWS_MAX).map(topic).collect(),
    }
}

fn topic(topic: &Topic) -> TopicView {
    let Topic { rows, written, duplicates, conflicts, rejected, dead_letters, .. } = *topic;
    TopicView {
        topic: topic.topic.clone(),
        lag: topic.lag.map_or_else(|| text::NONE.into(), text::count),
        rate: text::rate(topic.rows_per_s),
        counts: [rows, written, duplicates, conflicts, rejected, dead_letters].map(text::count),
        needs_attention: dead_letters > 0 || rejected > 0,
        gap: (topic.gap_offsets > 0).then(|| text::count(topic.gap_offsets)),
    }
}
