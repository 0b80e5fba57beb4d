//! The pages, a file each: what is asked, how it is told, and its template.

mod asset;
mod assets;
mod health;
mod letter;
mod letters;
mod overview;
mod replay;
mod sensor;
mod sensor_views;

use std::{sync::Arc, time::Duration};

use askama::Template;
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use mantis_schemas::Quality;
use mantis_stores::ReadingReader;

pub use self::{asset::SENSORS_SHOWN_MAX, assets::ASSETS_SHOWN_MAX};
use crate::{
    Site,
    ask::Asker,
    directory::{Directory, Names},
    guard::Guard,
    static_files, text,
};

/// Questions to stores and to Kafka under way at once.
const QUESTIONS_MAX: usize = 16;
/// Searches for dead letters under way at once, for a list or to send them again, beside those: each holds up to
/// [`LETTERS_MAX`](mantis_kafka::letters::LETTERS_MAX) letters.
const SEARCHES_MAX: usize = 1;
/// Longest wait for a store.
const STORE_WAIT: Duration = Duration::from_secs(5);
/// Longest wait for Kafka. What is not done by then goes on, and the page says so.
const KAFKA_WAIT: Duration = Duration::from_secs(20);
/// Bytes of a form.
const FORM_BYTES_MAX: usize = 16 << 10;
/// Nothing but our own files, no frame around us, forms to us alone.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'";

/// What the pages share.
pub(crate) struct Console<S: Site> {
    site: Arc<S>,
    asker: Asker,
    searcher: Asker,
    directory: Directory,
    guard: Guard,
}

impl<S: Site> Console<S> {
    pub(crate) fn new(site: Arc<S>) -> Self {
        let guard = Guard::new(site.names());
        let (asker, searcher) = (Asker::new(QUESTIONS_MAX), Asker::new(SEARCHES_MAX));
        Self { site, asker, searcher, directory: Directory::default(), guard }
    }

    /// The names of assets and sensors, from the raw store or, where there is none, from the feature store.
    async fn names(&self) -> Result<Arc<Names>, String> {
        let look = || async {
            if let Some(raw) = self.site.raw()? {
                return self.asker.ask("the raw store", STORE_WAIT, async move { raw.series().await }).await;
            }
            match self.site.features()? {
                Some(features) => self.asker.ask("the feature store", STORE_WAIT, async move { features.series().await }).await,
                None => Ok(Vec::new()),
            }
        };
        self.directory.names(look).await
    }
}

/// All pages.
pub(crate) fn routes<S: Site>(console: Arc<Console<S>>) -> Router {
    Router::new()
        .route("/", get(overview::page::<S>))
        .route("/assets", get(assets::page::<S>))
        .route("/asset", get(asset::page::<S>))
        .route("/sensor", get(sensor::page::<S>))
        .route("/letters", get(letters::page::<S>))
        .route("/letter", get(letter::page::<S>))
        .route("/replay", get(replay::confirm::<S>).post(replay::send::<S>))
        .route("/health", get(health::page::<S>))
        .route("/console/console.css", get(static_files::css))
        .route("/console/console.js", get(static_files::script))
        .route("/console/icon.svg", get(static_files::icon))
        .fallback(async || not_found("There is no such page."))
        .layer(axum::extract::DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(middleware::from_fn_with_state(console.clone(), of_our_names::<S>))
        .layer(middleware::from_fn(with_headers))
        .with_state(console)
}

/// A name that somebody else points at this address would let their pages read ours.
async fn of_our_names<S: Site>(State(console): State<Arc<Console<S>>>, request: Request, next: Next) -> Response {
    // Only browsers can be led here by a foreign name, and they all say which.
    let named = request.headers().contains_key(header::HOST);
    match console.guard.check_host(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(_) if !named => next.run(request).await,
        Err(why) => (StatusCode::FORBIDDEN, format!("{why}\n")).into_response(),
    }
}

async fn with_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// What is around every page.
#[derive(Debug)]
struct Shell {
    title: String,
    /// The entry of the navigation that the page belongs to.
    section: &'static str,
    /// How often the script reads the page again, ms; 0: not.
    live_ms: u32,
    /// When it was read.
    now: Timestamp,
}

impl Shell {
    fn new(title: impl Into<String>, section: &'static str, live_ms: u32) -> Self {
        Self { title: title.into(), section, live_ms, now: Timestamp::now() }
    }

    fn read_at(&self) -> String {
        text::moment(self.now)
    }
}

fn render(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("the page cannot be made: {error}\n")).into_response(),
    }
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    shell: Shell,
    text: &'a str,
}

fn message(code: StatusCode, title: &str, text: &str) -> Response {
    (code, render(&Message { shell: Shell::new(title, "", 0), text })).into_response()
}

fn not_found(text: &str) -> Response {
    message(StatusCode::NOT_FOUND, "Not found", text)
}

fn bad_request(text: &str) -> Response {
    message(StatusCode::BAD_REQUEST, "That cannot be read", text)
}

/// A name of somebody else, as pages show and link it.
#[derive(Clone, Debug)]
struct Name {
    text: String,
    href: String,
}

impl Name {
    fn asset(asset: &str) -> Self {
        Self { text: text::visible(asset), href: format!("/asset?{}", text::query(&[("name", asset)])) }
    }

    fn sensor(asset: &str, sensor: &str) -> Self {
        let query = text::query(&[("asset", asset), ("sensor", sensor)]);
        Self { text: text::visible(sensor), href: format!("/sensor?{query}") }
    }
}

/// A figure with its name.
#[derive(Clone, Debug)]
struct Fact {
    name: &'static str,
    value: String,
    /// What it means, or why it is not there.
    title: &'static str,
}

impl Fact {
    fn new(name: &'static str, value: impl Into<String>, title: &'static str) -> Self {
        Self { name, value: value.into(), title }
    }
}

/// A source time.
#[derive(Clone, Debug)]
struct Time {
    text: String,
    machine: String,
    age: String,
}

impl Time {
    fn new(time_ns: i64, now: Timestamp) -> Self {
        Self { text: text::time(time_ns), machine: text::machine(time_ns), age: text::age(time_ns, now) }
    }

    /// A time of this process or of Kafka in ms since the epoch; shown to the second.
    fn of_ms(time_ms: i64, now: Timestamp) -> Self {
        Self::new(time_ms.div_euclid(1_000).saturating_mul(1_000_000_000), now)
    }
}

fn quality_name(quality: Quality) -> &'static str {
    quality.name()
}
