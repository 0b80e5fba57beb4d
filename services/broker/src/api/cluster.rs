//! Who is here and what is served: ApiVersions, Metadata, DescribeCluster, FindCoordinator, InitProducerId.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        ApiKey, ApiVersionsResponse, BrokerId, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest,
        FindCoordinatorResponse, InitProducerIdRequest, InitProducerIdResponse, MetadataRequest, MetadataResponse, ProducerId,
        TopicName,
        api_versions_response::ApiVersion,
        describe_cluster_response::DescribeClusterBroker,
        find_coordinator_response::Coordinator,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
};
use uuid::Uuid;

use super::{NONE, Reply, blocking, text, topic_name};
use crate::{
    broker::{Core, NODE_ID},
    topics::Topic,
    wire::{
        frame::{FrameError, Request},
        shape::SERVED,
    },
};

/// "Not asked for", in fields of permitted operations.
const OPERATIONS_UNKNOWN: i32 = i32::MIN;
/// The only key type with a coordinator here; the others are transactions and share groups.
const GROUP_KEY: i8 = 0;
/// The only endpoint type of DescribeCluster here; the other is controllers.
const BROKERS: i8 = 1;

pub(super) fn api_versions(request: &Request, served: bool) -> Result<Bytes, FrameError> {
    let versions = SERVED.iter().map(|served| {
        // librdkafka before 2.11 compresses only if Produce reaches down to version 0 (KAFKA-18659), which Kafka 4 itself
        // claims for that reason. Nobody sends it: it is older than the record batches that are served.
        let min = if served.key == ApiKey::Produce { 0 } else { served.min };
        ApiVersion::default().with_api_key(served.key as i16).with_min_version(min).with_max_version(served.max)
    });
    let response = ApiVersionsResponse::default().with_api_keys(versions.collect());
    if served {
        request.answer(&response)
    } else {
        // Version 0 is the form that every client can read when it asked with a version that is not known here.
        request.answer_as(&response.with_error_code(ResponseError::UnsupportedVersion.code()), 0)
    }
}

pub(super) async fn metadata(core: &Arc<Core>, request: Request) -> Result<Reply, FrameError> {
    let asked: MetadataRequest = request.decode()?;
    let creates = asked.topics.as_ref().is_some_and(|topics| {
        topics.iter().any(|topic| topic.name.as_ref().is_some_and(|name| core.topics.by_name(name).is_none()))
    });
    if creates { blocking(core, request, answer_metadata).await } else { answer_metadata(core, &request).map(Reply::Now) }
}

fn answer_metadata(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: MetadataRequest = request.decode()?;
    let may_create = asked.allow_auto_topic_creation || request.version < 4;
    let topics = match asked.topics {
        None => core.topics.all().iter().map(|topic| describe(core, topic)).collect(),
        Some(topics) if topics.is_empty() && request.version == 0 => {
            core.topics.all().iter().map(|topic| describe(core, topic)).collect()
        }
        Some(topics) => topics
            .into_iter()
            .map(|topic| match topic.name {
                Some(name) => find(core, name, may_create),
                None => core
                    .topics
                    .by_id(topic.topic_id)
                    .map_or_else(|| unknown(None, topic.topic_id, ResponseError::UnknownTopicId), |topic| describe(core, &topic)),
            })
            .collect(),
    };
    let (host, port) = core.endpoint();
    let broker = MetadataResponseBroker::default().with_node_id(BrokerId(NODE_ID)).with_host(text(host)).with_port(port);
    request.answer(
        &MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_cluster_id(Some(text(core.cluster_id.as_str())))
            .with_controller_id(BrokerId(NODE_ID))
            .with_topics(topics)
            .with_cluster_authorized_operations(OPERATIONS_UNKNOWN),
    )
}

fn find(core: &Core, name: TopicName, may_create: bool) -> MetadataResponseTopic {
    match core.topic_or_create(&name, may_create) {
        Ok(topic) => describe(core, &topic),
        Err((error, _)) => unknown(Some(name), Uuid::nil(), error),
    }
}

fn describe(core: &Core, topic: &Topic) -> MetadataResponseTopic {
    let this = || vec![BrokerId(NODE_ID)];
    let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
    let partitions = (0..count).map(|index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(NODE_ID))
            .with_leader_epoch(core.leader_epoch)
            .with_replica_nodes(this())
            .with_isr_nodes(this())
    });
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(OPERATIONS_UNKNOWN)
}

fn unknown(name: Option<TopicName>, id: Uuid, error: ResponseError) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(name)
        .with_topic_id(id)
        .with_topic_authorized_operations(OPERATIONS_UNKNOWN)
}

pub(super) fn describe_cluster(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: DescribeClusterRequest = request.decode()?;
    let response = DescribeClusterResponse::default()
        .with_endpoint_type(asked.endpoint_type)
        .with_cluster_id(text(core.cluster_id.as_str()))
        .with_controller_id(BrokerId(NODE_ID))
        .with_cluster_authorized_operations(OPERATIONS_UNKNOWN);
    if request.version >= 1 && asked.endpoint_type != BROKERS {
        let error = ResponseError::UnsupportedEndpointType;
        return request.answer(&response.with_error_code(error.code()));
    }
    let (host, port) = core.endpoint();
    let broker = DescribeClusterBroker::default().with_broker_id(BrokerId(NODE_ID)).with_host(text(host)).with_port(port);
    request.answer(&response.with_brokers(vec![broker]))
}

pub(super) fn find_coordinator(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: FindCoordinatorRequest = request.decode()?;
    let (host, port) = core.endpoint();
    let error = if asked.key_type == GROUP_KEY { NONE } else { ResponseError::CoordinatorNotAvailable.code() };
    let coordinators = asked.coordinator_keys.into_iter().map(|key| {
        Coordinator::default()
            .with_key(key)
            .with_node_id(BrokerId(NODE_ID))
            .with_host(text(host.as_str()))
            .with_port(port)
            .with_error_code(error)
    });
    let mut response = FindCoordinatorResponse::default();
    if request.version >= 4 {
        response = response.with_coordinators(coordinators.collect());
    } else {
        response = response.with_node_id(BrokerId(NODE_ID)).with_host(text(host)).with_port(port).with_error_code(error);
    }
    request.answer(&response)
}

pub(super) fn init_producer_id(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: InitProducerIdRequest = request.decode()?;
    let refused = |error: ResponseError| {
        InitProducerIdResponse::default().with_error_code(error.code()).with_producer_id(ProducerId(-1)).with_producer_epoch(-1)
    };
    let response = if asked.transactional_id.is_some() {
        // No transactions here; the code that clients take as final.
        refused(ResponseError::TransactionalIdAuthorizationFailed)
    } else {
        match core.next_producer_id() {
            // A client that asks for its next epoch is as well served by a new id.
            Ok(id) => InitProducerIdResponse::default().with_producer_id(ProducerId(id)).with_producer_epoch(0),
            Err(error) => {
                tracing::error!(%error, "cannot give out a producer id");
                refused(ResponseError::CoordinatorNotAvailable)
            }
        }
    };
    request.answer(&response)
}
