//! A site with embedded stores in a folder of its own, and a browser without a screen: requests to the routes.

// Each test file uses its own part of this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use jiff::Timestamp;
use mantis_console::{
    Declared, Irregular, Site, Topic, Worker, WorkerState,
    letters::{Filter, Letters, Listing, Order, RECORDS_SHOWN_MAX, Refusal, RefusedRecord, Sent, Whole, WholeRefusal},
    routes,
};
use mantis_kafka::{
    dead_letter::{Origin, Why},
    letters::Place,
};
use mantis_pipeline::{Assigned, Columns, Fault, Header, Outcome, Part, Sink, Span, TopicPartition};
use mantis_schemas::{
    Feature, FeatureColumns, Figure, Frame, FrameColumns, Quality, ReadingColumns, SampleFormat, Series, SeriesInterner,
};
use mantis_stores::{
    ReadingReader, ValueColumns,
    cache::memory::{CacheConfig, MemoryCache},
    features::sqlite::{SqliteFeatureReader, SqliteFeatures},
    raw::{
        RawColumns, RawReader, StoredFrame, StoredReading,
        sqlite::{LedgerIdentity, SqliteConfig, SqliteRaw, SqliteRawReader},
    },
};
use tempfile::TempDir;
use tower::ServiceExt;

/// 2026-09-01T00:00:00Z
pub const MORNING_NS: i64 = 1_788_220_800_000_000_000;
pub const SECOND_NS: i64 = 1_000_000_000;
const BODY_BYTES_MAX: usize = 16 << 20;

/// What the tests change.
#[derive(Default)]
pub struct Switches {
    pub raw_fails: AtomicBool,
    pub features_fail: AtomicBool,
    pub raw_is_slow: AtomicBool,
    pub replayed: Mutex<Vec<Filter>>,
    pub letters: Mutex<Vec<Whole>>,
    pub has_older_letters: AtomicBool,
    pub letters_are_slow: AtomicBool,
    pub workers: Mutex<Vec<Worker>>,
}

pub struct Plant {
    folder: TempDir,
    pub switches: Arc<Switches>,
    cache: MemoryCache,
}

impl Plant {
    pub fn new() -> Self {
        let cache = MemoryCache::new(CacheConfig::default());
        Self { folder: tempfile::tempdir().unwrap(), switches: Arc::default(), cache }
    }

    pub async fn with_readings(self, rows: &[(&str, &str, i64, f64, Quality)]) -> Self {
        let mut interner = SeriesInterner::new(100_000);
        let mut columns = ReadingColumns::default();
        for (asset, sensor, time_ns, value, quality) in rows {
            columns.series.push(interner.intern(asset, sensor).unwrap());
            columns.time_ns.push(*time_ns);
            columns.value.push(*value);
            columns.quality.push(*quality);
            columns.arrival_ms.push(time_ns / 1_000_000 + 250);
        }
        self.write_raw(interner, RawColumns::Readings(columns)).await
    }

    pub async fn with_frame(self, asset: &str, sensor: &str, samples: &[f64], sample_rate_hz: f64) -> Self {
        let mut interner = SeriesInterner::new(10);
        let samples: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let mut columns = FrameColumns::default();
        columns.push(Frame {
            series: interner.intern(asset, sensor).unwrap(),
            start_ns: MORNING_NS,
            sample_rate_hz,
            format: SampleFormat::F64,
            scale: 1.0,
            quality: Quality::Good,
            arrival_ms: MORNING_NS / 1_000_000,
            samples: &samples,
        });
        self.write_raw(interner, RawColumns::Frames(columns)).await
    }

    async fn write_raw(self, interner: SeriesInterner, columns: RawColumns) -> Self {
        let identity = LedgerIdentity { cluster_id: "test".into(), group: "raw".into() };
        let path = self.folder.path().join("raw.db");
        let sink = SqliteRaw::open(path, interner.table(), identity, SqliteConfig::default()).unwrap();
        write(&sink, columns).await;
        self
    }

    pub async fn with_features(self, rows: &[(&str, &str, Feature)]) -> Self {
        let mut interner = SeriesInterner::new(100);
        let mut columns = FeatureColumns::default();
        for (asset, sensor, feature) in rows {
            columns.push(interner.intern(asset, sensor).unwrap(), feature.clone());
        }
        let identity = LedgerIdentity { cluster_id: "test".into(), group: "features".into() };
        let path = self.folder.path().join("features.db");
        let sink = SqliteFeatures::open(path, interner.table(), identity, SqliteConfig::default()).unwrap();
        write(&sink, ValueColumns::Features(columns)).await;
        self
    }

    pub fn browser(self) -> Browser {
        Browser { switches: self.switches.clone(), routes: routes(Arc::new(self)) }
    }
}

async fn write<S: Sink>(sink: &S, columns: S::Columns) {
    let partition = TopicPartition::new("topic", 0);
    let assigned = Assigned { partition: partition.clone(), committed: None, log_start: 0, log_end: 1 << 40 };
    sink.start(std::slice::from_ref(&assigned)).await.unwrap();
    // A second batch into the same file goes on where the ledger is.
    let from = match sink.start(&[assigned]).await.unwrap()[..] {
        [mantis_pipeline::Start::At(next)] => next,
        _ => 0,
    };
    let spans = [Span { partition, from, next: from + 1 }];
    let rows = columns.rows();
    let outcome = sink.write(Part { columns: &columns, rows: 0..rows, spans: &spans, last: true }).await.unwrap();
    assert!(matches!(&outcome, Outcome::Ended { rejected, .. } if rejected.is_empty()), "{outcome:?}");
}

/// A feature of a window of a minute.
pub fn minute(minute: i64, mean: Option<f64>, provisional: bool) -> Feature {
    let start_ns = MORNING_NS + minute * 60 * SECOND_NS;
    let mut feature = Feature {
        window_ns: 60 * SECOND_NS,
        start_ns,
        end_ns: start_ns + 60 * SECOND_NS,
        version: 1,
        count: 60,
        bad: 2,
        coverage: Some(0.975),
        exact: true,
        provisional,
        ..Feature::default()
    };
    feature.figures.set(Figure::Mean, mean);
    feature
}

/// A record of `mantis.readings` at this offset that the raw worker refused.
pub fn letter(offset: i64, payload: &[u8]) -> Whole {
    let origin = Origin {
        group: "mantis-raw".into(),
        partition: TopicPartition::new("mantis.readings", 0),
        offset,
        timestamp_ms: Some(1),
        reason: Some(Why { code: "broken-json".into(), detail: "<b>not</b> JSON \u{202e}".into() }),
        rows: Vec::new(),
        replayed_ms: None,
    };
    Whole {
        position: Place { partition: origin.partition.clone(), offset },
        key: None,
        payload: Some(payload.to_vec()),
        headers: vec![Header { key: "traceparent".into(), value: Some(b"<script>".to_vec()) }],
        letters: vec![WholeRefusal { origin, replayed_ms: None, written_ms: Some(offset) }],
    }
}

/// What a list says of a record.
fn listed(whole: &Whole) -> RefusedRecord {
    let place = Place { partition: TopicPartition::new("mantis.readings.dlq", 0), offset: 0 };
    let refusal = |letter: &WholeRefusal| Refusal::new(&letter.origin, place.clone(), letter.written_ms);
    RefusedRecord {
        position: whole.position.clone(),
        timestamp_ms: None,
        payload_bytes: whole.payload.as_ref().map_or(0, Vec::len),
        refusals: whole.letters.iter().map(refusal).collect(),
    }
}

/// A worker in some state.
pub fn worker(name: &str, state: WorkerState) -> Worker {
    Worker {
        name: name.into(),
        group: format!("mantis-{name}"),
        state,
        since: Timestamp::now(),
        troubles: Vec::new(),
        last_error: None,
        last_commit: None,
        topics: vec![Topic {
            topic: "mantis.readings".into(),
            lag: Some(12_345),
            rows: 1_000_000,
            rows_per_s: 432.1,
            ..Topic::default()
        }],
    }
}

impl Site for Plant {
    type Raw = Raw;
    type Features = SqliteFeatureReader;
    type Cache = MemoryCache;
    type Letters = Shelf;

    fn raw(&self) -> Result<Option<Raw>, String> {
        let path = self.folder.path().join("raw.db");
        Ok(path.exists().then(|| Raw { store: SqliteRawReader::open(path).unwrap(), switches: self.switches.clone() }))
    }

    fn features(&self) -> Result<Option<SqliteFeatureReader>, String> {
        if self.switches.features_fail.load(Ordering::Relaxed) {
            return Err("features.db is damaged: <move it away>".into());
        }
        let path = self.folder.path().join("features.db");
        Ok(path.exists().then(|| SqliteFeatureReader::open(path).unwrap()))
    }

    fn cache(&self) -> Option<MemoryCache> {
        Some(self.cache.clone())
    }

    fn letters(&self) -> Shelf {
        Shelf(self.switches.clone())
    }

    async fn workers(&self) -> Vec<Worker> {
        self.switches.workers.lock().unwrap().clone()
    }

    fn missing(&self) -> Vec<String> {
        let workers = self.switches.workers.lock().unwrap();
        let stopped = workers.iter().filter(|worker| worker.state == WorkerState::Stopped);
        stopped.map(|worker| format!("the {} worker has stopped: <disk>", worker.name)).collect()
    }

    fn declared(&self, series: &Series) -> Declared {
        Declared { unit: (&*series.sensor == "flow").then(|| "m3/h".to_owned()), ..Declared::default() }
    }

    async fn irregular(&self, _: &Series) -> Option<Irregular> {
        Some(Irregular { duplicates: 17, conflicts: 0, late: 4, misplaced: true })
    }

    fn brokers(&self) -> String {
        "127.0.0.1:9092".into()
    }
}

/// The raw store, which can be made to fail or never to answer.
#[derive(Clone)]
pub struct Raw {
    store: SqliteRawReader,
    switches: Arc<Switches>,
}

impl Raw {
    async fn gate(&self) -> Result<(), Fault> {
        if self.switches.raw_is_slow.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        match self.switches.raw_fails.load(Ordering::Relaxed) {
            true => Err(Fault::retry("raw.db cannot be used now: check <the disk>")),
            false => Ok(()),
        }
    }
}

impl ReadingReader for Raw {
    async fn series(&self) -> Result<Vec<Series>, Fault> {
        self.store.series().await
    }

    async fn readings(&self, series: &Series, time_ns: std::ops::Range<i64>, limit: usize) -> Result<Vec<StoredReading>, Fault> {
        self.gate().await?;
        self.store.readings(series, time_ns, limit).await
    }

    async fn ledger(&self, cluster_id: &str, group: &str) -> Result<Vec<(String, i32, i64)>, Fault> {
        self.store.ledger(cluster_id, group).await
    }

    async fn retained_from(&self) -> Result<Option<i64>, Fault> {
        self.store.retained_from().await
    }
}

impl RawReader for Raw {
    async fn newest_readings(&self, after: Option<&Series>, limit: usize) -> Result<Vec<(Series, StoredReading)>, Fault> {
        self.gate().await?;
        self.store.newest_readings(after, limit).await
    }

    async fn newest_reading(&self, series: &Series) -> Result<Option<StoredReading>, Fault> {
        self.gate().await?;
        self.store.newest_reading(series).await
    }

    async fn newest_frame(&self, series: &Series) -> Result<Option<StoredFrame>, Fault> {
        self.gate().await?;
        self.store.newest_frame(series).await
    }

    async fn frames(&self, series: &Series, start_ns: std::ops::Range<i64>, limit: usize) -> Result<Vec<StoredFrame>, Fault> {
        self.gate().await?;
        self.store.frames(series, start_ns, limit).await
    }
}

/// Letters in memory.
#[derive(Clone)]
pub struct Shelf(Arc<Switches>);

impl Shelf {
    fn wanted(&self, filter: &Filter) -> Vec<Whole> {
        let letters = self.0.letters.lock().unwrap();
        let position = |whole: &&Whole| filter.position.as_ref().is_none_or(|asked| *asked == whole.position.to_string());
        let wanted = letters.iter().filter(position);
        wanted.cloned().collect()
    }
}

impl Letters for Shelf {
    async fn list(&self, filter: Filter) -> Result<Listing, String> {
        if self.0.letters_are_slow.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let found = self.wanted(&filter);
        let records = found.iter().take(RECORDS_SHOWN_MAX).map(listed).collect();
        let more_from = self.0.has_older_letters.load(Ordering::Relaxed).then(|| "mantis.events.dlq/0/7".parse().unwrap());
        Ok(Listing { records, order: Order::NewestFirst, found: found.len(), more_from })
    }

    async fn show(&self, position: String) -> Result<Option<Whole>, String> {
        Ok(self.wanted(&Filter { position: Some(position), ..Filter::default() }).pop())
    }

    async fn replay(&self, filter: Filter) -> Result<Sent, String> {
        let replayed = self.wanted(&filter).len() as u64;
        self.0.replayed.lock().unwrap().push(filter);
        Ok(Sent { replayed, ..Sent::default() })
    }
}

/// Asks for pages.
pub struct Browser {
    routes: Router,
    pub switches: Arc<Switches>,
}

impl Browser {
    /// A page with its status code and headers.
    pub async fn ask(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        let response = self.routes.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.unwrap();
        (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    /// A page that must be there.
    pub async fn page(&self, path: &str) -> String {
        let (status, headers, body) = self.ask(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(status, StatusCode::OK, "{path}\n{body}");
        assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"), "{path}");
        assert_well_formed(path, &body);
        body
    }

    pub async fn status(&self, path: &str) -> StatusCode {
        self.ask(Request::get(path).body(Body::empty()).unwrap()).await.0
    }

    /// Sends a form as a page of `origin` would.
    pub async fn post(&self, path: &str, origin: &str, form: &str) -> (StatusCode, String) {
        let request = Request::post(path)
            .header("host", "127.0.0.1:9464")
            .header("origin", origin)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()))
            .unwrap();
        let (status, _, body) = self.ask(request).await;
        (status, body)
    }
}

/// Every page opens and closes its elements in order, has one heading of the first rank, and nothing that the policy refuses.
fn assert_well_formed(path: &str, html: &str) {
    const VOID: [&str; 6] = ["meta", "link", "input", "br", "hr", "!doctype"];
    let mut open = Vec::new();
    for tag in html.split('<').skip(1) {
        let tag = tag.split('>').next().unwrap();
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "{path}: </{name}> closes something else");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{path}: {open:?} stay open");
    assert_eq!(html.matches("<h1").count(), 1, "{path}");
    assert!(!html.contains(" style=") && !html.contains(" onclick="), "{path}");
    assert!(!html.contains("http://") && !html.contains("https://"), "{path} takes something from elsewhere");
}
