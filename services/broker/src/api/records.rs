//! What is asked of logs besides records: ListOffsets, OffsetForLeaderEpoch, DeleteRecords.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
        OffsetForLeaderEpochResponse,
        delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
        offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
    },
};

use super::check_epoch;
use crate::{
    broker::Core,
    log::TimestampOffset,
    topics::Partition,
    wire::frame::{FrameError, Request},
};

/// Timestamps that stand for places in the log (Kafka's `ListOffsetsRequest`).
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
/// First version of ListOffsets that tells the epoch; the encoder refuses it before.
const HAS_EPOCH: i16 = 4;

fn partition(core: &Core, topic: &str, index: i32) -> Result<Arc<Partition>, ResponseError> {
    let topic = core.topics.by_name(topic).ok_or(ResponseError::UnknownTopicOrPartition)?;
    topic.partition(index).ok_or(ResponseError::UnknownTopicOrPartition)
}

pub(super) fn list_offsets(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: ListOffsetsRequest = request.decode()?;
    let topics = asked.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let found = check_epoch(core, asked.current_leader_epoch)
                .and_then(|()| partition(core, &topic.name, asked.partition_index))
                .and_then(|partition| offset_for(core, &partition, asked.timestamp));
            let response = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
            match found {
                Ok(found) => {
                    let epoch = if request.version >= HAS_EPOCH { found.leader_epoch } else { -1 };
                    response.with_timestamp(found.timestamp_ms).with_offset(found.offset).with_leader_epoch(epoch)
                }
                Err(error) => response.with_error_code(error.code()).with_timestamp(-1).with_offset(-1),
            }
        });
        let partitions = partitions.collect();
        ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions)
    });
    let topics = topics.collect();
    request.answer(&ListOffsetsResponse::default().with_topics(topics))
}

fn offset_for(core: &Core, partition: &Partition, timestamp: i64) -> Result<TimestampOffset, ResponseError> {
    let none = TimestampOffset { timestamp_ms: -1, offset: -1, leader_epoch: -1 };
    let place = |offset| TimestampOffset { offset, leader_epoch: core.leader_epoch, ..none };
    match timestamp {
        LATEST => Ok(place(partition.offsets()?.high_watermark)),
        EARLIEST => Ok(place(partition.offsets()?.start)),
        MAX_TIMESTAMP => partition.with_log(|log| log.max_timestamp()).map(|found| found.unwrap_or(none)),
        time if time >= 0 => partition.with_log(|log| log.offset_for_time(time)).map(|found| found.unwrap_or(none)),
        _ => Err(ResponseError::UnsupportedVersion),
    }
}

pub(super) fn offset_for_leader_epoch(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: OffsetForLeaderEpochRequest = request.decode()?;
    let topics = asked.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let end = check_epoch(core, asked.current_leader_epoch)
                .and_then(|()| partition(core, &topic.topic, asked.partition))
                .and_then(|partition| partition.with_log(|log| Ok(log.epoch_end(asked.leader_epoch, core.leader_epoch))));
            let response = EpochEndOffset::default().with_partition(asked.partition).with_leader_epoch(-1).with_end_offset(-1);
            match end {
                Ok(Some(end)) => response.with_leader_epoch(end.leader_epoch).with_end_offset(end.end_offset),
                Ok(None) => response,
                Err(error) => response.with_error_code(error.code()),
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions)
    });
    let topics = topics.collect();
    request.answer(&OffsetForLeaderEpochResponse::default().with_topics(topics))
}

pub(super) fn delete_records(core: &Core, request: &Request) -> Result<Bytes, FrameError> {
    let asked: DeleteRecordsRequest = request.decode()?;
    let topics = asked.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let deleted = partition(core, &topic.name, asked.partition_index)
                .and_then(|partition| partition.with_log(|log| log.delete_records(asked.offset)));
            let result = DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            match deleted {
                Ok(start) => result.with_low_watermark(start),
                Err(error) => result.with_low_watermark(-1).with_error_code(error.code()),
            }
        });
        let partitions = partitions.collect();
        DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions)
    });
    let topics = topics.collect();
    request.answer(&DeleteRecordsResponse::default().with_topics(topics))
}
