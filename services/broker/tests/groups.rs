//! Consumer groups with librdkafka: rebalances, deaths, static members, commits, retention's floor.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use common::{DEADLINE, TestBroker, consumer, create_topic, group_config, producer, send_all, take, wait_for};
use mantis_broker::Config;
use rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance},
    error::KafkaError,
    producer::{BaseRecord, Producer},
    types::RDKafkaErrorCode,
};

/// Notes what a consumer is given and what is taken from it.
#[derive(Default, Clone)]
struct Rebalances(Arc<Mutex<Vec<String>>>);

impl ClientContext for Rebalances {}

impl ConsumerContext for Rebalances {
    fn pre_rebalance(&self, _: &BaseConsumer<Rebalances>, rebalance: &Rebalance<'_>) {
        let noted = match rebalance {
            Rebalance::Assign(partitions) => format!("+{}", partitions.count()),
            Rebalance::Revoke(partitions) => format!("-{}", partitions.count()),
            Rebalance::Error(error) => error.to_string(),
        };
        self.0.lock().unwrap().push(noted);
    }
}

fn numbered(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("record {number}"))
}

/// Copied out, because closing a consumer waits for the lists of partitions that it has given out.
fn partitions_of<C: ConsumerContext>(consumer: &BaseConsumer<C>) -> BTreeSet<i32> {
    consumer.assignment().unwrap().elements().iter().map(|element| element.partition()).collect()
}

/// Partitions that each consumer owns, once they are all owned and nobody owns two's.
fn shared(consumers: &[&BaseConsumer], partitions: usize) -> Vec<BTreeSet<i32>> {
    wait_for("every partition to have one owner", || {
        let owned: Vec<BTreeSet<i32>> = consumers
            .iter()
            .map(|consumer| {
                let _ = consumer.poll(Duration::from_millis(10));
                partitions_of(consumer)
            })
            .collect();
        let all: Vec<_> = owned.iter().flatten().collect();
        let fair = owned.iter().all(|owned| !owned.is_empty());
        (fair && all.len() == partitions && all.iter().collect::<BTreeSet<_>>().len() == partitions).then_some(owned)
    })
}

/// A consumer's process that dies says nothing: here its connections are cut and it is never polled again.
fn dies(consumer: BaseConsumer) {
    // Leaving the group is part of closing, so the handle is leaked; without polls its session ends after
    // `max.poll.interval.ms`, as that of a process that hangs.
    std::mem::forget(consumer);
}

#[test]
fn consumers_that_come_leave_and_die_share_the_partitions_of_their_group() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    create_topic(&broker.servers(), "shared", 6, &[]);
    let settings = [("max.poll.interval.ms", "6000"), ("session.timeout.ms", "2000")];
    let member = || -> BaseConsumer {
        let consumer = consumer(&broker.servers(), "g", &settings);
        consumer.subscribe(&["shared"]).unwrap();
        consumer
    };
    let first = member();
    assert_eq!(shared(&[&first], 6)[0].len(), 6);
    let second = member();
    let third = member();
    assert!(shared(&[&first, &second, &third], 6).iter().all(|owned| owned.len() == 2));
    drop(third);
    assert!(shared(&[&first, &second], 6).iter().all(|owned| owned.len() == 3));
    dies(second);
    assert_eq!(shared(&[&first], 6)[0].len(), 6, "the dead member's partitions come back when its session is over");
}

#[test]
fn a_static_member_that_comes_back_in_time_keeps_its_partitions_without_a_rebalance() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    create_topic(&broker.servers(), "static", 4, &[]);
    let member = |instance: &str| -> BaseConsumer {
        let consumer = consumer(&broker.servers(), "g", &[("group.instance.id", instance), ("session.timeout.ms", "20000")]);
        consumer.subscribe(&["static"]).unwrap();
        consumer
    };
    let first = Rebalances::default();
    let watched: BaseConsumer<Rebalances> =
        group_config(&broker.servers(), "g", &[("group.instance.id", "a"), ("session.timeout.ms", "20000")])
            .create_with_context(first.clone())
            .unwrap();
    watched.subscribe(&["static"]).unwrap();
    let second = member("b");
    let owned = wait_for("two members with two partitions each", || {
        let _ = (watched.poll(Duration::from_millis(10)), second.poll(Duration::from_millis(10)));
        let (ours, theirs) = (partitions_of(&watched), partitions_of(&second));
        (ours.len() == 2 && theirs.len() == 2).then_some(theirs)
    });
    let before = first.0.lock().unwrap().clone();
    drop(second); // A static member does not leave when it is closed.
    let second = member("b");
    let again = wait_for("the same partitions again", || {
        let _ = (watched.poll(Duration::from_millis(10)), second.poll(Duration::from_millis(10)));
        Some(partitions_of(&second)).filter(|owned| owned.len() == 2)
    });
    assert_eq!(again, owned);
    assert_eq!(*first.0.lock().unwrap(), before, "the other member has noticed nothing");
}

#[test]
fn a_second_consumer_with_the_same_instance_id_fences_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    create_topic(&broker.servers(), "fenced", 1, &[]);
    let settings = [("group.instance.id", "one")];
    let first: BaseConsumer = consumer(&broker.servers(), "g", &settings);
    first.subscribe(&["fenced"]).unwrap();
    shared(&[&first], 1);
    let second: BaseConsumer = consumer(&broker.servers(), "g", &settings);
    second.subscribe(&["fenced"]).unwrap();
    shared(&[&second], 1);
    wait_for("the first consumer to be fenced", || {
        let _ = (second.poll(Duration::from_millis(10)), first.poll(Duration::from_millis(10)));
        first.client().fatal_error().map(|(code, _)| assert_eq!(code, RDKafkaErrorCode::FencedInstanceId))
    });
}

#[test]
fn cooperative_consumers_give_up_only_the_partitions_that_move() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    create_topic(&broker.servers(), "moves", 4, &[]);
    let settings = [("partition.assignment.strategy", "cooperative-sticky")];
    let noted = Rebalances::default();
    let first: BaseConsumer<Rebalances> =
        group_config(&broker.servers(), "g", &settings).create_with_context(noted.clone()).unwrap();
    first.subscribe(&["moves"]).unwrap();
    wait_for("all partitions", || {
        let _ = first.poll(Duration::from_millis(10));
        (first.assignment().unwrap().count() == 4).then_some(())
    });
    let second: BaseConsumer = consumer(&broker.servers(), "g", &settings);
    second.subscribe(&["moves"]).unwrap();
    wait_for("two partitions each", || {
        let _ = (first.poll(Duration::from_millis(10)), second.poll(Duration::from_millis(10)));
        (first.assignment().unwrap().count() == 2 && second.assignment().unwrap().count() == 2).then_some(())
    });
    let noted = noted.0.lock().unwrap().clone();
    assert!(noted.contains(&"-2".to_owned()) && !noted.contains(&"-4".to_owned()), "{noted:?}");
}

fn commit(consumer: &BaseConsumer, topic: &str, partition: i32, offset: i64) -> Result<(), KafkaError> {
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, partition, Offset::Offset(offset))?;
    consumer.commit(&offsets, CommitMode::Sync)
}

fn committed(servers: &str, group: &str, topic: &str, partition: i32) -> Offset {
    let asking = consumer(servers, group, &[]);
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, partition);
    let found = asking.committed_offsets(asked, DEADLINE).unwrap();
    found.elements()[0].offset()
}

#[test]
fn committed_offsets_survive_a_restart_and_a_consumer_goes_on_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    let address = broker.servers();
    create_topic(&address, "go-on", 1, &[]);
    send_all(&producer(&address, &[]), "go-on", numbered(100));
    let worker: BaseConsumer = consumer(&address, "g", &[]);
    worker.subscribe(&["go-on"]).unwrap();
    take(&worker, 100);
    commit(&worker, "go-on", 0, 40).unwrap();
    broker.stop();
    let _broker = TestBroker::start_on(Config::new(dir.path()), &address);
    assert_eq!(committed(&address, "g", "go-on", 0), Offset::Offset(40));
    send_all(&producer(&address, &[]), "go-on", ["after the restart".to_owned()]);
    // The old member joins again by itself; whether it had fetched the record before is its own affair.
    wait_for("the record after the restart", || {
        let message = worker.poll(Duration::from_millis(100))?.ok()?;
        (message.payload() == Some(b"after the restart")).then_some(())
    });
    let fresh: BaseConsumer = consumer(&address, "g", &[]);
    drop(worker);
    fresh.subscribe(&["go-on"]).unwrap();
    assert_eq!(take(&fresh, 1)[0].1, 40);
}

/// data-loss bug #8: a commit of a member that no longer owns its partitions takes no effect.
#[test]
fn a_member_whose_session_is_over_cannot_commit() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    let address = broker.servers();
    create_topic(&address, "zombie", 1, &[]);
    send_all(&producer(&address, &[]), "zombie", numbered(10));
    let zombie: BaseConsumer = consumer(&address, "g", &[("max.poll.interval.ms", "6000")]);
    zombie.subscribe(&["zombie"]).unwrap();
    take(&zombie, 10);
    let heir: BaseConsumer = consumer(&address, "g", &[]);
    heir.subscribe(&["zombie"]).unwrap();
    let deadline = Instant::now() + DEADLINE;
    while heir.assignment().unwrap().count() == 0 {
        assert!(Instant::now() < deadline, "the heir gets the partition");
        let _ = heir.poll(Duration::from_millis(50));
    }
    commit(&heir, "zombie", 0, 3).unwrap();
    assert!(commit(&zombie, "zombie", 0, 9).is_err());
    assert_eq!(committed(&address, "g", "zombie", 0), Offset::Offset(3));
}

#[test]
fn retention_removes_old_segments_but_never_what_a_registered_group_has_not_committed() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { sweep_interval_ms: 100, ..Config::new(dir.path()) };
    let broker = TestBroker::start(config.clone());
    let address = broker.servers();
    let settings = [("segment.bytes", "65536"), ("retention.bytes", "65536"), ("retention.ms", "-1")];
    create_topic(&address, "held", 1, &settings);
    create_topic(&address, "free", 1, &settings);
    // It subscribes and never commits; then it is closed, and the broker restarts.
    let slow: BaseConsumer = consumer(&address, "slow", &[]);
    slow.subscribe(&["held"]).unwrap();
    shared(&[&slow], 1);
    drop(slow);
    broker.stop();
    let broker = TestBroker::start_on(config, &address);
    let producer = producer(&address, &[("batch.size", "16384")]);
    for topic in ["held", "free"] {
        send_all(&producer, topic, (0..500).map(|number| format!("{number} {}", "x".repeat(1_000))));
    }
    let start = |topic: &str| consumer(&address, "asks", &[]).fetch_watermarks(topic, 0, DEADLINE).unwrap().0;
    wait_for("retention to remove what nobody holds", || (start("free") > 0).then_some(()));
    assert_eq!(start("held"), 0, "the group that has committed nothing holds everything");
    let slow: BaseConsumer = consumer(&address, "slow", &[]);
    commit(&slow, "held", 0, 300).unwrap();
    let moved = wait_for("retention to go up to the commit", || Some(start("held")).filter(|start| *start > 0));
    assert!(moved <= 300, "{moved}");
    drop(broker);
}

#[test]
fn a_compacted_topic_keeps_the_last_record_of_each_key() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config { sweep_interval_ms: 100, ..Config::new(dir.path()) });
    let address = broker.servers();
    create_topic(&address, "compact", 1, &[("cleanup.policy", "compact"), ("segment.bytes", "65536")]);
    let producer = producer(&address, &[("batch.size", "8192")]);
    for round in 0..100 {
        for key in 0..10 {
            let payload = format!("{round} {}", "x".repeat(500));
            let key = format!("key {key}");
            let record = BaseRecord::to("compact").key(&key).payload(&payload).partition(0);
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
    }
    producer.flush(DEADLINE).unwrap();
    wait_for("compaction to thin the log", || {
        let reading: BaseConsumer = consumer(&address, "reads", &[("enable.partition.eof", "true")]);
        let mut all = TopicPartitionList::new();
        all.add_partition_offset("compact", 0, Offset::Beginning).unwrap();
        reading.assign(&all).unwrap();
        let (mut records, mut keys) = (0, std::collections::BTreeMap::new());
        loop {
            match reading.poll(Duration::from_secs(5)) {
                Some(Ok(message)) => {
                    records += 1;
                    let payload = String::from_utf8_lossy(message.payload().unwrap()).into_owned();
                    keys.insert(message.key().unwrap().to_vec(), payload);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(keys.len(), 10);
        assert!(keys.values().all(|last| last.starts_with("99 ")), "the last record of every key is there");
        (records < 500).then_some(())
    });
}
