//! `/letters`: what was refused.

use std::{collections::BTreeSet, sync::Arc};

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use jiff::Timestamp;
use mantis_kafka::letters::LETTERS_MAX;
use mantis_schemas::topics::{FEATURES, SOURCES};
use serde::Deserialize;

use super::{Console, KAFKA_WAIT, Shell, Time, render};
use crate::{
    Site,
    letters::{Filter, Letters, Listing, Order, Refusal, RefusedRecord},
    text,
};

/// What is asked for letters, as a page names it.
pub(super) const SEARCH: &str = "the search for dead letters in Kafka";

/// Which letters an address or a form means.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Asked {
    pub(super) topic: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) position: Option<String>,
    pub(super) all: Option<String>,
}

impl Asked {
    /// Fields that were left empty mean nothing.
    pub(super) fn filter(&self) -> Filter {
        let given = |text: &Option<String>| text.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
        Filter {
            topic: given(&self.topic),
            reason: given(&self.reason),
            position: given(&self.position),
            all: self.all.is_some(),
            from: None,
        }
    }
}

/// A filter as a query.
pub(super) fn query(filter: &Filter) -> String {
    let given = [("topic", &filter.topic), ("reason", &filter.reason), ("position", &filter.position)];
    let pairs: Vec<(&str, &str)> = given.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?))).collect();
    text::query(&pairs)
}

/// A filter in words.
pub(super) fn in_words(filter: &Filter) -> String {
    let mut words = Vec::new();
    words.extend(filter.position.as_ref().map(|position| format!("at {}", text::visible(position))));
    words.extend(filter.topic.as_ref().map(|topic| format!("of the topic {}", text::visible(topic))));
    words.extend(filter.reason.as_ref().map(|reason| format!("with the reason {}", text::visible(reason))));
    words.join(" ")
}

#[derive(Template)]
#[template(path = "letters.html")]
struct List {
    shell: Shell,
    topics: Vec<(&'static str, bool)>,
    reason: String,
    all: bool,
    reasons: Vec<String>,
    rows: Result<Vec<Row>, String>,
    found: String,
    shown: String,
    is_cut: bool,
    /// Which end of the letters is shown.
    end: &'static str,
    not_seen: Option<NotSeen>,
    replay: String,
    is_filtered: bool,
}

/// Letters that were not looked at.
pub(super) struct NotSeen {
    /// Of how many letters at least what is shown is.
    pub(super) looked_at: String,
    /// Whether they are older than those.
    pub(super) is_older: bool,
    /// From where on they are listed.
    pub(super) from: String,
}

impl NotSeen {
    /// What a listing left out.
    pub(super) fn of(listing: &Listing) -> Option<Self> {
        let from = text::visible(&listing.more_from.as_ref()?.to_string());
        Some(Self { looked_at: text::count(LETTERS_MAX as u64), is_older: listing.order == Order::NewestFirst, from })
    }
}

/// A record that was refused, by one group or by several.
struct Row {
    position: String,
    href: String,
    written: Option<Time>,
    /// Those that refused it.
    groups: Vec<String>,
    codes: Vec<String>,
    detail: String,
    what: String,
    size: String,
    replayed: bool,
}

pub(super) async fn page<S: Site>(State(console): State<Arc<Console<S>>>, Query(asked): Query<Asked>) -> Response {
    let filter = asked.filter();
    let shell = Shell::new("Dead letters", "letters", 0);
    let listing = list(&console, filter.clone()).await;
    let found = listing.as_ref().map_or(0, |listing| listing.found);
    let not_seen = listing.as_ref().ok().and_then(NotSeen::of);
    let is_oldest = listing.as_ref().is_ok_and(|listing| listing.order == Order::OldestFirst);
    let rows = listing.map(|listing| listing.records.iter().map(|record| row(record, shell.now)).collect::<Vec<_>>());
    let shown = rows.as_ref().map_or(0, Vec::len);
    let reasons: BTreeSet<String> = rows.iter().flatten().flat_map(|row| row.codes.clone()).collect();
    render(&List {
        topics: SOURCES.into_iter().chain([FEATURES]).map(|topic| (topic, filter.topic.as_deref() == Some(topic))).collect(),
        reason: filter.reason.clone().unwrap_or_default(),
        all: filter.all,
        reasons: reasons.into_iter().collect(),
        shown: text::count(shown as u64),
        is_cut: shown < found,
        rows,
        found: text::count(found as u64),
        end: if is_oldest { "oldest" } else { "newest" },
        not_seen,
        is_filtered: filter != Filter { all: filter.all, ..Filter::default() },
        replay: format!("/replay?{}", query(&filter)),
        shell,
    })
}

/// The records that a filter means.
pub(super) async fn list<S: Site>(console: &Console<S>, filter: Filter) -> Result<Listing, String> {
    let letters = console.site.letters();
    console.searcher.ask(SEARCH, KAFKA_WAIT, async move { letters.list(filter).await }).await
}

fn row(record: &RefusedRecord, now: Timestamp) -> Row {
    let position = record.position.to_string();
    let detail = record.refusals.iter().flat_map(|refusal| &refusal.reasons).next().map_or("", |reason| &reason.detail);
    Row {
        href: format!("/letter?{}", text::query(&[("position", &position)])),
        position: text::visible(&position),
        written: record.written_ms().map(|ms| Time::of_ms(ms, now)),
        groups: record.refusals.iter().map(|refusal| text::visible(&refusal.group)).collect(),
        codes: record.codes().into_iter().map(text::visible).collect(),
        detail: text::visible(detail),
        what: match rows_refused(&record.refusals) {
            None => "record".into(),
            Some(1) => "1 row".into(),
            Some(rows) => format!("{} rows", text::count(rows as u64)),
        },
        size: text::bytes(record.payload_bytes),
        replayed: record.refusals.iter().all(|refusal| refusal.replayed_ms.is_some()),
    }
}

/// Rows that were refused by the group that refused most; `None` where one refused the record as a whole.
fn rows_refused(refusals: &[Refusal]) -> Option<usize> {
    let rows = |refusal: &Refusal| refusal.reasons.iter().map(|reason| reason.rows).sum::<Option<usize>>();
    refusals.iter().map(rows).try_fold(0, |most, rows| Some(most.max(rows?)))
}
