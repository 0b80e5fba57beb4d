//! Admin and the reader of ranges against the embedded broker.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::time::{Duration, Instant};

use common::*;
use mantis_kafka::{ClientConfig, Error, NewTopic, Producer, Reader, SettingDiffers};
use mantis_pipeline::Source;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn making_a_topic_again_changes_nothing_and_tells_what_differs() {
    let broker = TestBroker::start().await;
    let admin = broker.admin();
    let topic = |partitions, bytes: &str| NewTopic {
        name: TOPIC.into(),
        partitions,
        settings: vec![("max.message.bytes".into(), bytes.into()), ("cleanup.policy".into(), "delete".into())],
    };
    let made = admin.create_topics(&[topic(3, "1000000")]).await.unwrap();
    assert!(made[0].made && made[0].differs.is_empty());
    let same = admin.create_topics(&[topic(3, "1000000")]).await.unwrap();
    assert!(!same[0].made && same[0].differs.is_empty(), "{same:?}");
    let other = admin.create_topics(&[topic(4, "2000000")]).await.unwrap();
    let differs = |name: &str, wanted: &str, found: &str| SettingDiffers {
        name: name.into(),
        wanted: wanted.into(),
        found: Some(found.into()),
    };
    assert_eq!(other[0].differs, [differs("max.message.bytes", "2000000", "1000000"), differs("partitions", "4", "3")]);
    assert_eq!(admin.topics().await.unwrap(), [(TOPIC.to_owned(), 3)]);
    assert_eq!(admin.partitions(TOPIC).await.unwrap(), [partition(0), partition(1), partition(2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_with_a_setting_that_does_not_exist_is_refused() {
    let broker = TestBroker::start().await;
    let topic = NewTopic { name: TOPIC.into(), partitions: 1, settings: vec![("max.message.bites".into(), "1".into())] };
    let error = broker.admin().create_topics(&[topic]).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(text) if text.contains(TOPIC)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_and_lag_are_those_of_log_and_group() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 2, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    produce(&producer, TOPIC, 0, 0..100).await;
    let admin = broker.admin();
    admin.delete_records(&partition(0), 30).await.unwrap();
    assert_eq!(admin.watermarks(&partition(0)).await.unwrap(), (30, 100));
    let mut ends = admin.log_ends(&[partition(0), partition(1)]).await.unwrap();
    ends.sort();
    assert_eq!(ends, [(partition(0), 100), (partition(1), 0)]);

    let mut consumer = joined(&broker, "g").await;
    consumer.commit(&[(partition(0), 40)]).await.unwrap();
    let lag = admin.lag("g", &[TOPIC, "no-such-topic"]).await.unwrap();
    assert_eq!((lag.len(), lag[0].committed, lag[0].records()), (2, Some(40), 60));
    assert_eq!((lag[1].committed, lag[1].records()), (None, 0));
    assert_eq!(admin.topics_of_group("g").await.unwrap(), [TOPIC]);
    let groups = admin.groups(None).await.unwrap();
    assert_eq!((groups.len(), &*groups[0].name, &*groups[0].state, groups[0].members.len()), (1, "g", "Stable", 1));
    consumer.close().await;
    assert_eq!(admin.lag("unknown", &[TOPIC]).await.unwrap()[0].records(), 70);
    assert!(!admin.cluster_id().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_does_not_exist_has_no_positions() {
    let broker = TestBroker::with(|config| config.auto_create_topics = false).await;
    broker.topic(TOPIC, 1, &[]).await;
    assert!(within("the answer", broker.admin().watermarks(&partition(9))).await.is_err());
    assert!(within("the answer", broker.admin().partitions("none")).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_brokers_that_are_away_ends_within_the_bound() {
    let admin = mantis_kafka::Admin::new(&ClientConfig::new("127.0.0.1:1")).unwrap();
    let began = Instant::now();
    let asked = partition(0);
    let (id, topics, ends) = tokio::join!(admin.cluster_id(), admin.topics(), admin.watermarks(&asked));
    assert!(id.is_err() && topics.is_err() && ends.is_err());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

async fn range(client: &ClientConfig, from: i64, to: i64) -> Result<Vec<usize>, Error> {
    let mut reader = Reader::open(client, partition(0), from, to)?;
    let mut all = Vec::new();
    while let Some(batch) = within("reading", reader.next()).await? {
        all.extend(numbers(&batch));
    }
    assert!(reader.next().await?.is_none(), "the end stays the end");
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_is_read_exactly() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 1, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    produce(&producer, TOPIC, 0, 0..30_000).await;
    let client = broker.client();
    for (from, to) in [(0, 30_000), (0, 1), (29_999, 30_000), (5, 5), (7, 3), (1_234, 23_456)] {
        let expected: Vec<_> = (from.max(0) as usize..to.max(from) as usize).collect();
        assert_eq!(range(&client, from, to).await.unwrap(), expected, "[{from}, {to})");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_that_retention_has_removed_is_an_error_that_names_it() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 1, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    produce(&producer, TOPIC, 0, 0..100).await;
    broker.admin().delete_records(&partition(0), 50).await.unwrap();
    let error = range(&broker.client(), 10, 100).await.unwrap_err();
    assert!(error.to_string().contains("readings/0"), "{error}");
}

/// Keeps out data-loss bug #24.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_ends_though_its_last_offsets_were_compacted_away() {
    let broker = TestBroker::with(|config| config.sweep_interval_ms = 50).await;
    broker.topic(TOPIC, 1, &[("cleanup.policy", "compact"), ("segment.bytes", "65536")]).await;
    let producer = Producer::new(&broker.plain()).unwrap();
    for from in (0..10_000).step_by(500) {
        produce(&producer, TOPIC, 0, from..from + 500).await;
    }
    // The range ends where records were, and nothing may be left of it.
    within("compaction", async { while !range(&broker.client(), 100, 900).await.unwrap().is_empty() {} }).await;
}
