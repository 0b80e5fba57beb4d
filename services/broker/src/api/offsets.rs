//! Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
        OffsetFetchResponse,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic},
        offset_fetch_request::OffsetFetchRequestTopics,
        offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
            OffsetFetchResponseTopics,
        },
    },
};

use super::{Reply, code, later, text, topic_name};
use crate::{
    broker::{Core, now_ms},
    groups::{
        group::State,
        journal::{Change, Committed},
    },
    wire::frame::{FrameError, Request},
};

/// First version that asks for several groups.
const FETCH_GROUPS: i16 = 8;

pub(super) fn commit(core: &Arc<Core>, request: Request) -> Result<Reply, FrameError> {
    let asked: OffsetCommitRequest = request.decode()?;
    let refused = may_commit(core, &asked).err();
    let mut changes = Vec::new();
    let topics = asked.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let response = OffsetCommitResponsePartition::default().with_partition_index(partition.partition_index);
            let exists = || core.topics.by_name(&topic.name).and_then(|topic| topic.partition(partition.partition_index));
            let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
            let refused = refused.or_else(|| {
                if exists().is_none() {
                    Some(ResponseError::UnknownTopicOrPartition)
                } else if metadata.len() > core.config.limits.offset_metadata_bytes_max {
                    Some(ResponseError::OffsetMetadataTooLarge)
                } else if partition.committed_offset < 0 {
                    Some(ResponseError::InvalidRequest)
                } else {
                    None
                }
            });
            if let Some(error) = refused {
                return response.with_error_code(error.code());
            }
            changes.push(Change::Commit {
                group: asked.group_id.to_string(),
                topic: topic.name.to_string(),
                partition: partition.partition_index,
                offset: Committed {
                    offset: partition.committed_offset,
                    leader_epoch: partition.committed_leader_epoch,
                    metadata: metadata.to_owned(),
                    time_ms: now_ms(),
                },
            });
            response
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    let topics: Vec<_> = topics.collect();
    let mut response = OffsetCommitResponse::default().with_topics(topics);
    if changes.is_empty() {
        return request.answer(&response).map(Reply::Now);
    }
    // Queued now, so that commits keep their order; answered when they are on the disk.
    let recorded = core.groups.record(changes);
    Ok(later(async move {
        if let Err(error) = recorded.await {
            for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                if partition.error_code == super::NONE {
                    partition.error_code = error.code();
                }
            }
        }
        request.answer(&response)
    }))
}

fn may_commit(core: &Core, asked: &OffsetCommitRequest) -> Result<(), ResponseError> {
    let generation = asked.generation_id_or_member_epoch;
    if asked.group_id.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    if !core.groups.has_room_for(&asked.group_id) {
        return Err(ResponseError::GroupMaxSizeReached);
    }
    let instance = asked.group_instance_id.as_deref();
    let checked =
        core.groups.with(&asked.group_id, |group| group.check_commit(&asked.member_id, instance, generation, Instant::now()));
    // A group without members takes commits of consumers that assign their partitions themselves.
    checked.unwrap_or(if generation < 0 { Ok(()) } else { Err(ResponseError::UnknownMemberId) })
}

pub(super) fn fetch(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: OffsetFetchRequest = request.decode()?;
    if request.version >= FETCH_GROUPS {
        let groups = asked.groups.into_iter().map(|group| {
            let topics = committed(core, &group.group_id, group.topics);
            OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_topics(topics)
        });
        return request.answer(&OffsetFetchResponse::default().with_groups(groups.collect()));
    }
    let topics = asked.topics.map(|topics| {
        let topics = topics.into_iter();
        let same = topics.map(|topic| {
            OffsetFetchRequestTopics::default().with_name(topic.name).with_partition_indexes(topic.partition_indexes)
        });
        same.collect()
    });
    let topics = committed(core, &asked.group_id, topics).into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_committed_offset(partition.committed_offset)
                .with_committed_leader_epoch(partition.committed_leader_epoch)
                .with_metadata(partition.metadata)
        });
        OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
    });
    request.answer(&OffsetFetchResponse::default().with_topics(topics.collect()))
}

/// The group's offsets in the partitions asked for, or all of them.
fn committed(core: &Core, group: &str, asked: Option<Vec<OffsetFetchRequestTopics>>) -> Vec<OffsetFetchResponseTopics> {
    let kept = core.groups.kept(group).unwrap_or_default();
    let asked = asked.unwrap_or_else(|| {
        let all = kept.offsets.iter().map(|(topic, partitions)| {
            OffsetFetchRequestTopics::default()
                .with_name(topic_name(topic))
                .with_partition_indexes(partitions.keys().copied().collect())
        });
        all.collect()
    });
    let topics = asked.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|&index| {
            let response = OffsetFetchResponsePartitions::default().with_partition_index(index);
            match kept.committed(&topic.name, index) {
                Some(committed) => response
                    .with_committed_offset(committed.offset)
                    .with_committed_leader_epoch(committed.leader_epoch)
                    .with_metadata(Some(text(committed.metadata.as_str()))),
                None => response.with_committed_offset(-1).with_committed_leader_epoch(-1),
            }
        });
        let partitions = partitions.collect();
        OffsetFetchResponseTopics::default().with_name(topic.name).with_partitions(partitions)
    });
    topics.collect()
}

pub(super) async fn delete(core: &Core, request: Request) -> Result<Reply, FrameError> {
    let asked: OffsetDeleteRequest = request.decode()?;
    let Some(overview) = core.groups.overview(&asked.group_id) else {
        let response = OffsetDeleteResponse::default().with_error_code(ResponseError::GroupIdNotFound.code());
        return request.answer(&response).map(Reply::Now);
    };
    let live = overview.state != State::Empty;
    let subscribed = core.groups.with(&asked.group_id, |group| group.subscribed()).unwrap_or_default();
    if live && subscribed.is_empty() {
        let response = OffsetDeleteResponse::default().with_error_code(ResponseError::NonEmptyGroup.code());
        return request.answer(&response).map(Reply::Now);
    }
    let mut topics = Vec::new();
    for topic in asked.topics {
        let in_use = live && subscribed.contains(topic.name.as_str());
        let mut partitions = Vec::new();
        for partition in topic.partitions {
            let forget = Change::Forget {
                group: asked.group_id.to_string(),
                topic: topic.name.to_string(),
                partition: partition.partition_index,
            };
            let deleted =
                if in_use { Err(ResponseError::GroupSubscribedToTopic) } else { core.groups.record(vec![forget]).await };
            let response = OffsetDeleteResponsePartition::default().with_partition_index(partition.partition_index);
            partitions.push(response.with_error_code(code(&deleted)));
        }
        topics.push(OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions));
    }
    request.answer(&OffsetDeleteResponse::default().with_topics(topics)).map(Reply::Now)
}
