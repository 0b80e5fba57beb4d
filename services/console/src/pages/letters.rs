//! `/letters`: what was refused.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use jiff::Timestamp;
use mantis_kafka::letters::{codes, position};
use mantis_schemas::topics::{FEATURES, SOURCES};
use serde::Deserialize;

use super::{Console, KAFKA_WAIT, Shell, Time, render};
use crate::{
    Site,
    letters::{Filter, Letter, Letters, Listing},
    text,
};

/// Characters of a reason that a list shows.
const DETAIL_CHARS_MAX: usize = 200;

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
    words.extend(filter.position.as_ref().map(|position| format!("of the record {}", text::visible(position))));
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
    more: bool,
    replay: String,
    is_filtered: bool,
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
    let Listing { found, more, .. } = listing.as_ref().map_or(Listing::default(), Clone::clone);
    let shown = listing.as_ref().map_or(0, |listing| listing.letters.len());
    let rows = listing.map(|listing| rows(&listing.letters, shell.now));
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
        more,
        is_filtered: filter != Filter { all: filter.all, ..Filter::default() },
        replay: format!("/replay?{}", query(&filter)),
        shell,
    })
}

/// The letters that a filter means.
pub(super) async fn list<S: Site>(console: &Console<S>, filter: Filter) -> Result<Listing, String> {
    let letters = console.site.letters();
    console.asker.ask("Kafka", KAFKA_WAIT, async move { letters.list(filter).await }).await
}

/// A row for each record, in order of its newest letter.
fn rows(letters: &[Letter], now: Timestamp) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut known: HashMap<String, usize> = HashMap::new();
    for letter in letters {
        let new = row(letter, now);
        match known.get(&new.position).and_then(|place| rows.get_mut(*place)) {
            Some(row) => {
                row.groups.extend(new.groups);
                row.codes.extend(new.codes);
                row.codes.sort_unstable();
                row.codes.dedup();
                row.replayed &= new.replayed;
            }
            None => {
                known.insert(new.position.clone(), rows.len());
                rows.push(new);
            }
        }
    }
    rows
}

fn row(letter: &Letter, now: Timestamp) -> Row {
    let origin = &letter.origin;
    let position = position(origin);
    let why = origin.reason.as_ref().or_else(|| origin.rows.first().map(|refused| &refused.why));
    let detail = text::visible(why.map_or("", |why| &why.detail));
    Row {
        href: format!("/letter?{}", text::query(&[("position", &position)])),
        position,
        written: letter.written_ms.map(|ms| Time::of_ms(ms, now)),
        groups: vec![text::visible(&origin.group)],
        codes: codes(origin).into_iter().map(text::visible).collect(),
        detail: shortened(&detail),
        what: match origin.rows.len() {
            0 => "record".into(),
            1 => "1 row".into(),
            rows => format!("{} rows", text::count(rows as u64)),
        },
        size: text::bytes(letter.payload_bytes),
        replayed: letter.replayed_ms.is_some(),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(DETAIL_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
