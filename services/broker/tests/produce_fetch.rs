//! Records in and out, with librdkafka: codecs, sizes, retries, restarts, kills.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{BrokerProcess, DEADLINE, TestBroker, create_topic, producer, read_all, send, send_all, wait_for};
use mantis_broker::Config;
use rdkafka::{consumer::Consumer, producer::Producer, types::RDKafkaErrorCode};

#[test]
fn a_broker_to_be_killed() {
    common::run_as_broker_process();
}

fn numbered(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("record {number} {}", "x".repeat(number % 300)))
}

#[test]
fn records_of_every_codec_come_back_as_they_were_sent() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("codec-{codec}");
        create_topic(&broker.servers(), &topic, 1, &[]);
        let producer = producer(&broker.servers(), &[("compression.codec", codec), ("acks", "all")]);
        send_all(&producer, &topic, numbered(2_000));
        let read = read_all(&broker.servers(), &topic, 1, 2_000);
        assert!(read.iter().map(|(_, _, payload)| payload.clone()).eq(numbered(2_000)), "{codec}");
        assert!(read.iter().map(|(_, offset, _)| *offset).eq(0..2_000), "{codec}");
    }
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart_with_its_topic_settings_and_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    create_topic(&broker.servers(), "kept", 3, &[("retention.ms", "-1")]);
    send_all(&producer(&broker.servers(), &[("acks", "all")]), "kept", numbered(500));
    let before: BTreeSet<_> = read_all(&broker.servers(), "kept", 3, 500).into_iter().collect();
    broker.stop();
    let broker = TestBroker::start(Config::new(dir.path()));
    assert_eq!(read_all(&broker.servers(), "kept", 3, 500).into_iter().collect::<BTreeSet<_>>(), before);
}

#[test]
fn a_record_that_is_larger_than_the_topic_allows_is_refused_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    create_topic(&broker.servers(), "small", 1, &[("max.message.bytes", "10000")]);
    let producer = producer(&broker.servers(), &[("acks", "all"), ("batch.size", "5000"), ("linger.ms", "0")]);
    send_all(&producer, "small", ["first".to_owned(), "x".repeat(20_000), "last".to_owned()]);
    let outcomes = producer.context().outcomes.lock().unwrap().clone();
    let refused: Vec<_> = outcomes.iter().filter_map(|delivery| delivery.outcome.err()).collect();
    assert_eq!(refused, [RDKafkaErrorCode::MessageSizeTooLarge]);
    let read: Vec<_> = read_all(&broker.servers(), "small", 1, 2).into_iter().map(|(_, _, payload)| payload).collect();
    assert_eq!(read, ["first", "last"]);
}

/// data-loss bug #21: a producer learns of every record that the broker did not take.
#[test]
fn a_full_disk_refuses_produce_with_an_error_that_is_retried_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    create_topic(&broker.servers(), "full", 1, &[]);
    broker.stop();
    let full = Config { min_free_bytes: u64::MAX, ..Config::new(dir.path()) };
    let broker = TestBroker::start(full);
    let address = broker.servers();
    let producer = producer(&address, &[("acks", "all"), ("enable.idempotence", "true"), ("retry.backoff.ms", "50")]);
    send(&producer, "full", "waits");
    assert!(producer.flush(Duration::from_secs(1)).is_err(), "nothing is acknowledged while the disk is full");
    assert!(producer.context().outcomes.lock().unwrap().is_empty(), "the client retries instead of giving up");
    broker.stop();
    let _broker = TestBroker::start_on(Config::new(dir.path()), &address);
    producer.flush(DEADLINE).unwrap();
    let read = read_all(&address, "full", 1, 1);
    assert_eq!(read, [(0, 0, "waits".to_owned())]);
}

#[test]
fn records_that_are_not_acknowledged_wait_for_no_sync_but_are_read_only_once_durable() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    for acks in ["0", "1"] {
        let topic = format!("acks-{acks}");
        create_topic(&broker.servers(), &topic, 1, &[]);
        send_all(&producer(&broker.servers(), &[("acks", acks)]), &topic, numbered(100));
        assert_eq!(read_all(&broker.servers(), &topic, 1, 100).len(), 100);
    }
}

/// Passes bytes between clients and the broker, and cuts a connection instead of passing on some of the answers.
fn lossy_proxy(broker: String, losses: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let lost = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&lost);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (client, server) = (stream.unwrap(), TcpStream::connect(&broker).unwrap());
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            let counter = Arc::clone(&counter);
            std::thread::spawn(move || pass_answers(server, client, &counter, losses));
        }
    });
    (address, lost)
}

fn pass_answers(mut server: TcpStream, mut client: TcpStream, lost: &AtomicUsize, losses: usize) {
    let mut answers = 0;
    let mut length = [0; 4];
    while server.read_exact(&mut length).is_ok() {
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        if server.read_exact(&mut answer).is_err() {
            break;
        }
        answers += 1;
        if answers % 10 == 0 && lost.fetch_add(1, Ordering::SeqCst) < losses {
            break;
        }
        if client.write_all(&length).and_then(|()| client.write_all(&answer)).is_err() {
            break;
        }
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    let _ = server.shutdown(std::net::Shutdown::Both);
}

#[test]
fn an_idempotent_producer_whose_answers_are_lost_writes_every_record_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    // Clients connect to what metadata names, so that is the proxy.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let behind = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (address, lost) = lossy_proxy(behind.clone(), 15);
    let (host, port) = address.rsplit_once(':').unwrap();
    let advertised = Some((host.to_owned(), port.parse().unwrap()));
    let broker = TestBroker::start_on(Config { advertised, ..Config::new(dir.path()) }, &behind);
    create_topic(&address, "once", 1, &[]);
    let settings =
        [("enable.idempotence", "true"), ("linger.ms", "1"), ("batch.num.messages", "20"), ("reconnect.backoff.ms", "10")];
    let producer = producer(&address, &settings);
    send_all(&producer, "once", numbered(5_000));
    assert!(lost.load(Ordering::SeqCst) >= 15, "answers were lost");
    assert!(producer.context().outcomes.lock().unwrap().iter().all(|delivery| delivery.outcome.is_ok()));
    let read = read_all(&broker.servers(), "once", 1, 5_000);
    assert!(read.into_iter().map(|(_, _, payload)| payload).eq(numbered(5_000)));
}

/// data-loss bug #23: what was acknowledged is on the disk before anything says so.
#[test]
fn nothing_that_was_acknowledged_is_lost_or_doubled_when_the_broker_is_killed_under_load() {
    const ROUNDS: usize = 5;
    let dir = tempfile::tempdir().unwrap();
    let mut broker = BrokerProcess::start(dir.path(), "127.0.0.1:0");
    let address = broker.servers.clone();
    create_topic(&address, "load", 2, &[]);
    let producer = producer(&address, &[("enable.idempotence", "true"), ("linger.ms", "2"), ("reconnect.backoff.ms", "10")]);
    let mut sent = 0;
    for _ in 0..ROUNDS {
        let acknowledged = producer.context().outcomes.lock().unwrap().len();
        while producer.context().outcomes.lock().unwrap().len() < acknowledged + 5_000 {
            send(&producer, "load", &format!("record {sent}"));
            sent += 1;
        }
        assert!(producer.in_flight_count() > 0, "the kill finds records under way");
        broker.kill();
        broker = BrokerProcess::start(dir.path(), &address);
    }
    producer.flush(DEADLINE).unwrap();
    let outcomes = producer.context().outcomes.lock().unwrap().clone();
    let mut acknowledged = BTreeMap::new();
    for delivery in outcomes {
        acknowledged.insert(delivery.outcome.expect("every record is acknowledged in the end"), delivery.payload);
    }
    assert_eq!(acknowledged.len(), sent);
    let read = read_all(&address, "load", 2, sent);
    let distinct: BTreeSet<_> = read.iter().map(|(_, _, payload)| payload).collect();
    assert_eq!(distinct.len(), sent, "no record is there twice");
    let (mut last, mut gaps) = (BTreeMap::new(), 0);
    for (partition, offset, payload) in &read {
        gaps += usize::from(last.insert(*partition, *offset).map_or(0, |last| last + 1) != *offset);
        // A retry that was appended before the kill is acknowledged without an offset.
        if let Some(told) = acknowledged.get(&(*partition, *offset)) {
            assert_eq!(told, payload);
        }
    }
    assert_eq!(gaps, 0, "offsets are contiguous");
}

#[test]
fn a_topic_that_is_missing_is_made_if_the_settings_allow_it_and_is_an_error_otherwise() {
    let (allowed, denied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let broker = TestBroker::start(Config { default_partitions: 3, ..Config::new(allowed.path()) });
    send_all(&producer(&broker.servers(), &[]), "made", numbered(10));
    let metadata = common::consumer(&broker.servers(), "g", &[]).fetch_metadata(Some("made"), DEADLINE).unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 3);
    let broker = TestBroker::start(Config { auto_create_topics: false, ..Config::new(denied.path()) });
    let producer = producer(&broker.servers(), &[("message.timeout.ms", "2000")]);
    send_all(&producer, "made", numbered(1));
    assert!(producer.context().outcomes.lock().unwrap()[0].outcome.is_err());
}

#[test]
fn a_waiting_consumer_is_woken_by_a_record_and_not_by_time() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    create_topic(&broker.servers(), "wake", 4, &[]);
    let consumer =
        common::consumer(&broker.servers(), "sleeper", &[("fetch.wait.max.ms", "60000"), ("socket.timeout.ms", "70000")]);
    consumer.subscribe(&["wake"]).unwrap();
    let producer = producer(&broker.servers(), &[("linger.ms", "0")]);
    let poll = || consumer.poll(Duration::from_millis(50)).map(|message| message.unwrap().detach());
    // A client asks for the partitions whose offset it knows, and for the others once it is answered: until it has read
    // of each it may wait for some of them alone.
    let (mut sent, mut read, mut partitions) = (0, 0, BTreeSet::new());
    wait_for("records of all partitions", || {
        if partitions.len() < 4 {
            send(&producer, "wake", "warm up");
            producer.flush(DEADLINE).unwrap();
            sent += 1;
        }
        let found = poll()?;
        read += 1;
        partitions.insert(rdkafka::Message::partition(&found));
        (partitions.len() == 4 && read == sent).then_some(())
    });
    for number in 0..20 {
        send(&producer, "wake", &number.to_string());
        producer.flush(DEADLINE).unwrap();
        let found = wait_for("the record", poll);
        assert_eq!(rdkafka::Message::payload(&found), Some(number.to_string().as_bytes()));
    }
}
