//! Errors that a broker answers with, injected by librdkafka's mock cluster.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use common::*;
use mantis_kafka::{ClientConfig, Consumer, Error, Producer};
use mantis_pipeline::{Event, Source, SourceError};
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

type Mock = MockCluster<'static, DefaultProducerContext>;

async fn mock() -> (Mock, ClientConfig, Producer) {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic(TOPIC, 1, 1).unwrap();
    let client = ClientConfig::new(mock.bootstrap_servers());
    let producer = Producer::new(&client).unwrap();
    (mock, client, producer)
}

async fn member(client: &ClientConfig) -> Consumer {
    let mut consumer = Consumer::new(client, &group("g")).unwrap();
    let assigned = assigned(&mut consumer).await;
    start(&mut consumer, &assigned).await;
    consumer
}

/// Keeps out data-loss bug #12: the group has gone on without this member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_of_a_stale_generation_fails_and_is_not_taken_for_done() {
    let (mock, client, producer) = mock().await;
    produce(&producer, TOPIC, 0, 0..10).await;
    let mut consumer = member(&client).await;
    read(&mut consumer, 10).await;
    mock.request_errors(RDKafkaApiKey::OffsetCommit, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION]);
    let error = consumer.commit(&[(partition(0), 10)]).await.unwrap_err();
    assert!(matches!(error, SourceError::Retry(_)), "{error}");
    // The member finds its way back into the group, and reads again from where it was committed.
    loop {
        match next(&mut consumer).await.unwrap() {
            Event::Lost(lost) | Event::Revoked(lost) => consumer.release(&lost).await.unwrap(),
            Event::Assigned(assigned) if !assigned.is_empty() => {
                assert_eq!(assigned[0].committed, None);
                start(&mut consumer, &assigned).await;
                break;
            }
            _ => {}
        }
    }
    assert_eq!(read(&mut consumer, 10).await[&0].len(), 10);
    consumer.commit(&[(partition(0), 10)]).await.unwrap();
    consumer.close().await;
}

/// Keeps out data-loss bug #4, at this end of the road.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_rights_are_told_apart_from_passing_trouble() {
    let (mock, client, producer) = mock().await;
    produce(&producer, TOPIC, 0, 0..10).await;
    let mut consumer = member(&client).await;
    read(&mut consumer, 10).await;
    mock.request_errors(RDKafkaApiKey::OffsetCommit, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED]);
    let error = consumer.commit(&[(partition(0), 10)]).await.unwrap_err();
    assert!(matches!(&error, SourceError::Credentials(text) if text.contains("readings/0")), "{error}");
    consumer.commit(&[(partition(0), 10)]).await.unwrap();

    mock.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let error = producer.send(record(TOPIC, 0, 10)).await.unwrap_err();
    assert!(matches!(&error, Error::Credentials(text) if text.contains(TOPIC)), "{error}");
    // It works again once the right is given.
    within("writing", async { while producer.send(record(TOPIC, 0, 11)).await.is_err() {} }).await;
    consumer.close().await;
}

/// Keeps out data-loss bug #22: a broker that says "out of range" of a position that is in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_that_is_in_the_log_after_all_is_read_on_without_a_gap() {
    let (mock, client, producer) = mock().await;
    produce(&producer, TOPIC, 0, 0..10).await;
    let mut consumer = member(&client).await;
    read(&mut consumer, 10).await;
    mock.request_errors(RDKafkaApiKey::Fetch, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE]);
    produce(&producer, TOPIC, 0, 10..20).await;
    assert_eq!(read(&mut consumer, 10).await[&0], (10..20).collect::<Vec<_>>());
    consumer.close().await;
}

/// Keeps out data-loss bug #21: a retriable refusal is retried inside, within order and without a second copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passing_refusal_of_the_broker_is_retried_until_the_record_is_written() {
    let (mock, client, producer) = mock().await;
    mock.request_errors(
        RDKafkaApiKey::Produce,
        &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS, RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS],
    );
    produce(&producer, TOPIC, 0, 0..10).await;
    let mut consumer = member(&client).await;
    assert_eq!(read(&mut consumer, 10).await[&0], (0..10).collect::<Vec<_>>());
    consumer.close().await;
}
