//! The timescale worker on the embedded broker.

// A test ends at the first thing that is not as it must be, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::PathBuf;

use common::{Running, TIME_NS, TestBroker, feature, limits, status};
use mantis_schemas::{DecoderConfig, Series, topics};
use mantis_stores::{
    ReadingReader,
    features::{FeaturePlace, FeatureReader, sqlite::SqliteFeatureReader},
};
use mantis_workers::{
    WorkerError,
    sensors::{Declaration, SensorRegistry},
    timescale::{GROUP, SlowDecoder, TOPICS, Worker},
};

fn store(broker: &TestBroker) -> PathBuf {
    broker.dir.path().join("features.db")
}

fn start(broker: &TestBroker) -> Running<Result<(), WorkerError>> {
    let declarations: Vec<Declaration> =
        ["asset = 'pump'\nsensor = 'temp'\nrate_hz = 1", "asset = '*'\nsensor = 'current'\nrate_hz = 1000"]
            .map(|toml| toml::from_str(toml).unwrap())
            .into();
    let sensors = SensorRegistry::new(declarations).unwrap();
    let worker = Worker {
        client: broker.client.clone(),
        cluster_id: broker.cluster_id.clone(),
        store: FeaturePlace::Sqlite(store(broker)),
        keep_for: None,
        decoder: SlowDecoder::new(DecoderConfig::default(), sensors).unwrap(),
        limits: limits(),
        status: status(),
    };
    Running::start(|stop| worker.run(stop))
}

fn series(sensor: &str) -> Series {
    Series { asset: "pump".into(), sensor: sensor.into() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn features_and_slow_readings_of_registered_sensors_come_into_the_store_and_go_on_after_a_restart() {
    let broker = TestBroker::start().await;
    broker.send_readings(&[("current", TIME_NS, 1.0), ("temp", TIME_NS, 20.5), ("unknown", TIME_NS, 3.0)]).await;
    broker.send_readings(&[("unknown", TIME_NS + 1, 4.0)]).await;
    broker.send_features(&[("current", &feature(0, 10)), ("temp", &feature(0, 5))]).await;
    broker.send(topics::FEATURES, b"no feature".to_vec()).await;
    let worker = start(&broker);
    broker.wait_for(GROUP, &TOPICS).await;
    worker.stop().await.unwrap();

    let reader = SqliteFeatureReader::open(store(&broker)).unwrap();
    let all = i64::MIN..i64::MAX;
    assert_eq!(reader.series().await.unwrap(), [series("current"), series("temp")]);
    let readings = reader.readings(&series("temp"), all.clone(), 10).await.unwrap();
    assert_eq!(readings.iter().map(|reading| (reading.time_ns, reading.value)).collect::<Vec<_>>(), [(TIME_NS, 20.5)]);
    assert!(reader.readings(&series("current"), all.clone(), 10).await.unwrap().is_empty(), "too fast for this store");
    assert_eq!(reader.latest(&series("current")).await.unwrap(), [feature(0, 10)]);
    assert_eq!(broker.log_end(&topics::dead_letter(topics::FEATURES)).await, 1);
    assert_eq!(broker.log_end(&topics::dead_letter(topics::READINGS)).await, 0, "what is not of this store is no dead letter");

    // A revision of the first window, what it was before, and the next window.
    broker.send_features(&[("temp", &feature(0, 7)), ("temp", &feature(0, 5)), ("temp", &feature(1, 2))]).await;
    let worker = start(&broker);
    broker.wait_for(GROUP, &TOPICS).await;
    worker.stop().await.unwrap();
    let rows = reader.features(&series("temp"), feature(0, 0).window_ns, all, 10).await.unwrap();
    assert_eq!(rows, [feature(0, 7), feature(1, 2)]);
    let ledger = reader.ledger(&broker.cluster_id, GROUP).await.unwrap();
    assert_eq!(ledger, [(topics::FEATURES.to_owned(), 0, 3), (topics::READINGS.to_owned(), 0, 2)]);
    assert_eq!(broker.log_end(&topics::dead_letter(topics::FEATURES)).await, 1);
    broker.stop().await;
}
