//! Every request that is served, in every version that is claimed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod common;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use bytes::{BufMut, Bytes, BytesMut};
use common::{DEADLINE, TestBroker, create_topic, producer, send_all};
use kafka_protocol::{
    messages::*,
    protocol::{Decodable, Encodable, HeaderVersion, StrBytes},
};
use mantis_broker::Config;

const TOPIC: &str = "t";

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn topic() -> TopicName {
    TopicName(text(TOPIC))
}

fn group() -> GroupId {
    GroupId(text("g"))
}

fn encoded<R: Encodable + HeaderVersion>(key: ApiKey, version: i16, request: &R) -> Vec<u8> {
    let mut body = BytesMut::new();
    let header = RequestHeader::default().with_request_api_key(key as i16).with_request_api_version(version);
    header.with_correlation_id(7).encode(&mut body, R::header_version(version)).unwrap();
    request.encode(&mut body, version).unwrap_or_else(|error| panic!("{key:?} {version}: {error}"));
    let mut frame = Vec::new();
    frame.put_u32(body.len() as u32);
    frame.extend_from_slice(&body);
    frame
}

fn fetch(version: i16, id: uuid::Uuid) -> FetchRequest {
    use fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let asked = FetchTopic::default().with_partitions(vec![partition]);
    let asked = if version >= 13 { asked.with_topic_id(id) } else { asked.with_topic(topic()) };
    let forgotten = if version >= 7 { vec![ForgottenTopic::default().with_partitions(vec![1])] } else { Vec::new() };
    FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![asked]).with_forgotten_topics_data(forgotten)
}

/// A request with something in each of its arrays.
fn request(key: ApiKey, version: i16, id: uuid::Uuid) -> Vec<u8> {
    match key {
        ApiKey::Produce => {
            use produce_request::{PartitionProduceData, TopicProduceData};
            let data = PartitionProduceData::default().with_records(Some(Bytes::from_static(&[1; 70])));
            let data = TopicProduceData::default().with_name(topic()).with_partition_data(vec![data]);
            let request = ProduceRequest::default().with_transactional_id(None).with_acks(-1).with_topic_data(vec![data]);
            encoded(key, version, &request)
        }
        ApiKey::Fetch => encoded(key, version, &fetch(version, id)),
        ApiKey::ListOffsets => {
            use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
            let partitions = [-1, -2, 5].map(|timestamp| ListOffsetsPartition::default().with_timestamp(timestamp));
            let asked = ListOffsetsTopic::default().with_name(topic()).with_partitions(partitions.to_vec());
            encoded(key, version, &ListOffsetsRequest::default().with_topics(vec![asked]))
        }
        ApiKey::Metadata => {
            let asked = metadata_request::MetadataRequestTopic::default().with_name(Some(topic()));
            encoded(key, version, &MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(true))
        }
        ApiKey::OffsetCommit => {
            use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
            let partition =
                OffsetCommitRequestPartition::default().with_committed_offset(1).with_committed_metadata(Some(text("m")));
            let asked = OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(vec![partition]);
            let request = OffsetCommitRequest::default().with_group_id(group()).with_generation_id_or_member_epoch(-1);
            encoded(key, version, &request.with_topics(vec![asked]))
        }
        ApiKey::OffsetFetch if version >= 8 => {
            use offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
            let asked = OffsetFetchRequestTopics::default().with_name(topic()).with_partition_indexes(vec![0, 1]);
            let asked = OffsetFetchRequestGroup::default().with_group_id(group()).with_topics(Some(vec![asked]));
            let request = OffsetFetchRequest::default().with_groups(vec![asked]).with_topics(Some(Vec::new()));
            encoded(key, version, &request)
        }
        ApiKey::OffsetFetch => {
            let asked = offset_fetch_request::OffsetFetchRequestTopic::default();
            let asked = asked.with_name(topic()).with_partition_indexes(vec![0, 1]);
            encoded(key, version, &OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![asked])))
        }
        ApiKey::FindCoordinator if version >= 4 => {
            encoded(key, version, &FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g"), text("h")]))
        }
        ApiKey::FindCoordinator => encoded(key, version, &FindCoordinatorRequest::default().with_key(text("g"))),
        ApiKey::JoinGroup => {
            let protocol = join_group_request::JoinGroupRequestProtocol::default().with_name(text("range"));
            let request = JoinGroupRequest::default()
                .with_group_id(GroupId(StrBytes::from_string(format!("joins-{version}"))))
                .with_session_timeout_ms(6_000)
                .with_protocol_type(text("consumer"))
                .with_protocols(vec![protocol.with_metadata(Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"))]);
            encoded(key, version, &request)
        }
        ApiKey::Heartbeat => encoded(key, version, &HeartbeatRequest::default().with_group_id(group())),
        ApiKey::LeaveGroup => {
            let members = vec![leave_group_request::MemberIdentity::default().with_member_id(text("m"))];
            let request = LeaveGroupRequest::default().with_group_id(group());
            encoded(key, version, &if version >= 3 { request.with_members(members) } else { request.with_member_id(text("m")) })
        }
        ApiKey::SyncGroup => {
            let assigned = sync_group_request::SyncGroupRequestAssignment::default().with_assignment(Bytes::from_static(b"a"));
            encoded(key, version, &SyncGroupRequest::default().with_group_id(group()).with_assignments(vec![assigned]))
        }
        ApiKey::DescribeGroups => encoded(key, version, &DescribeGroupsRequest::default().with_groups(vec![group()])),
        ApiKey::ListGroups => {
            let mut request = ListGroupsRequest::default();
            if version >= 4 {
                request.states_filter = vec![text("Stable"), text("Empty")];
            }
            encoded(key, version, &request)
        }
        ApiKey::ApiVersions => encoded(key, version, &ApiVersionsRequest::default()),
        ApiKey::CreateTopics => {
            use create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
            let assigned = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)]);
            let config = CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("1")));
            let asked = CreatableTopic::default()
                .with_name(TopicName(StrBytes::from_string(format!("created-{version}"))))
                .with_num_partitions(-1)
                .with_replication_factor(-1)
                .with_assignments(vec![assigned])
                .with_configs(vec![config]);
            encoded(key, version, &CreateTopicsRequest::default().with_topics(vec![asked]))
        }
        ApiKey::DeleteTopics if version >= 6 => {
            let asked = delete_topics_request::DeleteTopicState::default().with_name(Some(TopicName(text("none"))));
            encoded(key, version, &DeleteTopicsRequest::default().with_topics(vec![asked]))
        }
        ApiKey::DeleteTopics => {
            encoded(key, version, &DeleteTopicsRequest::default().with_topic_names(vec![TopicName(text("none"))]))
        }
        ApiKey::DeleteRecords => {
            use delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
            let asked = DeleteRecordsTopic::default().with_name(topic());
            let asked = asked.with_partitions(vec![DeleteRecordsPartition::default().with_offset(1)]);
            encoded(key, version, &DeleteRecordsRequest::default().with_topics(vec![asked]))
        }
        ApiKey::InitProducerId => encoded(key, version, &InitProducerIdRequest::default().with_transactional_id(None)),
        ApiKey::OffsetForLeaderEpoch => {
            use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
            let asked = OffsetForLeaderTopic::default().with_topic(topic());
            let asked = asked.with_partitions(vec![OffsetForLeaderPartition::default()]);
            encoded(key, version, &OffsetForLeaderEpochRequest::default().with_topics(vec![asked]))
        }
        ApiKey::DescribeConfigs => {
            let asked = describe_configs_request::DescribeConfigsResource::default().with_resource_type(2);
            let asked = asked.with_resource_name(text(TOPIC)).with_configuration_keys(Some(vec![text("retention.ms")]));
            encoded(key, version, &DescribeConfigsRequest::default().with_resources(vec![asked]).with_include_synonyms(true))
        }
        ApiKey::AlterConfigs => {
            use alter_configs_request::{AlterConfigsResource, AlterableConfig};
            let config = AlterableConfig::default().with_name(text("retention.ms")).with_value(Some(text("-1")));
            let asked = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text(TOPIC));
            encoded(key, version, &AlterConfigsRequest::default().with_resources(vec![asked.with_configs(vec![config])]))
        }
        ApiKey::IncrementalAlterConfigs => {
            use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
            let config = AlterableConfig::default().with_name(text("cleanup.policy")).with_config_operation(2);
            let config = config.with_value(Some(text("compact")));
            let asked = AlterConfigsResource::default().with_resource_type(2).with_resource_name(text(TOPIC));
            encoded(
                key,
                version,
                &IncrementalAlterConfigsRequest::default().with_resources(vec![asked.with_configs(vec![config])]),
            )
        }
        ApiKey::CreatePartitions => {
            use create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
            let assigned = CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1)]);
            let asked = CreatePartitionsTopic::default().with_name(topic()).with_count(2).with_assignments(Some(vec![assigned]));
            encoded(key, version, &CreatePartitionsRequest::default().with_topics(vec![asked]).with_validate_only(true))
        }
        ApiKey::DeleteGroups => {
            encoded(key, version, &DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text("x"))]))
        }
        ApiKey::OffsetDelete => {
            use offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
            let asked = OffsetDeleteRequestTopic::default().with_name(topic());
            let asked = asked.with_partitions(vec![OffsetDeleteRequestPartition::default()]);
            encoded(key, version, &OffsetDeleteRequest::default().with_group_id(group()).with_topics(vec![asked]))
        }
        ApiKey::DescribeCluster => encoded(key, version, &DescribeClusterRequest::default()),
        key => panic!("{key:?} is served and not tested"),
    }
}

/// The answer without length and correlation id; `None` if the broker closed the connection instead.
fn ask(broker: &TestBroker, request: &[u8]) -> Option<Bytes> {
    let mut stream = TcpStream::connect(broker.address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(request).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut answer).unwrap();
    Some(Bytes::from(answer).split_off(4))
}

fn topic_id(broker: &TestBroker) -> uuid::Uuid {
    let asked = metadata_request::MetadataRequestTopic::default().with_name(Some(topic()));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let mut answer = ask(broker, &encoded(ApiKey::Metadata, 12, &request)).unwrap().split_off(1);
    MetadataResponse::decode(&mut answer, 12).unwrap().topics[0].topic_id
}

#[test]
fn every_request_that_is_claimed_is_answered_in_every_version_that_is_claimed() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    create_topic(&broker.servers(), TOPIC, 1, &[]);
    let id = topic_id(&broker);
    let mut answer = ask(&broker, &encoded(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default())).unwrap();
    let claimed = ApiVersionsResponse::decode(&mut answer, 0).unwrap().api_keys;
    assert_eq!(claimed.len(), 26);
    for claim in claimed {
        let key = ApiKey::try_from(claim.api_key).unwrap();
        // Produce below 3 is claimed for the sake of old clients and never sent.
        let min = if key == ApiKey::Produce { 3 } else { claim.min_version };
        for version in min..=claim.max_version {
            assert!(ask(&broker, &request(key, version, id)).is_some(), "{key:?} version {version}");
        }
    }
}

#[test]
fn a_fetch_of_every_version_carries_the_records() {
    let dir = tempfile::tempdir().unwrap();
    let broker = TestBroker::start(Config::new(dir.path()));
    create_topic(&broker.servers(), TOPIC, 1, &[]);
    send_all(&producer(&broker.servers(), &[]), TOPIC, ["one".to_owned(), "two".to_owned()]);
    let id = topic_id(&broker);
    let mut records = None;
    for version in 4..=16 {
        let mut answer = ask(&broker, &encoded(ApiKey::Fetch, version, &fetch(version, id))).unwrap();
        let header = usize::from(version >= 12);
        let mut answer = answer.split_off(header);
        let response = FetchResponse::decode(&mut answer, version).unwrap();
        assert!(answer.is_empty(), "version {version} leaves {} bytes", answer.len());
        let partition = &response.responses[0].partitions[0];
        assert_eq!((partition.error_code, partition.high_watermark, partition.last_stable_offset), (0, 2, 2));
        let found = partition.records.clone().unwrap();
        assert!(found.windows(3).any(|bytes| bytes == b"two"));
        assert_eq!(*records.get_or_insert(found.clone()), found);
    }
}
