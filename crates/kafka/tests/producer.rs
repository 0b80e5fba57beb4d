//! The producer and the dead letters against the embedded broker.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::time::Duration;

use common::*;
use mantis_kafka::{
    ClientConfig, DeadLetterProducer, Error, OutRecord, Producer, Reader, dead_letter,
    letters::{self, Filter},
};
use mantis_pipeline::{DeadLetter, DeadLetters, Header, Reason, Record, RecordBatch, RowReject, TopicPartition};
use mantis_schemas::topics;
use tokio::time::timeout;

async fn everything(client: &ClientConfig, topic: &str, number: i32, to: i64) -> Vec<(Vec<Header>, Option<Vec<u8>>)> {
    let partition = mantis_pipeline::TopicPartition::new(topic, number);
    let mut reader = Reader::open(client, partition, 0, to).unwrap();
    let mut all = Vec::new();
    while let Some(batch) = within("reading", reader.next()).await.unwrap() {
        all.extend((0..batch.len()).map(|index| (batch.headers(index), batch.record(index).payload.map(<[u8]>::to_vec))));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_record_is_acknowledged_with_its_position_and_partitions_keep_their_order() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 3, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    let records: Vec<_> = (0..9_000).map(|number| record(TOPIC, number % 3, number as usize)).collect();
    let results = within("producing", producer.send_all(&records)).await;
    for (number, result) in (0..).zip(results) {
        let delivered = result.unwrap();
        assert_eq!((delivered.partition, delivered.offset), (number % 3, i64::from(number / 3)));
    }
    let single = producer.send(record(TOPIC, 1, 0)).await.unwrap();
    assert_eq!((single.partition, single.offset), (1, 3_000));
    assert!(producer.send_all(&[]).await.is_empty());
    producer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_land_where_other_kafka_clients_put_them() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 7, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    // Murmur2 as in Kafka's own tests (UtilsTest): hash, cleared of its sign, modulo the number of partitions.
    for (key, hash) in [("21", -973_932_308_i32), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536)] {
        let sent = OutRecord { topic: TOPIC.into(), key: Some(key.into()), ..OutRecord::default() };
        assert_eq!(producer.send(sent).await.unwrap().partition, (hash & i32::MAX) % 7, "{key}");
    }
    producer.close().await.unwrap();
}

/// Keeps out data-loss bug #21: a delivery report is not ignored.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_the_topic_refuses_is_reported_and_the_others_are_written() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 1, &[("max.message.bytes", "2000")]).await;
    let producer = Producer::new(&broker.plain()).unwrap();
    let mut records: Vec<_> = (0..10).map(|number| record(TOPIC, 0, number)).collect();
    records[4].payload = Some(vec![0; 5_000]);
    let results = within("producing", producer.send_all(&records)).await;
    for (index, result) in results.iter().enumerate() {
        match result {
            Ok(_) => assert_ne!(index, 4),
            Err(Error::Refused(text)) => {
                assert!(index == 4 && text.contains("5000 bytes") && text.contains(TOPIC), "{index}: {text}")
            }
            Err(error) => panic!("{index}: {error}"),
        }
    }
    assert_eq!(everything(&broker.client(), TOPIC, 0, 9).await.len(), 9);
    // More than the producer itself takes.
    let huge = OutRecord { payload: Some(vec![0; 6 << 20]), ..record(TOPIC, 0, 0) };
    assert!(matches!(producer.send(huge).await, Err(Error::Refused(_))));
    producer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_does_not_exist_is_reported() {
    let broker = TestBroker::with(|config| config.auto_create_topics = false).await;
    let mut client = broker.client();
    client.properties.insert("topic.metadata.propagation.max.ms".into(), "500".into());
    let producer = Producer::new(&client).unwrap();
    let error =
        within("the failure", producer.send(OutRecord { topic: "none".into(), ..OutRecord::default() })).await.unwrap_err();
    assert!(error.to_string().contains("none"), "{error}");
}

/// Keeps out data-loss bug #21: what was not acknowledged is an error, not a success.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_no_broker_acknowledged_is_an_error() {
    let mut client = ClientConfig::new("127.0.0.1:1");
    client.properties.insert("message.timeout.ms".into(), "500".into());
    let producer = Producer::new(&client).unwrap();
    let error = within("the failure", producer.send(record(TOPIC, 0, 0))).await.unwrap_err();
    assert!(matches!(error, Error::Unavailable(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_holds_the_sender_back_and_loses_nothing() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 1, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    // More records than the queue takes.
    let records = vec![record(TOPIC, 0, 1); 250_000];
    let results = within("producing", producer.send_all(&records)).await;
    assert!((0..).zip(results).all(|(offset, result)| result.unwrap().offset == offset));
    producer.close().await.unwrap();
}

/// Keeps out data-loss bug #21: no flush at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_handed_over_is_written_even_if_nobody_waits_any_more() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 1, &[]).await;
    let mut client = broker.client();
    client.properties.insert("linger.ms".into(), "300".into());
    let producer = Producer::new(&client).unwrap();
    let records: Vec<_> = (0..1_000).map(|number| record(TOPIC, 0, number)).collect();
    // Every record is handed over before the first wait, for an acknowledgement that lingers.
    assert!(timeout(Duration::from_millis(1), producer.send_all(&records)).await.is_err());
    within("closing", producer.close()).await.unwrap();
    assert_eq!(everything(&broker.client(), TOPIC, 0, 1_000).await.len(), 1_000);
}

/// Data-loss bugs #5, #6 and #21: a refused record stays whole in the dead letters, and finds its way back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_kept_whole_and_can_be_replayed() {
    let broker = TestBroker::start().await;
    let letters_topic = topics::dead_letter(TOPIC);
    broker.topic(TOPIC, 1, &[]).await;
    broker.topic(&letters_topic, 1, &[("max.message.bytes", "4194304")]).await;
    let letter = DeadLetter {
        partition: partition(5),
        offset: 77,
        timestamp_ms: Some(1_700_000_000_000),
        key: Some(vec![0, 255, 0]),
        payload: Some((0..=255).cycle().take(1 << 20).collect()),
        headers: vec![Header { key: "traceparent".into(), value: Some(vec![255]) }],
        reason: None,
        rows: vec![RowReject { row: 3, reason: Reason::new("not-finite", "NaN") }],
    };
    let whole = DeadLetter { offset: 78, reason: Some(Reason::new("unreadable", "no JSON")), rows: Vec::new(), ..letter.clone() };
    let producer = DeadLetterProducer::new(&broker.plain(), "mantis-raw").unwrap();
    within("sending", producer.send(&[letter.clone(), whole.clone()])).await.unwrap();
    // Sending it twice is harmless, and told apart by the position.
    producer.send(&[whole]).await.unwrap();

    let kept = everything(&broker.client(), &letters_topic, 0, 3).await;
    let origins: Vec<_> = kept.iter().map(|(headers, _)| dead_letter::origin(headers).unwrap()).collect();
    assert_eq!(origins.iter().map(|origin| origin.offset).collect::<Vec<_>>(), [77, 78, 78]);
    assert_eq!((&*origins[0].group, &origins[0].partition, origins[0].rows[0].row), ("mantis-raw", &partition(5), 3));
    assert_eq!(origins[1].reason.as_ref().unwrap().code, "unreadable");
    assert_eq!(kept[0].1, letter.payload);

    let read = Record { offset: 0, timestamp_ms: None, key: letter.key.as_deref(), payload: kept[0].1.as_deref() };
    let again = dead_letter::replay(&origins[0], &read, kept[0].0.clone());
    Producer::new(&broker.client()).unwrap().send(again).await.unwrap();
    let replayed = everything(&broker.client(), TOPIC, 0, 1).await;
    assert_eq!(replayed[0].1, letter.payload);
    let mark = Header { key: dead_letter::REPLAYED_FROM.into(), value: Some(b"readings/5/77".to_vec()) };
    assert_eq!(replayed[0].0, [letter.headers[0].clone(), mark]);
}

/// Keeps out data-loss bugs #5 and #6: a topic bounds compressed batches, so what came in below that bound may be far above it
/// for a client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_was_small_only_while_compressed_has_its_dead_letter_and_finds_its_way_back() {
    let broker = TestBroker::start().await;
    let letters_topic = topics::dead_letter(topics::READINGS);
    broker.topic(topics::READINGS, 1, &[]).await;
    broker.topic(&letters_topic, 1, &[("max.message.bytes", "4194304")]).await;
    let mut gateway = broker.client();
    // The only codec that sees a repetition at this distance.
    gateway.properties.insert("compression.type".into(), "zstd".into());
    gateway.properties.insert("message.max.bytes".into(), "40000000".into());
    let mut state = 1_u32;
    let block: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(100 << 10)
    .collect();
    let payload = block.repeat(60);
    assert!(payload.len() > 5 << 20);
    let sent = OutRecord { payload: Some(payload), ..record(topics::READINGS, 0, 0) };
    Producer::new(&gateway).unwrap().send(sent.clone()).await.unwrap();

    let letter = DeadLetter {
        partition: TopicPartition::new(topics::READINGS, 0),
        offset: 0,
        timestamp_ms: Some(0),
        key: sent.key.clone(),
        payload: sent.payload.clone(),
        headers: Vec::new(),
        reason: Some(Reason::new("broken-json", "no JSON")),
        rows: Vec::new(),
    };
    let producer = DeadLetterProducer::new(&broker.client(), "mantis-raw").unwrap();
    within("the letter", producer.send(&[letter])).await.unwrap();
    assert_eq!(everything(&broker.client(), &letters_topic, 0, 1).await[0].1, sent.payload);
    let found = letters::oldest(&broker.client(), &Filter::default(), 9).await.unwrap();
    let again = within("the replay", letters::replay(&broker.client(), &found, 1)).await.unwrap();
    assert_eq!((again.replayed, again.failed), (1, 0), "{again:?}");
    assert_eq!(everything(&broker.client(), topics::READINGS, 0, 2).await[1].1, sent.payload);
}

/// Keeps out data-loss bug #6: a dead letter that is too large for its topic is not dropped; the partition waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_its_topic_refuses_is_a_fault_that_is_tried_again() {
    let broker = TestBroker::start().await;
    broker.topic(&topics::dead_letter(TOPIC), 1, &[("max.message.bytes", "1000")]).await;
    let letter = DeadLetter {
        partition: partition(0),
        offset: 7,
        timestamp_ms: None,
        key: None,
        payload: Some(vec![1; 5_000]),
        headers: Vec::new(),
        reason: Some(Reason::new("unreadable", "no JSON")),
        rows: Vec::new(),
    };
    let producer = DeadLetterProducer::new(&broker.plain(), "g").unwrap();
    let fault = within("the refusal", producer.send(&[letter])).await.unwrap_err();
    assert!(matches!(&fault, mantis_pipeline::Fault::Retry { reason, .. } if reason.contains("readings/0/7")), "{fault}");
}
