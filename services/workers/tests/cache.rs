//! The cache worker on the embedded broker.

// A test ends at the first thing that is not as it must be, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Running, TIME_NS, TestBroker, feature, limits, status};
use mantis_schemas::{DecoderConfig, Series};
use mantis_stores::{
    cache::{
        Cache,
        memory::{CacheConfig, MemoryCache},
    },
    features::FeaturePlace,
    raw::RawPlace,
};
use mantis_workers::{
    WorkerError,
    cache::{GROUP, TOPICS, ValueDecoder, Worker},
    raw::RecordDecoder,
    sensors::SensorRegistry,
    timescale::{self, SlowDecoder},
};

fn start(broker: &TestBroker, cache: &MemoryCache) -> Running<Result<(), WorkerError>> {
    let worker = Worker {
        client: broker.client.clone(),
        cluster_id: broker.cluster_id.clone(),
        cache: cache.clone(),
        raw: RawPlace::Sqlite(broker.dir.path().join("raw.db")),
        features: FeaturePlace::Sqlite(broker.dir.path().join("features.db")),
        decoder: ValueDecoder::new(DecoderConfig::default()).unwrap(),
        limits: limits(),
        status: status(),
    };
    Running::start(|stop| worker.run(stop))
}

/// Lets the workers of the stores take what is in the log.
async fn store_all(broker: &TestBroker) {
    let raw = mantis_workers::raw::Worker {
        client: broker.client.clone(),
        cluster_id: broker.cluster_id.clone(),
        store: RawPlace::Sqlite(broker.dir.path().join("raw.db")),
        kept: mantis_workers::raw::Kept::default(),
        decoder: RecordDecoder::new(DecoderConfig::default()).unwrap(),
        limits: limits(),
        status: status(),
    };
    let features = timescale::Worker {
        client: broker.client.clone(),
        cluster_id: broker.cluster_id.clone(),
        store: FeaturePlace::Sqlite(broker.dir.path().join("features.db")),
        keep_for: None,
        decoder: SlowDecoder::new(DecoderConfig::default(), SensorRegistry::default()).unwrap(),
        limits: limits(),
        status: status(),
    };
    let (raw, features) = (Running::start(|stop| raw.run(stop)), Running::start(|stop| features.run(stop)));
    broker.wait_for(mantis_workers::raw::GROUP, &TOPICS[1..]).await;
    broker.wait_for(timescale::GROUP, &timescale::TOPICS).await;
    raw.stop().await.unwrap();
    features.stop().await.unwrap();
}

async fn reading(cache: &MemoryCache, sensor: &str) -> Option<(i64, f64)> {
    let series = Series { asset: "pump".into(), sensor: sensor.into() };
    cache.reading(&series).await.unwrap().map(|reading| (reading.time_ns, reading.value))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_latest_is_in_the_cache_and_comes_back_from_the_stores_after_a_restart() {
    let broker = TestBroker::start().await;
    broker.send_readings(&[("temp", TIME_NS + 5, 2.0), ("temp", TIME_NS, 1.0), ("flow", TIME_NS, 7.0)]).await;
    broker.send_features(&[("temp", &feature(1, 4)), ("temp", &feature(0, 9))]).await;
    let cache = MemoryCache::new(CacheConfig::default());
    let worker = start(&broker, &cache);
    broker.wait_for(GROUP, &TOPICS).await;
    worker.stop().await.unwrap();
    assert_eq!(reading(&cache, "temp").await, Some((TIME_NS + 5, 2.0)));
    let temp = Series { asset: "pump".into(), sensor: "temp".into() };
    assert_eq!(cache.features(&temp).await.unwrap(), [feature(1, 4)]);

    store_all(&broker).await;
    // Late, and newer than what the stores have.
    broker.send_readings(&[("temp", TIME_NS + 1, 0.0), ("flow", TIME_NS + 9, 8.0)]).await;
    let cache = MemoryCache::new(CacheConfig::default());
    let worker = start(&broker, &cache);
    broker.wait_for(GROUP, &TOPICS).await;
    worker.stop().await.unwrap();
    assert_eq!(reading(&cache, "temp").await, Some((TIME_NS + 5, 2.0)), "from the raw store");
    assert_eq!(reading(&cache, "flow").await, Some((TIME_NS + 9, 8.0)), "from the log");
    assert_eq!(cache.features(&temp).await.unwrap(), [feature(1, 4)], "from the feature store");
    broker.stop().await;
}
