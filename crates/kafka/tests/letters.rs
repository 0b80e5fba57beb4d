//! Finding dead letters from either end of their topics, within a bound, and sending them again.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use mantis_kafka::{
    ClientConfig, DeadLetterProducer,
    letters::{self, Filter, Found, Order, RefusedRecord},
};
use mantis_pipeline::{DeadLetter, DeadLetters, Header, Reason, RowReject, TopicPartition};
use mantis_schemas::topics;

/// A broker with the topics of readings and events and of their dead letters, of one partition each.
async fn broker() -> TestBroker {
    let broker = TestBroker::start().await;
    for topic in [topics::READINGS, topics::EVENTS] {
        broker.topic(topic, 1, &[]).await;
        broker.topic(&topics::dead_letter(topic), 1, &[]).await;
    }
    broker
}

fn letter(topic: &str, offset: i64) -> DeadLetter {
    DeadLetter {
        partition: TopicPartition::new(topic, 0),
        offset,
        timestamp_ms: Some(1_000 + offset),
        key: Some(b"pump".to_vec()),
        payload: Some(b"{".to_vec()),
        headers: vec![Header { key: "traceparent".into(), value: Some(b"00".to_vec()) }],
        reason: Some(Reason::new("broken-json", "no JSON")),
        rows: Vec::new(),
    }
}

/// Each of `groups` refuses the records at these offsets, one record after the other.
async fn refuse(client: &ClientConfig, groups: &[&str], topic: &str, offsets: std::ops::Range<i64>) {
    let producers: Vec<_> = groups.iter().map(|group| DeadLetterProducer::new(client, *group).unwrap()).collect();
    for offset in offsets {
        for producer in &producers {
            within("a letter", producer.send(&[letter(topic, offset)])).await.unwrap();
        }
    }
}

fn offsets(found: &Found) -> Vec<i64> {
    found.records.iter().map(|record| record.position.offset).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_the_bound_the_newest_records_are_found_and_where_the_older_ones_begin_is_told() {
    let broker = broker().await;
    let client = broker.client();
    refuse(&client, &["raw", "cache"], topics::READINGS, 0..5).await;
    let found = within("searching", letters::newest(&client, &Filter::default(), 5)).await.unwrap();
    assert_eq!(offsets(&found), [4, 3, 2]);
    let groups = |record: &RefusedRecord| record.refusals.iter().map(|refusal| refusal.group.clone()).collect::<Vec<_>>();
    assert_eq!(found.records.iter().map(groups).collect::<Vec<_>>(), [vec!["cache", "raw"], vec!["cache", "raw"], vec!["cache"]]);

    let from = found.more_from.unwrap();
    let older = Filter { from: Some(from), ..Filter::default() };
    let found = within("searching", letters::oldest(&client, &older, 5)).await.unwrap();
    assert_eq!(offsets(&found), [0, 1, 2]);
    assert_eq!(found.more_from.map(|more| more.to_string()), Some("mantis.readings.dlq/0/6".into()));

    let found = within("searching", letters::newest(&client, &Filter::default(), 10)).await.unwrap();
    assert_eq!((offsets(&found), found.more_from), (vec![4, 3, 2, 1, 0], None));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_of_each_topic_are_found_before_the_older_ones_of_any() {
    let broker = broker().await;
    let client = broker.client();
    refuse(&client, &["raw"], topics::READINGS, 0..9).await;
    refuse(&client, &["raw"], topics::EVENTS, 0..9).await;
    let found = within("searching", letters::newest(&client, &Filter::default(), 6)).await.unwrap();
    let of = |topic: &str| {
        let records = found.records.iter().filter(|record| *record.position.partition.topic == *topic);
        records.map(|record| record.position.offset).collect::<Vec<_>>()
    };
    assert_eq!((of(topics::READINGS), of(topics::EVENTS)), (vec![8, 7, 6], vec![8, 7, 6]));
    let readings = Filter { topic: Some(topics::READINGS.into()), ..Filter::default() };
    let found = within("searching", letters::newest(&client, &readings, 2)).await.unwrap();
    assert_eq!(offsets(&found), [8, 7]);
    assert_eq!(found.more_from.map(|more| more.to_string()), Some("mantis.readings.dlq/0/0".into()));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wanted_is_found_behind_however_many_newer_letters_that_are_not() {
    let broker = broker().await;
    let client = broker.client();
    refuse(&client, &["raw"], topics::READINGS, 0..6).await;
    let producer = DeadLetterProducer::new(&client, "raw").unwrap();
    let late = |offset| DeadLetter { reason: Some(Reason::new("late", "late")), ..letter(topics::READINGS, offset) };
    within("letters", producer.send(&(6..20).map(late).collect::<Vec<_>>())).await.unwrap();
    let broken = Filter { reason: Some("broken-json".into()), ..Filter::default() };

    let found = within("searching", letters::newest(&client, &broken, 7)).await.unwrap();
    assert_eq!((offsets(&found), found.order, found.more_from), (vec![5, 4, 3, 2, 1, 0], Order::NewestFirst, None));
    let found = within("searching", letters::newest(&client, &broken, 4)).await.unwrap();
    assert_eq!((offsets(&found), found.order), (vec![0, 1, 2, 3], Order::OldestFirst));
    assert_eq!(found.more_from.map(|more| more.to_string()), Some("mantis.readings.dlq/0/4".into()));
    let none = Filter { reason: Some("conflict".into()), ..Filter::default() };
    let found = within("searching", letters::newest(&client, &none, 4)).await.unwrap();
    assert_eq!((offsets(&found), found.more_from), (vec![], None));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_goes_on_behind_the_records_that_were_sent_before() {
    let broker = broker().await;
    let client = broker.client();
    refuse(&client, &["raw", "cache"], topics::READINGS, 0..5).await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        let found = within("searching", letters::oldest(&client, &Filter::default(), 4)).await.unwrap();
        sent.push(within("sending", letters::replay(&client, &found, 7)).await.unwrap().replayed);
    }
    assert_eq!(sent, [2, 2, 1]);
    let left = within("searching", letters::newest(&client, &Filter::default(), 100)).await.unwrap();
    assert_eq!((offsets(&left), left.more_from), (vec![], None));
    let all = Filter { all: true, ..Filter::default() };
    let all = within("searching", letters::newest(&client, &all, 100)).await.unwrap();
    assert!(all.records.iter().flat_map(|record| &record.refusals).all(|refusal| refusal.replayed_ms == Some(7)));
    assert_eq!(offsets(&all), [4, 3, 2, 1, 0]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_is_sent_once_though_the_bound_falls_between_the_letters_of_its_groups() {
    let broker = broker().await;
    let client = broker.client();
    refuse(&client, &["raw", "cache"], topics::READINGS, 0..4).await;
    let mut sent = Vec::new();
    for _ in 0..3 {
        let found = within("searching", letters::oldest(&client, &Filter::default(), 3)).await.unwrap();
        sent.push(within("sending", letters::replay(&client, &found, 7)).await.unwrap().replayed);
    }
    assert_eq!(sent, [2, 2, 0]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_refused_a_record_long_after_another_is_marked_with_it() {
    let broker = broker().await;
    let client = broker.client();
    for group in ["raw", "cache"] {
        let producer = DeadLetterProducer::new(&client, group).unwrap();
        let letters: Vec<_> = (0..600).map(|offset| letter(topics::READINGS, offset)).collect();
        within("letters", producer.send(&letters)).await.unwrap();
    }
    let found = within("searching", letters::oldest(&client, &Filter::default(), 2_000)).await.unwrap();
    assert_eq!(within("sending", letters::replay(&client, &found, 7)).await.unwrap().replayed, 600);
    let left = within("searching", letters::oldest(&client, &Filter::default(), 2_000)).await.unwrap();
    assert_eq!((offsets(&left), left.more_from), (vec![], None));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn letters_without_a_key_are_marked_in_the_partitions_where_they_lie() {
    let broker = TestBroker::start().await;
    broker.topic(topics::READINGS, 1, &[]).await;
    broker.topic(&topics::dead_letter(topics::READINGS), 8, &[]).await;
    let client = broker.client();
    let producer = DeadLetterProducer::new(&client, "raw").unwrap();
    for offset in 0..40 {
        within("a letter", producer.send(&[DeadLetter { key: None, ..letter(topics::READINGS, offset) }])).await.unwrap();
    }
    let found = within("searching", letters::oldest(&client, &Filter::default(), 100)).await.unwrap();
    assert_eq!(within("sending", letters::replay(&client, &found, 7)).await.unwrap().replayed, 40);
    let left = within("searching", letters::oldest(&client, &Filter::default(), 100)).await.unwrap();
    assert_eq!(offsets(&left), Vec::<i64>::new());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_record_is_shown_once_with_what_each_group_says_of_it() {
    let broker = broker().await;
    let client = broker.client();
    refuse(&client, &["raw", "cache"], topics::READINGS, 0..2).await;
    let rows = vec![RowReject { row: 3, reason: Reason::new("too-late", "late") }];
    let late = DeadLetter { reason: None, rows, ..letter(topics::READINGS, 1) };
    let features = DeadLetterProducer::new(&client, "features").unwrap();
    within("a letter", features.send(&[late])).await.unwrap();
    let whole = within("looking", letters::whole(&client, "mantis.readings/0/1")).await.unwrap().unwrap();
    let said: Vec<_> = whole.letters.iter().map(|letter| (&*letter.origin.group, letter.origin.rows.len())).collect();
    assert_eq!(said, [("features", 1), ("cache", 0), ("raw", 0)]);
    assert_eq!((whole.key.as_deref(), whole.payload.as_deref()), (Some(&b"pump"[..]), Some(&b"{"[..])));
    assert_eq!(whole.headers, letter(topics::READINGS, 1).headers, "those of the letters are no part of the record");
    assert!(within("looking", letters::whole(&client, "mantis.readings/0/9")).await.unwrap().is_none());
    broker.stop().await;
}
