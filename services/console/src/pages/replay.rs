//! `/replay`: sends dead letters to their topics again, after a question.

use std::sync::Arc;

use askama::Template;
use axum::{
    Form,
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;

use super::{
    Console, KAFKA_WAIT, Shell,
    letters::{Asked, NotSeen, SEARCH, in_words, list, query},
    message, render,
};
use crate::{
    Site,
    letters::{Filter, Letters, Sent},
    text,
};

#[derive(Template)]
#[template(path = "replay.html")]
struct Confirm {
    shell: Shell,
    /// How many records.
    found: Result<usize, String>,
    count: String,
    not_seen: Option<NotSeen>,
    words: String,
    back: String,
    token: String,
    topic: String,
    reason: String,
    position: String,
}

#[derive(Template)]
#[template(path = "replayed.html")]
struct Replayed {
    shell: Shell,
    sent: Result<SentView, String>,
}

struct SentView {
    replayed: String,
    failed: u64,
    failures: Vec<String>,
}

/// A form of [`Confirm`].
#[derive(Debug, Deserialize)]
pub(super) struct Sending {
    token: String,
    topic: Option<String>,
    reason: Option<String>,
    position: Option<String>,
}

/// Asks before anything is sent.
pub(super) async fn confirm<S: Site>(State(console): State<Arc<Console<S>>>, Query(asked): Query<Asked>) -> Response {
    let filter = Filter { all: asked.position.is_some(), ..asked.filter() };
    let listing = list(&console, filter.clone()).await;
    let not_seen = listing.as_ref().ok().and_then(NotSeen::of);
    let found = listing.map(|listing| listing.found);
    let back = match &filter.position {
        Some(position) => format!("/letter?{}", text::query(&[("position", position)])),
        None => format!("/letters?{}", query(&filter)),
    };
    render(&Confirm {
        shell: Shell::new("Send again", "letters", 0),
        count: text::count(found.as_ref().map_or(0, |found| *found as u64)),
        found,
        not_seen,
        words: in_words(&filter),
        back,
        token: console.guard.token().to_owned(),
        topic: filter.topic.unwrap_or_default(),
        reason: filter.reason.unwrap_or_default(),
        position: filter.position.unwrap_or_default(),
    })
}

/// Sends.
pub(super) async fn send<S: Site>(
    State(console): State<Arc<Console<S>>>,
    headers: HeaderMap,
    Form(form): Form<Sending>,
) -> Response {
    if let Err(refused) = console.guard.check(&headers, &form.token) {
        return message(StatusCode::FORBIDDEN, "Not sent", &format!("Nothing was sent: {refused}."));
    }
    let Sending { topic, reason, position, .. } = form;
    let asked = Asked { topic, reason, position, all: None };
    // A record that is asked for by its position may be sent a second time.
    let filter = asked.filter();
    let filter = Filter { all: filter.position.is_some(), ..filter };
    let letters = console.site.letters();
    let sent = console.searcher.ask(SEARCH, KAFKA_WAIT, async move { letters.replay(filter).await }).await;
    let view = |Sent { replayed, failed, failures }| SentView {
        replayed: text::count(replayed),
        failed,
        failures: failures.iter().map(|failure| text::visible(failure)).collect(),
    };
    render(&Replayed { shell: Shell::new("Sent again", "letters", 0), sent: sent.map(view) })
}
