//! Bytes that no client would send, and bounds that no client may pass.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use common::{DEADLINE, TestBroker, create_topic, wait_for};
use kafka_protocol::{
    messages::{
        ApiKey, ApiVersionsRequest, ApiVersionsResponse, FetchRequest, GroupId, JoinGroupRequest, ListOffsetsRequest,
        MetadataRequest, OffsetCommitRequest, ProduceRequest, RequestHeader, TopicName,
        fetch_request::{FetchPartition, FetchTopic},
        join_group_request::JoinGroupRequestProtocol,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        metadata_request::MetadataRequestTopic,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::{Decodable, Encodable, HeaderVersion, StrBytes},
};
use mantis_broker::{Broker, Config, Error, Limits};
use proptest::prelude::*;

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.into()))
}

fn frame<R: Encodable + HeaderVersion>(key: ApiKey, version: i16, request: &R) -> Vec<u8> {
    let mut body = BytesMut::new();
    let header = RequestHeader::default().with_request_api_key(key as i16).with_request_api_version(version);
    header.with_correlation_id(7).encode(&mut body, R::header_version(version)).unwrap();
    request.encode(&mut body, version).unwrap();
    framed(&body)
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_u32(body.len() as u32);
    frame.extend_from_slice(body);
    frame
}

fn connect(broker: &TestBroker) -> TcpStream {
    let stream = TcpStream::connect(broker.address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// The next answer; `None` if the broker closed the connection.
fn answer(stream: &mut TcpStream) -> Option<Bytes> {
    let mut length = [0; 4];
    let mut read = |buffer: &mut [u8]| match stream.read_exact(buffer) {
        Ok(()) => Some(()),
        Err(error) if [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset].contains(&error.kind()) => None,
        Err(error) => panic!("{error}"),
    };
    read(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    read(&mut answer)?;
    Some(answer.into())
}

fn is_alive(broker: &TestBroker) -> bool {
    let mut stream = connect(broker);
    stream.write_all(&frame(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default())).unwrap();
    answer(&mut stream).is_some()
}

/// Real requests, to be damaged.
fn requests() -> Vec<Vec<u8>> {
    let records = Bytes::from(vec![7; 80]);
    let produce = |acks| {
        let partition = PartitionProduceData::default().with_index(0).with_records(Some(records.clone()));
        let topic = TopicProduceData::default().with_name(name("t")).with_partition_data(vec![partition]);
        ProduceRequest::default().with_transactional_id(None).with_acks(acks).with_timeout_ms(100).with_topic_data(vec![topic])
    };
    let partition = FetchPartition::default().with_partition(0).with_partition_max_bytes(1_000_000);
    let fetch = FetchRequest::default()
        .with_max_bytes(1_000_000)
        .with_topics(vec![FetchTopic::default().with_topic(name("t")).with_partitions(vec![partition])]);
    let partition = ListOffsetsPartition::default().with_partition_index(0).with_timestamp(-1);
    let list = ListOffsetsRequest::default()
        .with_topics(vec![ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![partition])]);
    let metadata = MetadataRequest::default().with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name("t")))]));
    let protocol = JoinGroupRequestProtocol::default().with_metadata(Bytes::from(vec![0, 0, 0, 0, 0, 1, 0, 1, b't']));
    let join = JoinGroupRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_session_timeout_ms(6_000)
        .with_rebalance_timeout_ms(1)
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![protocol]);
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
    let commit = OffsetCommitRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![OffsetCommitRequestTopic::default().with_name(name("t")).with_partitions(vec![partition])]);
    vec![
        frame(ApiKey::Produce, 7, &produce(1)),
        frame(ApiKey::Produce, 9, &produce(-1)),
        frame(ApiKey::Fetch, 11, &fetch),
        frame(ApiKey::ListOffsets, 6, &list),
        frame(ApiKey::Metadata, 12, &metadata),
        frame(ApiKey::JoinGroup, 9, &join),
        frame(ApiKey::OffsetCommit, 8, &commit),
        frame(ApiKey::ApiVersions, 3, &ApiVersionsRequest::default()),
    ]
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// One broker for all cases, and a count of panics in its tasks.
fn battered() -> &'static TestBroker {
    static BROKER: OnceLock<(tempfile::TempDir, TestBroker)> = OnceLock::new();
    let (_, broker) = BROKER.get_or_init(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            told(panic);
        }));
        let dir = tempfile::tempdir().unwrap();
        let broker = TestBroker::start(Config::new(dir.path()));
        create_topic(&broker.servers(), "t", 1, &[]);
        (dir, broker)
    });
    broker
}

/// Sends the bytes and waits until the broker has dealt with them: it answers what follows, or has closed the connection.
fn batter(bytes: &[u8]) {
    let broker = battered();
    let mut stream = connect(broker);
    let probe = frame(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default());
    if stream.write_all(bytes).and_then(|()| stream.write_all(&probe)).is_ok() {
        let _ = stream.shutdown(std::net::Shutdown::Write);
        while answer(&mut stream).is_some() {}
    }
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    assert!(is_alive(broker));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_broker_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        batter(&framed(&body));
    }

    #[test]
    fn no_body_of_any_request_makes_the_broker_panic(
        key in 0_i16..70,
        version in 0_i16..18,
        body in proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(255), any::<u8>()], 0..120),
    ) {
        let mut bytes = BytesMut::new();
        bytes.put_i16(key);
        bytes.put_i16(version);
        bytes.put_i32(7);
        bytes.put_i16(-1);
        bytes.extend_from_slice(&body);
        batter(&framed(&bytes));
    }

    #[test]
    fn no_damage_to_a_real_request_makes_the_broker_panic(
        which in 0_usize..8,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let requests = requests();
        let mut body = requests[which][4..].to_vec();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if is_cut {
            body.truncate(cut.index(body.len()));
        }
        batter(&framed(&body));
    }
}

#[test]
fn every_real_request_of_the_damage_test_is_answered_when_it_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    create_topic(&broker.servers(), "t", 1, &[]);
    for request in requests() {
        let mut stream = connect(&broker);
        stream.write_all(&request).unwrap();
        let answer = answer(&mut stream).expect("an answer");
        assert_eq!(answer[..4], 7_i32.to_be_bytes());
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_even_if_the_first_has_to_wait() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    create_topic(&broker.servers(), "t", 1, &[]);
    let partition = FetchPartition::default().with_partition_max_bytes(1_000);
    let fetch = FetchRequest::default()
        .with_max_wait_ms(300)
        .with_min_bytes(1)
        .with_max_bytes(1_000)
        .with_topics(vec![FetchTopic::default().with_topic(name("t")).with_partitions(vec![partition])]);
    let mut bytes = frame(ApiKey::Fetch, 4, &fetch);
    bytes[8..12].copy_from_slice(&1_i32.to_be_bytes());
    for correlation in 2..10_i32 {
        let mut next = frame(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default());
        next[8..12].copy_from_slice(&correlation.to_be_bytes());
        bytes.extend(next);
    }
    let mut stream = connect(&broker);
    stream.write_all(&bytes).unwrap();
    for correlation in 1..10_i32 {
        assert_eq!(answer(&mut stream).unwrap()[..4], correlation.to_be_bytes());
    }
}

#[test]
fn a_request_that_claims_more_than_is_allowed_closes_the_connection_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    for claimed in [Limits::default().request_bytes_max as i32 + 1, i32::MAX, -1] {
        let mut stream = connect(&broker);
        stream.write_all(&claimed.to_be_bytes()).unwrap();
        assert_eq!(answer(&mut stream), None);
    }
}

#[test]
fn an_array_that_claims_more_elements_than_there_are_bytes_closes_the_connection() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    let mut body = BytesMut::new();
    body.put_i16(ApiKey::Metadata as i16);
    body.put_i16(1);
    body.put_i32(7);
    body.put_i16(-1);
    body.put_i32(i32::MAX);
    let mut stream = connect(&broker);
    stream.write_all(&framed(&body)).unwrap();
    assert_eq!(answer(&mut stream), None);
    assert!(is_alive(&broker));
}

#[test]
fn a_version_of_apiversions_that_is_too_new_is_answered_with_what_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    let mut request = frame(ApiKey::ApiVersions, 3, &ApiVersionsRequest::default());
    request[6..8].copy_from_slice(&99_i16.to_be_bytes());
    let mut stream = connect(&broker);
    stream.write_all(&request).unwrap();
    let mut answer = answer(&mut stream).unwrap().split_off(4);
    let versions = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!(versions.error_code, 35);
    let served = |key: ApiKey| versions.api_keys.iter().any(|version| version.api_key == key as i16);
    assert!(served(ApiKey::Produce) && served(ApiKey::OffsetForLeaderEpoch));
    assert!(!served(ApiKey::AddPartitionsToTxn) && !served(ApiKey::ShareFetch) && !served(ApiKey::CreateAcls));
}

#[test]
fn one_connection_too_many_is_closed_and_there_is_room_again_when_another_leaves() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { connections_max: 3, ..Limits::default() };
    let broker = TestBroker::start(Config { limits, ..Config::new(dir.path()) });
    let probe = frame(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default());
    let mut open: Vec<_> = (0..3).map(|_| connect(&broker)).collect();
    for stream in &mut open {
        stream.write_all(&probe).unwrap();
        assert!(answer(stream).is_some());
    }
    let mut refused = connect(&broker);
    let _ = refused.write_all(&probe);
    assert_eq!(answer(&mut refused), None);
    drop(open.pop());
    wait_for("room for a new connection", || {
        let mut stream = connect(&broker);
        stream.write_all(&probe).ok()?;
        answer(&mut stream)
    });
}

#[test]
fn a_client_that_begins_a_request_and_never_ends_it_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { frame_timeout_ms: 200, ..Limits::default() };
    let broker = TestBroker::start(Config { limits, ..Config::new(dir.path()) });
    let mut stream = connect(&broker);
    stream.write_all(&1_000_u32.to_be_bytes()).unwrap();
    assert_eq!(answer(&mut stream), None);
}

#[test]
fn topics_and_partitions_beyond_the_bounds_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { topics_max: 2, partitions_per_topic_max: 4, partitions_max: 6, ..Limits::default() };
    let broker = TestBroker::start(Config { limits, ..Config::new(dir.path()) });
    let create = |name: &str, partitions| {
        use rdkafka::admin::{NewTopic, TopicReplication};
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let created = common::block_on(common::admin(&broker.servers()).create_topics([&topic], &common::options()));
        created.unwrap().remove(0).is_ok()
    };
    assert!(!create("wide", 5));
    assert!(!create("no/slash", 1));
    assert!(create("first", 4));
    assert!(!create("second", 3), "seven partitions in all");
    assert!(create("second", 2));
    assert!(!create("third", 1));
}

#[tokio::test]
async fn a_data_folder_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let first = Broker::open(Config::new(dir.path())).await.unwrap();
    assert!(matches!(Broker::open(Config::new(dir.path())).await, Err(Error::Locked { .. })));
    let id = first.cluster_id().to_owned();
    drop(first);
    let again = Broker::open(Config::new(dir.path())).await.unwrap();
    assert_eq!((again.cluster_id(), again.leader_epoch()), (id.as_str(), 1));
}

#[test]
fn a_broker_with_idle_clients_that_wait_for_records_costs_almost_no_processor_time() {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    let dir = tempfile::tempdir().unwrap();
    let broker = common::BrokerProcess::start(dir.path(), "127.0.0.1:0");
    create_topic(&broker.servers, "quiet", 8, &[]);
    let consumers: Vec<BaseConsumer> = (0..4).map(|n| common::consumer(&broker.servers, &format!("g{n}"), &[])).collect();
    consumers.iter().for_each(|consumer| consumer.subscribe(&["quiet"]).unwrap());
    wait_for("assignments", || {
        let ready = |consumer: &BaseConsumer| {
            let _ = consumer.poll(Duration::from_millis(5));
            consumer.assignment().unwrap().count() == 8
        };
        consumers.iter().all(ready).then_some(())
    });
    let before = broker.cpu();
    let began = std::time::Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        consumers.iter().for_each(|consumer| drop(consumer.poll(Duration::from_millis(50))));
    }
    let share = (broker.cpu() - before).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(share < 0.02, "{:.2} % of a core", share * 100.0);
}

#[test]
fn a_broker_to_be_killed() {
    common::run_as_broker_process();
}
