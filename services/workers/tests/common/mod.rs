//! A broker of its own per test, and records for it.

// Each test file uses its own part of this.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

use std::{future::Future, sync::Arc, time::Duration};

use mantis_broker::Broker;
use mantis_kafka::{Admin, ClientConfig, NewTopic, OutRecord, Producer};
use mantis_pipeline::{Header, Limits, Shutdown, Status, TopicPartition};
use mantis_schemas::{Feature, Quality, Reading, encode, topics};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};

/// Longest that anything here may take.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

pub struct TestBroker {
    pub client: ClientConfig,
    pub cluster_id: String,
    pub dir: TempDir,
    stop: Shutdown,
    task: JoinHandle<()>,
}

impl TestBroker {
    /// A broker with the topics of readings and features, of one partition each.
    pub async fn start() -> Self {
        let names = [topics::READINGS, topics::FEATURES];
        let all: Vec<_> = names.iter().flat_map(|topic| [(*topic).to_owned(), topics::dead_letter(topic)]).collect();
        Self::with(&all.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// A broker with these topics, of one partition each, and no others.
    pub async fn with(topics: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = mantis_broker::Config::new(dir.path().join("broker"));
        config.min_free_bytes = 0;
        config.auto_create_topics = false;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = ClientConfig::new(listener.local_addr().unwrap().to_string());
        let broker = Broker::open(config).await.unwrap();
        let stop = Shutdown::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move { broker.serve(listener, stopped).await.unwrap() });
        let cluster_id = Admin::new(&client).unwrap().cluster_id().await.unwrap();
        let broker = Self { client, cluster_id, dir, stop, task };
        broker.create(topics).await;
        broker
    }

    /// Makes topics of one partition each.
    pub async fn create(&self, topics: &[&str]) {
        let topic = |name: &&str| NewTopic { name: (*name).to_owned(), partitions: 1, settings: Vec::new() };
        Admin::new(&self.client).unwrap().create_topics(&topics.iter().map(topic).collect::<Vec<_>>()).await.unwrap();
    }

    /// Sends a payload to a topic, acknowledged.
    pub async fn send(&self, topic: &str, payload: Vec<u8>) {
        self.send_with(topic, payload, Vec::new()).await;
    }

    /// Sends a payload with headers.
    pub async fn send_with(&self, topic: &str, payload: Vec<u8>, headers: Vec<Header>) {
        let producer = Producer::new(&self.client).unwrap();
        let record = OutRecord {
            topic: topic.into(),
            partition: Some(0),
            key: Some(b"pump".to_vec()),
            payload: Some(payload),
            headers,
            ..OutRecord::default()
        };
        for sent in producer.send_all(&[record]).await {
            sent.unwrap();
        }
    }

    pub async fn send_readings(&self, rows: &[(&str, i64, f64)]) {
        let rows: Vec<_> = rows
            .iter()
            .map(|(sensor, time_ns, value)| Reading {
                sensor,
                time_ns: *time_ns,
                value: *value,
                quality: Quality::Good,
                seq: None,
            })
            .collect();
        let mut payload = Vec::new();
        encode::avro::readings(&mut payload, "pump", &rows);
        self.send(topics::READINGS, payload).await;
    }

    pub async fn send_features(&self, rows: &[(&str, &Feature)]) {
        let mut payload = Vec::new();
        encode::avro::features(&mut payload, "pump", rows.iter().copied());
        self.send(topics::FEATURES, payload).await;
    }

    /// Records of a topic's only partition.
    pub async fn log_end(&self, topic: &str) -> i64 {
        Admin::new(&self.client).unwrap().watermarks(&TopicPartition::new(topic, 0)).await.unwrap().1
    }

    /// Waits until the group has committed all that is in the topics.
    pub async fn wait_for(&self, group: &str, topics: &[&str]) {
        let admin = Admin::new(&self.client).unwrap();
        wait_until(group, async || {
            let lags = admin.lag(group, topics).await.unwrap();
            lags.len() == topics.len() && lags.iter().all(|lag| lag.committed.unwrap_or(0) == lag.log_end)
        })
        .await;
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// A worker that runs until it is stopped.
pub struct Running<T> {
    stop: Shutdown,
    task: JoinHandle<T>,
}

impl<T: Send + 'static> Running<T> {
    pub fn start<F: Future<Output = T> + Send + 'static>(run: impl FnOnce(Shutdown) -> F) -> Self {
        let stop = Shutdown::new();
        Self { task: tokio::spawn(run(stop.clone())), stop }
    }

    pub async fn stop(self) -> T {
        self.stop.cancel();
        timeout(DEADLINE, self.task).await.unwrap().unwrap()
    }
}

/// Polls until the condition holds.
pub async fn wait_until(what: &str, condition: impl AsyncFn() -> bool) {
    let holds = async {
        while !condition().await {
            tokio::time::sleep(POLL).await;
        }
    };
    timeout(DEADLINE, holds).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"));
}

/// Bounds of a road that writes and commits soon.
pub fn limits() -> Limits {
    Limits { linger_ms: 1, commit_interval_ms: 20, ..Limits::default() }
}

pub fn status() -> Arc<Status> {
    Arc::new(Status::default())
}

/// A time that decoders accept.
pub const TIME_NS: i64 = 1_700_000_000_000_000_000;

pub fn feature(window: i64, count: i64) -> Feature {
    let window_ns = 10_000_000_000;
    let start_ns = TIME_NS + window * window_ns;
    Feature { window_ns, start_ns, end_ns: start_ns + window_ns, version: 1, count, exact: true, ..Feature::default() }
}
