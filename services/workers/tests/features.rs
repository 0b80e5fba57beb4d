//! The features worker on the embedded broker: what it does at the bound of its state, and what it tells of its snapshots.

// A test ends at the first thing that is not as it must be, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{Running, TIME_NS, TestBroker, limits, status, wait_until};
use mantis_pipeline::{State, Status};
use mantis_schemas::{DecoderConfig, topics};
use mantis_workers::{
    WorkerError,
    features::{FeatureConfig, GROUP, TOPICS, Watch, Worker},
    raw::RecordDecoder,
    sensors::SensorRegistry,
};

const SECOND_NS: i64 = 1_000_000_000;
const ROOM: usize = 1 << 30;
/// Less than twenty sensors take.
const NO_ROOM: usize = 5_000;
const SENSORS: [&str; 20] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"];

struct Features {
    running: Running<Result<(), WorkerError>>,
    watch: Watch,
    status: Arc<Status>,
}

impl Features {
    fn start(broker: &TestBroker, state_bytes_max: usize) -> Self {
        let (watch, status) = (Watch::new(state_bytes_max), status());
        let worker = Worker {
            client: broker.client.clone(),
            cluster_id: broker.cluster_id.clone(),
            config: FeatureConfig::default(),
            sensors: SensorRegistry::default(),
            watch: watch.clone(),
            decoder: RecordDecoder::new(DecoderConfig::default()).unwrap(),
            limits: limits(),
            status: status.clone(),
        };
        Self { running: Running::start(|stop| worker.run(stop)), watch, status }
    }

    /// What it says of the trouble at a place.
    fn trouble(&self, place: &str) -> Option<String> {
        self.status.snapshot().troubles.get(place).map(|trouble| trouble.error.clone())
    }

    async fn until_in_trouble(&self, place: &str) -> String {
        wait_until(place, async || self.trouble(place).is_some()).await;
        self.trouble(place).unwrap()
    }
}

/// A reading of each sensor.
async fn send_second(broker: &TestBroker, second: i64) {
    let rows = SENSORS.map(|sensor| (sensor, TIME_NS + second * SECOND_NS, second as f64));
    broker.send_readings(&rows).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_whose_state_has_reached_its_bound_takes_no_more_and_loses_nothing() {
    let broker = TestBroker::with(&[topics::READINGS, topics::WAVEFORMS, topics::FEATURES, topics::FEATURE_STATE]).await;
    let worker = Features::start(&broker, NO_ROOM);
    send_second(&broker, 0).await;
    broker.wait_for(GROUP, &TOPICS).await;
    let held = worker.watch.state();
    assert_eq!((held.size.sensors, held.size.samples), (20, 20));
    assert!(held.size.bytes > held.bytes_max && held.bytes_max == NO_ROOM, "{held:?}");
    send_second(&broker, 1).await;
    let trouble = worker.until_in_trouble("mantis.readings#0").await;
    assert!(trouble.contains("20 sensors") && trouble.contains("features.state_bytes_max is 5000"), "{trouble}");
    assert_eq!(worker.status.snapshot().state, State::Retrying);
    assert_eq!((worker.watch.state().size, worker.watch.counts().readings), (held.size, 20));
    worker.running.stop().await.unwrap();

    let worker = Features::start(&broker, NO_ROOM);
    let trouble = worker.until_in_trouble("start").await;
    assert!(trouble.contains("features.state_bytes_max is 5000"), "a state that does not fit is not loaded: {trouble}");
    assert_eq!(worker.watch.state().size.sensors, 0);
    worker.running.stop().await.unwrap();

    let worker = Features::start(&broker, ROOM);
    broker.wait_for(GROUP, &TOPICS).await;
    assert_eq!((worker.watch.state().size.samples, worker.watch.counts().readings), (40, 20));
    worker.running.stop().await.unwrap();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_cannot_be_written_is_told_until_one_was() {
    // Without the topic of features no row is acknowledged, and no snapshot may cover it.
    let broker = TestBroker::with(&[topics::READINGS, topics::WAVEFORMS, topics::FEATURE_STATE]).await;
    let worker = Features::start(&broker, ROOM);
    send_second(&broker, 0).await;
    send_second(&broker, 20).await;
    let place = "snapshot of mantis.readings/0";
    let trouble = worker.until_in_trouble(place).await;
    assert!(trouble.contains("mantis.features takes no rows"), "{trouble}");
    let told = worker.watch.state();
    // One of the first record alone, before any row was due, is as it should be.
    assert!(told.snapshots_failed > 0 && told.snapshots.iter().all(|snapshot| snapshot.offset <= 1), "{told:?}");
    let written_before = told.snapshots_written;

    broker.create(&[topics::FEATURES]).await;
    broker.wait_for(GROUP, &TOPICS).await;
    wait_until("the trouble is over", async || worker.trouble(place).is_none()).await;
    let told = worker.watch.state();
    assert!(told.snapshots_written > written_before, "{told:?}");
    let [snapshot] = told.snapshots[..] else { panic!("{told:?}") };
    assert_eq!((snapshot.partition, snapshot.offset), (0, broker.log_end(topics::READINGS).await));
    worker.running.stop().await.unwrap();

    let worker = Features::start(&broker, ROOM);
    let loaded = || worker.watch.state().snapshots.first().copied();
    wait_until("the snapshot is loaded", async || loaded().is_some()).await;
    let found = loaded().unwrap();
    assert_eq!(found.offset, snapshot.offset);
    assert!((found.written_ms - snapshot.written_ms).abs() < 60_000, "{found:?}");
    worker.running.stop().await.unwrap();
    broker.stop().await;
}
