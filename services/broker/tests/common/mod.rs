//! A broker per test, in this process or in one that can be killed, and the clients' settings that the tests share.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
#![allow(dead_code, reason = "every test file uses its own part")]

use std::{
    env,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use mantis_broker::{Broker, Config};
use rdkafka::{
    ClientConfig, ClientContext, Message, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext},
};
use tokio::{net::TcpListener, runtime::Runtime, sync::oneshot};
use tokio_util::sync::CancellationToken;

/// No single wait in these tests takes longer on a machine that is not broken.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A broker in this process; stopped gracefully when dropped.
pub(crate) struct TestBroker {
    pub(crate) address: SocketAddr,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl TestBroker {
    pub(crate) fn start(config: Config) -> TestBroker {
        TestBroker::start_on(config, "127.0.0.1:0")
    }

    pub(crate) fn start_on(config: Config, address: &str) -> TestBroker {
        let (started, address_of) = oneshot::channel();
        let shutdown = CancellationToken::new();
        let (stop, address) = (shutdown.clone(), address.to_owned());
        let thread = std::thread::spawn(move || {
            Runtime::new().unwrap().block_on(async move {
                let broker = Broker::open(config).await.unwrap();
                let listener = TcpListener::bind(&address).await.unwrap();
                started.send(listener.local_addr().unwrap()).unwrap();
                broker.serve(listener, stop).await.unwrap();
            });
        });
        TestBroker { address: address_of.blocking_recv().unwrap(), shutdown, thread: Some(thread) }
    }

    pub(crate) fn servers(&self) -> String {
        self.address.to_string()
    }

    /// Stops it and waits until its data folder is free.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        self.end();
    }
}

/// A broker in a process of its own, which is this test binary again, running the test `a_broker_to_be_killed`.
pub(crate) struct BrokerProcess {
    child: Child,
    pub(crate) servers: String,
}

const DATA_DIR: &str = "BROKER_TEST_DATA_DIR";
const ADDRESS: &str = "BROKER_TEST_ADDRESS";
const READY: &str = "broker listens on ";

impl BrokerProcess {
    pub(crate) fn start(data_dir: &Path, address: &str) -> BrokerProcess {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "a_broker_to_be_killed", "--nocapture"])
            .env(DATA_DIR, data_dir)
            .env(ADDRESS, address)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find_map(|line| line.unwrap().split_once(READY).map(|(_, servers)| servers.to_owned()));
        BrokerProcess { child, servers: ready.expect("the broker's process ended before it was ready") }
    }

    /// Processor time that it has taken, from /proc (fields 14 and 15 of `stat`, in ticks of 10 ms).
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 10)
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The body of `a_broker_to_be_killed`: does nothing unless it was started as a broker's process.
pub(crate) fn run_as_broker_process() {
    let Ok(data_dir) = env::var(DATA_DIR) else { return };
    let address = env::var(ADDRESS).unwrap();
    Runtime::new().unwrap().block_on(async move {
        let broker = Broker::open(Config::new(data_dir)).await.unwrap();
        let listener = TcpListener::bind(address).await.unwrap();
        println!("{READY}{}", listener.local_addr().unwrap());
        broker.serve(listener, CancellationToken::new()).await.unwrap();
    });
}

/// Polls until `condition` gives something.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn client(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("reconnect.backoff.max.ms", "500");
    config
}

pub(crate) fn admin(servers: &str) -> AdminClient<DefaultClientContext> {
    client(servers).create().unwrap()
}

pub(crate) fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(DEADLINE)).request_timeout(Some(DEADLINE))
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    Runtime::new().unwrap().block_on(future)
}

pub(crate) fn create_topic(servers: &str, name: &str, partitions: i32, settings: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    for (key, value) in settings {
        topic = topic.set(key, value);
    }
    let created = block_on(admin(servers).create_topics([&topic], &options())).unwrap();
    created.into_iter().next().unwrap().unwrap();
}

/// Keeps what was acknowledged, with its offset, and what was refused.
#[derive(Default)]
pub(crate) struct Deliveries {
    pub(crate) outcomes: std::sync::Mutex<Vec<Delivery>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) payload: String,
    pub(crate) outcome: Result<(i32, i64), rdkafka::types::RDKafkaErrorCode>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let (message, outcome) = match result {
            Ok(message) => (message, Ok((message.partition(), message.offset()))),
            Err((error, message)) => (message, Err(error.rdkafka_error_code().unwrap())),
        };
        let payload = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
        self.outcomes.lock().unwrap().push(Delivery { payload, outcome });
    }
}

pub(crate) fn producer(servers: &str, settings: &[(&str, &str)]) -> BaseProducer<Deliveries> {
    let mut config = client(servers);
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create_with_context(Deliveries::default()).unwrap()
}

/// Sends all and waits until each is acknowledged or refused.
pub(crate) fn send_all(producer: &BaseProducer<Deliveries>, topic: &str, payloads: impl IntoIterator<Item = String>) {
    for payload in payloads {
        send(producer, topic, &payload);
    }
    producer.flush(DEADLINE).unwrap();
}

pub(crate) fn send(producer: &BaseProducer<Deliveries>, topic: &str, payload: &str) {
    while let Err((error, _)) = producer.send(BaseRecord::<(), str>::to(topic).payload(payload)) {
        assert_eq!(error.rdkafka_error_code(), Some(rdkafka::types::RDKafkaErrorCode::QueueFull));
        producer.poll(Duration::from_millis(10));
    }
    producer.poll(Duration::ZERO);
}

pub(crate) fn consumer(servers: &str, group: &str, settings: &[(&str, &str)]) -> BaseConsumer {
    group_config(servers, group, settings).create().unwrap()
}

pub(crate) fn group_config(servers: &str, group: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = client(servers);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "200")
        .set("fetch.error.backoff.ms", "50");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config
}

/// Everything in a topic, in the order of each partition, read without a group.
pub(crate) fn read_all(servers: &str, topic: &str, partitions: i32, count: usize) -> Vec<(i32, i64, String)> {
    let consumer: BaseConsumer = consumer(servers, "nobody", &[("enable.partition.eof", "false")]);
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, rdkafka::Offset::Beginning).unwrap();
    }
    consumer.assign(&assignment).unwrap();
    take(&consumer, count)
}

/// The next `count` records.
pub(crate) fn take<C: ConsumerContext>(consumer: &BaseConsumer<C>, count: usize) -> Vec<(i32, i64, String)> {
    let deadline = Instant::now() + DEADLINE;
    let mut records = Vec::with_capacity(count);
    while records.len() < count {
        assert!(Instant::now() < deadline, "got {} of {count} records", records.len());
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            let payload = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
            records.push((message.partition(), message.offset(), payload));
        }
    }
    records
}
