//! A broker of its own per test, and a consumer driven by hand.
#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::{collections::BTreeMap, future::Future, net::SocketAddr, time::Duration};

use mantis_broker::{Broker, Config};
use mantis_kafka::{Admin, ClientConfig, Consumer, ConsumerConfig, MessageBatch, NewTopic, OutRecord, Producer};
use mantis_pipeline::{Assigned, Event, RecordBatch, Source, SourceError, TopicPartition};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// Longest that anything here may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const TOPIC: &str = "readings";

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what} took more than {DEADLINE:?}"))
}

pub(crate) struct TestBroker {
    pub(crate) address: SocketAddr,
    pub(crate) dir: TempDir,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl TestBroker {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path());
        config.min_free_bytes = 0;
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let broker = Broker::open(config).await.unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move { broker.serve(listener, stopped).await.unwrap() });
        Self { address, dir, stop, task }
    }

    pub(crate) fn client(&self) -> ClientConfig {
        ClientConfig::new(self.address.to_string())
    }

    /// A client whose records take their room: not compressed.
    pub(crate) fn plain(&self) -> ClientConfig {
        let mut client = self.client();
        client.properties.insert("compression.type".into(), "none".into());
        client
    }

    pub(crate) fn admin(&self) -> Admin {
        Admin::new(&self.client()).unwrap()
    }

    pub(crate) async fn topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        self.admin().create_topics(&[NewTopic { name: name.into(), partitions, settings }]).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

pub(crate) fn record(topic: &str, partition: i32, number: usize) -> OutRecord {
    OutRecord {
        topic: topic.into(),
        partition: Some(partition),
        key: Some(format!("asset-{partition}").into_bytes()),
        payload: Some(number.to_string().into_bytes()),
        ..OutRecord::default()
    }
}

/// Sends the numbers `from..to` to the partition; their offsets are the numbers if the partition was empty.
pub(crate) async fn produce(producer: &Producer, topic: &str, partition: i32, numbers: std::ops::Range<usize>) {
    let records: Vec<_> = numbers.map(|number| record(topic, partition, number)).collect();
    for result in within("producing", producer.send_all(&records)).await {
        result.unwrap();
    }
}

pub(crate) fn partition(number: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, number)
}

pub(crate) fn group(name: &str) -> ConsumerConfig {
    ConsumerConfig { session_timeout_ms: 6_000, heartbeat_ms: 100, ..ConsumerConfig::new(name, [TOPIC]) }
}

pub(crate) fn join(broker: &TestBroker, name: &str) -> Consumer {
    Consumer::new(&broker.client(), &group(name)).unwrap()
}

pub(crate) async fn next(consumer: &mut Consumer) -> Result<Event<MessageBatch>, SourceError> {
    within("the next event", consumer.next()).await
}

/// The next assignment of something, which must come before anything else.
pub(crate) async fn assigned(consumer: &mut Consumer) -> Vec<Assigned> {
    loop {
        match next(consumer).await {
            Ok(Event::Assigned(assigned)) if assigned.is_empty() => {}
            Ok(Event::Assigned(assigned)) => return assigned,
            other => panic!("not an assignment: {other:?}"),
        }
    }
}

/// Starts what was assigned at the committed offsets, else at the log's start.
pub(crate) async fn start(consumer: &mut Consumer, assigned: &[Assigned]) {
    let at: Vec<_> =
        assigned.iter().map(|a| (a.partition.clone(), a.committed.unwrap_or(a.log_start).max(a.log_start))).collect();
    consumer.start(&at).await.unwrap();
}

pub(crate) async fn joined(broker: &TestBroker, name: &str) -> Consumer {
    let mut consumer = join(broker, name);
    let assigned = assigned(&mut consumer).await;
    start(&mut consumer, &assigned).await;
    consumer
}

pub(crate) fn numbers(batch: &MessageBatch) -> Vec<usize> {
    (0..batch.len()).map(|index| std::str::from_utf8(batch.record(index).payload.unwrap()).unwrap().parse().unwrap()).collect()
}

/// Reads until `count` records came, and returns their numbers by partition.
pub(crate) async fn read(consumer: &mut Consumer, count: usize) -> BTreeMap<i32, Vec<usize>> {
    let mut found: BTreeMap<i32, Vec<usize>> = BTreeMap::new();
    let mut left = count;
    while left > 0 {
        match next(consumer).await {
            Ok(Event::Records(batch)) => {
                left = left.checked_sub(batch.len()).unwrap_or_else(|| panic!("more records than {count}"));
                found.entry(batch.partition().partition).or_default().extend(numbers(&batch));
            }
            other => panic!("not records: {other:?}"),
        }
    }
    found
}

/// That nothing comes for a while, which proves nothing but catches most of what is wrong.
pub(crate) async fn quiet(consumer: &mut Consumer) {
    if let Ok(event) = timeout(Duration::from_millis(300), consumer.next()).await {
        panic!("something came: {event:?}");
    }
}
