//! The consumer against the embedded broker.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use common::*;
use mantis_kafka::{Assignor, Consumer, ConsumerConfig, OutRecord, Producer, Reader};
use mantis_pipeline::{Event, Header, RecordBatch, Source, SourceError};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_in_order_with_key_value_headers_and_timestamp() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 1, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    let headers = vec![
        Header { key: "a".into(), value: Some(vec![0, 255]) },
        Header { key: "a".into(), value: None },
        Header { key: String::new(), value: Some(Vec::new()) },
    ];
    let full = OutRecord {
        topic: TOPIC.into(),
        partition: Some(0),
        key: Some(vec![0, 1]),
        payload: Some(vec![255, 0]),
        headers: headers.clone(),
        timestamp_ms: Some(1_700_000_000_000),
    };
    let bare = OutRecord { topic: TOPIC.into(), partition: Some(0), ..OutRecord::default() };
    let empty = OutRecord { key: Some(Vec::new()), payload: Some(Vec::new()), ..bare.clone() };
    for result in producer.send_all(&[full, bare, empty]).await {
        result.unwrap();
    }

    let mut consumer = joined(&broker, "g").await;
    let Ok(Event::Records(batch)) = next(&mut consumer).await else { panic!("no records") };
    assert_eq!((batch.partition(), batch.len()), (&partition(0), 3));
    let record = batch.record(0);
    assert_eq!((record.offset, record.timestamp_ms), (0, Some(1_700_000_000_000)));
    assert_eq!((record.key, record.payload), (Some(&[0, 1][..]), Some(&[255, 0][..])));
    assert_eq!(batch.headers(0), headers);
    let record = batch.record(1);
    assert_eq!((record.offset, record.key, record.payload), (1, None, None));
    assert!(record.timestamp_ms.is_some() && batch.headers(1).is_empty());
    assert_eq!((batch.record(2).key, batch.record(2).payload), (Some(&[][..]), Some(&[][..])));
    consumer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_is_ready_to_read_within_half_a_second() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 8, &[]).await;
    let began = Instant::now();
    let mut consumer = join(&broker, "g");
    let assigned = assigned(&mut consumer).await;
    let took = began.elapsed();
    assert_eq!(assigned.len(), 8);
    println!("assigned after {took:?}");
    start(&mut consumer, &assigned).await;
    println!("started after {:?}", began.elapsed());
    let closing = Instant::now();
    consumer.close().await;
    println!("closed in {:?}", closing.elapsed());
    let groups = broker.admin().groups(Some("g")).await.unwrap();
    assert_eq!((groups[0].state.as_str(), groups[0].members.len()), ("Empty", 0), "it has left the group");
    assert!(took.as_millis() < 500, "{took:?}");
}

/// Keeps out data-loss bug #1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_is_not_stored_before_its_record_was_committed() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 1, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    produce(&producer, TOPIC, 0, 0..100).await;

    let mut consumer = joined(&broker, "g").await;
    read(&mut consumer, 100).await;
    consumer.commit(&[(partition(0), 40)]).await.unwrap();
    consumer.close().await;

    let mut consumer = join(&broker, "g");
    let assigned = assigned(&mut consumer).await;
    assert_eq!((assigned[0].committed, assigned[0].log_start, assigned[0].log_end), (Some(40), 0, 100));
    start(&mut consumer, &assigned).await;
    assert_eq!(read(&mut consumer, 60).await[&0], (40..100).collect::<Vec<_>>());
    consumer.close().await;
}

/// Two members; the second joins while the first has records that are not committed.
async fn a_partition_changes_hands(assignor: Assignor) {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 2, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    for number in 0..2 {
        produce(&producer, TOPIC, number, 0..1_000).await;
    }
    let config = ConsumerConfig { assignor, ..group("g") };
    let mut first = Consumer::new(&broker.client(), &config).unwrap();
    let all = assigned(&mut first).await;
    start(&mut first, &all).await;
    read(&mut first, 2_000).await;
    for number in 0..2 {
        produce(&producer, TOPIC, number, 1_000..2_000).await;
    }

    let mut second = Consumer::new(&broker.client(), &config).unwrap();
    let waits = tokio::spawn(async move {
        let assigned = assigned(&mut second).await;
        (second, assigned)
    });
    let revoked = loop {
        match next(&mut first).await.unwrap() {
            Event::Revoked(revoked) => break revoked,
            Event::Records(_) => {}
            other => panic!("not a revocation: {other:?}"),
        }
    };
    let moves = if assignor == Assignor::CooperativeSticky { 1 } else { 2 };
    assert_eq!(revoked.len(), moves);
    // It is still owned: what was written can be committed, and the other member waits for it.
    let offsets: Vec<_> = revoked.iter().map(|partition| (partition.clone(), 1_234)).collect();
    first.commit(&offsets).await.unwrap();
    assert!(!waits.is_finished());
    first.release(&revoked).await.unwrap();
    first.commit(&revoked.iter().map(|partition| (partition.clone(), 1_999)).collect::<Vec<_>>()).await.unwrap();

    // The first member goes on, or gets its part again.
    let again = loop {
        match timeout(Duration::from_millis(500), first.next()).await {
            Err(_) => break Vec::new(),
            Ok(Ok(Event::Records(batch))) => assert!(!revoked.contains(batch.partition())),
            Ok(Ok(Event::Assigned(again))) if again.is_empty() => {}
            Ok(Ok(Event::Assigned(again))) => break again,
            Ok(other) => panic!("unexpected: {other:?}"),
        }
    };
    let (mut second, moved) = within("the other member's assignment", waits).await.unwrap();
    assert_eq!((moved.len(), again.len()), (1, moves - 1));
    assert!(revoked.contains(&moved[0].partition));
    assert_eq!(moved[0].committed, Some(1_234));
    start(&mut second, &moved).await;
    let found = read(&mut second, 766).await;
    assert_eq!(found[&moved[0].partition.partition], (1_234..2_000).collect::<Vec<_>>());
    second.commit(&[(moved[0].partition.clone(), 2_000)]).await.unwrap();
    // A commit of a partition that was released is not sent, so the owner's stays.
    first.commit(&[(moved[0].partition.clone(), 1_500)]).await.unwrap();
    let lag = broker.admin().lag("g", &[TOPIC]).await.unwrap();
    assert_eq!(lag.iter().find(|lag| lag.partition == moved[0].partition).unwrap().committed, Some(2_000));
    second.close().await;
    first.close().await;
}

/// Data-loss bugs #8, #9 and #12: acknowledgements after a rebalance land nowhere, what was read and not written is
/// read by the new owner, no stale offset is committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_partition_is_not_committed_after_its_release_and_its_records_reach_the_new_owner() {
    a_partition_changes_hands(Assignor::CooperativeSticky).await;
}

/// Data-loss bugs #8, #9 and #12, with an assignor that takes everything away first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_partition_is_not_committed_after_its_release_when_all_are_revoked_at_once() {
    a_partition_changes_hands(Assignor::Range).await;
}

/// Keeps out data-loss bug #8: the member was gone for the group, and finds out by its commit or its heartbeat.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_of_a_member_that_was_fenced_are_lost_and_cannot_be_committed() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 1, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    produce(&producer, TOPIC, 0, 0..10).await;
    let config = ConsumerConfig { instance_id: Some("one".into()), ..group("g") };
    let mut zombie = Consumer::new(&broker.client(), &config).unwrap();
    let all = assigned(&mut zombie).await;
    start(&mut zombie, &all).await;
    read(&mut zombie, 10).await;
    // Another process with the same instance id takes its place.
    let mut heir = Consumer::new(&broker.client(), &config).unwrap();
    let all = assigned(&mut heir).await;
    start(&mut heir, &all).await;
    read(&mut heir, 10).await;
    heir.commit(&[(partition(0), 10)]).await.unwrap();
    assert!(zombie.commit(&[(partition(0), 5)]).await.is_err());
    let lag = broker.admin().lag("g", &[TOPIC]).await.unwrap();
    assert_eq!((lag[0].committed, lag[0].records()), (Some(10), 0));
    zombie.close().await;
    heir.close().await;
}

/// Keeps out data-loss bug #10: the queue's wake-up survives reassignments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_wake_the_consumer_after_every_reassignment() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 2, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    let mut stays = joined(&broker, "g").await;
    for round in 0..3 {
        let guest = {
            let mut guest = join(&broker, "g");
            let task = tokio::spawn(async move {
                assigned(&mut guest).await;
                guest
            });
            let mut released = Vec::new();
            while released.is_empty() {
                if let Event::Revoked(revoked) = next(&mut stays).await.unwrap() {
                    stays.release(&revoked).await.unwrap();
                    released = revoked;
                }
            }
            // The new round begins when this member asks for it.
            while !task.is_finished() {
                let _ = timeout(Duration::from_millis(20), stays.next()).await;
            }
            task.await.unwrap()
        };
        guest.close().await;
        let back = loop {
            match next(&mut stays).await.unwrap() {
                Event::Assigned(back) if !back.is_empty() => break back,
                _ => {}
            }
        };
        start(&mut stays, &back).await;
        for number in 0..2 {
            produce(&producer, TOPIC, number, round * 10..(round + 1) * 10).await;
        }
        let mut found = read(&mut stays, 20).await;
        for number in 0..2 {
            assert_eq!(found.remove(&number).unwrap(), (round * 10..(round + 1) * 10).collect::<Vec<_>>());
        }
        stays.commit(&[(partition(0), (round as i64 + 1) * 10), (partition(1), (round as i64 + 1) * 10)]).await.unwrap();
    }
    stays.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seek_discards_what_was_fetched_ahead() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 2, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    for number in 0..2 {
        produce(&producer, TOPIC, number, 0..20_000).await;
    }
    let mut consumer = joined(&broker, "g").await;
    let Ok(Event::Records(first)) = next(&mut consumer).await else { panic!("no records") };
    let (sought, other) = (first.partition().clone(), partition(1 - first.partition().partition));
    for (at, forth) in [(15_000, 19_990), (3, 7)] {
        consumer.seek(&sought, at).await.unwrap();
        loop {
            let Ok(Event::Records(batch)) = next(&mut consumer).await else { panic!("no records") };
            if *batch.partition() == sought {
                assert_eq!(batch.record(0).offset, at);
                break;
            }
        }
        consumer.seek(&sought, forth).await.unwrap();
    }
    // The other one did not notice. Its records went by above as well.
    consumer.seek(&other, 0).await.unwrap();
    let found = read(&mut consumer, 19_993 + 20_000).await;
    assert_eq!(found[&sought.partition], (7..20_000).collect::<Vec<_>>());
    assert_eq!(found[&other.partition], (0..20_000).collect::<Vec<_>>());
    consumer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_and_resume_lose_nothing_and_repeat_nothing() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 2, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    for number in 0..2 {
        produce(&producer, TOPIC, number, 0..20_000).await;
    }
    let mut consumer = joined(&broker, "g").await;
    consumer.pause(&[partition(0)]).unwrap();
    let others = read(&mut consumer, 20_000).await;
    assert_eq!(others.keys().collect::<Vec<_>>(), [&1]);
    quiet(&mut consumer).await;
    consumer.resume(&[partition(0)]).unwrap();
    let mut found = Vec::new();
    while found.len() < 20_000 {
        let Ok(Event::Records(batch)) = next(&mut consumer).await else { panic!("no records") };
        found.extend(numbers(&batch));
        consumer.pause(&[partition(0)]).unwrap();
        consumer.resume(&[partition(0)]).unwrap();
    }
    assert_eq!(found, (0..20_000).collect::<Vec<_>>());
    consumer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_was_paused_when_it_left_is_read_when_it_comes_back() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 2, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    let mut consumer = joined(&broker, "g").await;
    consumer.pause(&[partition(0), partition(1)]).unwrap();
    let guest = join(&broker, "g");
    let mut moved = Vec::new();
    while moved.is_empty() {
        if let Event::Revoked(revoked) = next(&mut consumer).await.unwrap() {
            consumer.release(&revoked).await.unwrap();
            moved = revoked;
        }
    }
    guest.close().await;
    let back = loop {
        match next(&mut consumer).await.unwrap() {
            Event::Assigned(back) if !back.is_empty() => break back,
            _ => {}
        }
    };
    assert_eq!(back[0].partition, moved[0]);
    start(&mut consumer, &back).await;
    produce(&producer, TOPIC, moved[0].partition, 0..10).await;
    read(&mut consumer, 10).await;
    consumer.close().await;
}

/// Keeps out data-loss bug #13, and data-loss bug #11: nothing comes from before the start of an assignment. Every partition's
/// records come once each and in order, whatever happens in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batch_consume_neither_skips_nor_repeats_under_random_pauses_seeks_and_rebalances() {
    let seed = std::env::var("MANTIS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        use std::hash::{BuildHasher, RandomState};
        RandomState::new().hash_one(0)
    });
    println!("MANTIS_SEED={seed}");
    for assignor in [Assignor::CooperativeSticky, Assignor::Range] {
        a_random_schedule(seed, assignor).await;
    }
}

async fn a_random_schedule(mut seed: u64, assignor: Assignor) {
    const RECORDS: usize = 30_000;
    const PARTITIONS: i32 = 3;
    let mut random = move |below: usize| {
        // splitmix64
        seed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % below as u64) as usize
    };
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, PARTITIONS, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    for number in 0..PARTITIONS {
        produce(&producer, TOPIC, number, 0..RECORDS).await;
    }
    let config = ConsumerConfig { assignor, prefetch_bytes_max: 1 << 20, ..group("g") };
    let mut consumer = Consumer::new(&broker.client(), &config).unwrap();
    // What must come next of each partition.
    let mut expected = vec![0; PARTITIONS as usize];
    let mut owned = BTreeSet::new();
    let mut guest: Option<Consumer> = None;
    let mut steps = 0;
    while expected.iter().any(|next| *next < RECORDS) {
        steps += 1;
        assert!(steps < 20_000, "no progress: {expected:?}");
        match timeout(Duration::from_millis(200), consumer.next()).await {
            Err(_) => {
                if let Some(guest) = guest.take() {
                    guest.close().await;
                }
            }
            Ok(Ok(Event::Assigned(assigned))) => {
                let at: Vec<_> =
                    assigned.iter().map(|a| (a.partition.clone(), expected[a.partition.partition as usize] as i64)).collect();
                owned.extend(assigned.into_iter().map(|a| a.partition.partition));
                consumer.start(&at).await.unwrap();
            }
            Ok(Ok(Event::Revoked(revoked))) => {
                consumer.release(&revoked).await.unwrap();
                for partition in revoked {
                    owned.remove(&partition.partition);
                }
            }
            Ok(Ok(Event::Records(batch))) => {
                let number = batch.partition().partition;
                assert!(owned.contains(&number), "records of a partition that is not owned");
                for found in numbers(&batch) {
                    assert_eq!(found, expected[number as usize], "partition {number}");
                    expected[number as usize] += 1;
                }
            }
            Ok(other) => panic!("unexpected: {other:?}"),
        }
        let Some(number) = owned.iter().nth(random(PARTITIONS as usize)).copied() else { continue };
        let chosen = partition(number);
        match random(12) {
            0 => consumer.pause(&[chosen]).unwrap(),
            1..=3 => consumer.resume(&owned.iter().map(|number| partition(*number)).collect::<Vec<_>>()).unwrap(),
            4 => {
                let next = &mut expected[number as usize];
                *next = next.saturating_sub(random(500));
                consumer.seek(&chosen, *next as i64).await.unwrap();
            }
            5 if random(8) == 0 => match guest.take() {
                Some(guest) => guest.close().await,
                None => guest = Some(Consumer::new(&broker.client(), &config).unwrap()),
            },
            _ => {}
        }
        if steps % 16 == 0 {
            consumer.resume(&owned.iter().map(|number| partition(*number)).collect::<Vec<_>>()).unwrap();
        }
    }
    if let Some(guest) = guest {
        guest.close().await;
    }
    consumer.close().await;
}

/// Keeps out data-loss bug #22.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_that_overtook_the_position_is_a_gap_and_never_a_silent_reset() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 1, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    produce(&producer, TOPIC, 0, 0..100).await;
    let mut consumer = joined(&broker, "g").await;
    read(&mut consumer, 100).await;
    broker.admin().delete_records(&partition(0), 60).await.unwrap();
    for assignor in 0..2 {
        consumer.seek(&partition(0), 10 + assignor).await.unwrap();
        match next(&mut consumer).await {
            Ok(Event::Gap(gap)) => assert_eq!((gap.partition, gap.from, gap.next), (partition(0), 10 + assignor, 60)),
            other => panic!("not a gap: {other:?}"),
        }
        assert_eq!(read(&mut consumer, 40).await[&0], (60..100).collect::<Vec<_>>());
    }
    consumer.close().await;
}

/// Keeps out data-loss bug #22: with an assignor that knows no single moves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_one_partition_repeats_nothing_of_the_others_with_an_eager_assignor() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 2, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    let config = ConsumerConfig { assignor: Assignor::Range, ..group("g") };
    let mut consumer = Consumer::new(&broker.client(), &config).unwrap();
    let all = assigned(&mut consumer).await;
    start(&mut consumer, &all).await;
    for number in 0..2 {
        produce(&producer, TOPIC, number, 0..100).await;
    }
    read(&mut consumer, 200).await;
    broker.admin().delete_records(&partition(0), 60).await.unwrap();
    consumer.seek(&partition(0), 10).await.unwrap();
    assert!(matches!(next(&mut consumer).await, Ok(Event::Gap(gap)) if gap.next == 60));
    produce(&producer, TOPIC, 1, 100..110).await;
    let found = read(&mut consumer, 50).await;
    assert_eq!(found[&0], (60..100).collect::<Vec<_>>());
    assert_eq!(found[&1], (100..110).collect::<Vec<_>>());
    consumer.close().await;
}

/// Keeps out data-loss bug #22.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_beyond_the_end_of_the_log_is_an_error_that_names_it() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 2, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    produce(&producer, TOPIC, 0, 0..10).await;
    let mut consumer = join(&broker, "g");
    assigned(&mut consumer).await;
    consumer.start(&[(partition(0), 500), (partition(1), 0)]).await.unwrap();
    let error = next(&mut consumer).await.unwrap_err();
    assert!(
        matches!(&error, SourceError::Retry(text) if text.contains("readings/0") && text.contains("500") && text.contains("10")),
        "{error}"
    );
    // The others are read on.
    produce(&producer, TOPIC, 1, 0..10).await;
    assert_eq!(read(&mut consumer, 10).await[&1].len(), 10);
    consumer.close().await;
}

/// Keeps out data-loss bug #24.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_goes_on_over_offsets_that_compaction_took_out() {
    const LIVE: i64 = 20_000;
    let broker = TestBroker::with(|config| config.sweep_interval_ms = 50).await;
    broker.topic(TOPIC, 1, &[("cleanup.policy", "compact"), ("segment.bytes", "65536")]).await;
    let producer = Producer::new(&broker.plain()).unwrap();
    // One key: nearly all of it goes. In batches that are smaller than a segment.
    for from in (0..LIVE as usize).step_by(500) {
        produce(&producer, TOPIC, 0, from..from + 500).await;
    }
    within("compaction", async {
        loop {
            let mut reader = Reader::open(&broker.client(), partition(0), 0, LIVE).unwrap();
            let mut records = 0;
            while let Some(batch) = reader.next().await.unwrap() {
                records += batch.len() as i64;
            }
            if records < LIVE / 2 {
                break;
            }
        }
    })
    .await;
    let mut consumer = joined(&broker, "g").await;
    let mut last = -1;
    while last < LIVE - 1 {
        let Ok(Event::Records(batch)) = next(&mut consumer).await else { panic!("no records") };
        for index in 0..batch.len() {
            assert!(batch.record(index).offset > last);
            last = batch.record(index).offset;
        }
    }
    consumer.commit(&[(partition(0), last + 1)]).await.unwrap();
    assert_eq!(broker.admin().lag("g", &[TOPIC]).await.unwrap()[0].records(), 0);
    consumer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_outlive_their_consumer() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 1, &[]).await;
    let producer = Producer::new(&broker.client()).unwrap();
    produce(&producer, TOPIC, 0, 0..100).await;
    for polite in [true, false] {
        let mut consumer = joined(&broker, if polite { "polite" } else { "rude" }).await;
        let Ok(Event::Records(batch)) = next(&mut consumer).await else { panic!("no records") };
        if polite {
            within("closing", consumer.close()).await;
        } else {
            drop(consumer);
        }
        assert_eq!(numbers(&batch)[0], 0);
        within("dropping", tokio::task::spawn_blocking(move || drop(batch))).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_whose_brokers_are_away_says_so_and_closes_within_its_bound() {
    let client = mantis_kafka::ClientConfig::new("127.0.0.1:1");
    let mut consumer = Consumer::new(&client, &group("g")).unwrap();
    let error = next(&mut consumer).await.unwrap_err();
    assert!(matches!(&error, SourceError::Retry(text) if text.contains("no broker can be reached")), "{error}");
    within("closing", consumer.close()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_made_later_is_found() {
    let broker = TestBroker::with(|config| config.auto_create_topics = false).await;
    let mut client = broker.client();
    client.properties.insert("topic.metadata.refresh.interval.ms".into(), "200".into());
    let mut consumer = Consumer::new(&client, &group("g")).unwrap();
    broker.topic(TOPIC, 1, &[]).await;
    let found = loop {
        match next(&mut consumer).await {
            Ok(Event::Assigned(assigned)) if !assigned.is_empty() => break assigned,
            Ok(Event::Assigned(_)) | Err(SourceError::Retry(_)) => {}
            other => panic!("unexpected: {other:?}"),
        }
    };
    assert_eq!(found[0].partition, partition(0));
    consumer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fetched_ahead_stays_within_its_bound_while_nobody_takes_it() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 1, &[]).await;
    let producer = Producer::new(&broker.plain()).unwrap();
    let payload = vec![7; 100_000];
    let records: Vec<_> =
        (0..640).map(|number| OutRecord { payload: Some(payload.clone()), ..record(TOPIC, 0, number) }).collect();
    for result in producer.send_all(&records).await {
        result.unwrap();
    }
    let config = ConsumerConfig { prefetch_bytes_max: 2 << 20, ..group("g") };
    let mut consumer = Consumer::new(&broker.client(), &config).unwrap();
    let all = assigned(&mut consumer).await;
    start(&mut consumer, &all).await;
    let mut batches = Vec::new();
    let mut found = 0;
    while found < 640 {
        let Ok(Event::Records(batch)) = next(&mut consumer).await else { panic!("no records") };
        found += batch.len();
        batches.push(batch.bytes());
        // Long enough for the prefetch to run into its bound.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(batches.iter().all(|bytes| *bytes <= 4 << 20), "{batches:?}");
    consumer.close().await;
}

/// The segment of the only topic's only partition.
fn segment(broker: &TestBroker) -> std::path::PathBuf {
    let topic = std::fs::read_dir(broker.dir.path().join("topics")).unwrap().next().unwrap().unwrap().path();
    topic.join("0/00000000000000000000.log")
}

/// Inverts the last byte of a batch, by its number in the segment. Doing it again undoes it.
fn damage(segment: &std::path::Path, batch: usize) {
    let mut bytes = std::fs::read(segment).unwrap();
    let mut end = 0;
    for _ in 0..=batch {
        let length = u32::from_be_bytes(bytes[end + 8..end + 12].try_into().unwrap());
        end += 12 + length as usize;
    }
    bytes[end - 1] ^= 0xff;
    // In place: the broker has the file open.
    std::fs::write(segment, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_batch_is_named_never_passed_over_and_read_once_it_is_restored() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 1, &[]).await;
    let producer = Producer::new(&broker.plain()).unwrap();
    for number in 0..10 {
        produce(&producer, TOPIC, 0, number..number + 1).await;
    }
    damage(&segment(&broker), 5);

    let mut reader = Reader::open(&broker.client(), partition(0), 0, 10).unwrap();
    let mut found = Vec::new();
    let error = loop {
        match within("a range", reader.next()).await {
            Ok(batch) => found.extend(numbers(&batch.unwrap())),
            Err(error) => break error.to_string(),
        }
    };
    assert_eq!(found, (0..5).collect::<Vec<_>>());
    assert!(error.contains("readings/0 is damaged at offset 5"), "{error}");

    let mut consumer = joined(&broker, "g").await;
    assert_eq!(read(&mut consumer, 5).await[&0], [0, 1, 2, 3, 4]);
    let Ok(Event::Unreadable(name, reason)) = next(&mut consumer).await else { panic!("the damage is not told") };
    assert_eq!(name, partition(0));
    assert!(reason.contains("damaged at offset 5"), "{reason}");
    quiet(&mut consumer).await;
    damage(&segment(&broker), 5);
    assert_eq!(read(&mut consumer, 5).await[&0], [5, 6, 7, 8, 9]);
    consumer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_records_that_were_given_up_are_a_gap() {
    let broker = TestBroker::start().await;
    broker.topic(TOPIC, 1, &[]).await;
    let producer = Producer::new(&broker.plain()).unwrap();
    for number in 0..4 {
        produce(&producer, TOPIC, 0, number..number + 1).await;
    }
    damage(&segment(&broker), 1);
    let mut consumer = joined(&broker, "g").await;
    assert_eq!(read(&mut consumer, 1).await[&0], [0]);
    let event = next(&mut consumer).await;
    assert!(matches!(event, Ok(Event::Unreadable(..))), "{event:?}");
    broker.admin().delete_records(&partition(0), 2).await.unwrap();
    let Ok(Event::Gap(gap)) = next(&mut consumer).await else { panic!("no gap") };
    assert_eq!((gap.from, gap.next), (1, 2));
    assert_eq!(read(&mut consumer, 2).await[&0], [2, 3]);
    consumer.close().await;
}
