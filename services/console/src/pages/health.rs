//! `/health`: what `/health/ready` says, in sentences, with what to do.

use std::sync::Arc;

use askama::Template;
use axum::{extract::State, response::Response};

use super::{Console, KAFKA_WAIT, Shell, render};
use crate::{Site, Worker, text};

const LIVE_MS: u32 = 3_000;

#[derive(Template)]
#[template(path = "health.html")]
struct Health {
    shell: Shell,
    missing: Vec<String>,
    workers: Result<Vec<Row>, String>,
    stores: Vec<(&'static str, Result<&'static str, String>)>,
}

struct Row {
    name: String,
    state: &'static str,
    error: Option<String>,
    advice: &'static str,
}

pub(super) async fn page<S: Site>(State(console): State<Arc<Console<S>>>) -> Response {
    let site = console.site.clone();
    let ask = console.asker.ask("the process", KAFKA_WAIT, async move { Ok::<_, String>(site.workers().await) });
    let workers = ask.await.map(|workers| workers.iter().map(row).collect());
    let opened = |is_there: Result<bool, String>| {
        is_there.map(|is_there| if is_there { "can be read" } else { "is not there yet: it comes with the first rows" })
    };
    render(&Health {
        shell: Shell::new("Health", "health", LIVE_MS),
        missing: console.site.missing().iter().map(|sentence| text::visible(sentence)).collect(),
        workers,
        stores: vec![
            ("The raw store", opened(console.site.raw().map(|store| store.is_some()))),
            ("The feature store", opened(console.site.features().map(|store| store.is_some()))),
        ],
    })
}

fn row(worker: &Worker) -> Row {
    let trouble = worker.troubles.first().map(|(place, error)| format!("{place}: {}", text::visible(error)));
    Row { name: worker.name.clone(), state: worker.state.name(), error: trouble, advice: worker.state.advice() }
}
