//! Produce: append, then answer when the records are as safe as the client asked.

use std::{sync::Arc, time::Duration};

use kafka_protocol::{
    ResponseError,
    messages::{
        ProduceRequest, ProduceResponse,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::{PartitionProduceResponse, TopicProduceResponse},
    },
};
use tokio::{
    task,
    time::{Instant, timeout_at},
};

use super::{Reply, later, text};
use crate::{
    broker::{Core, now_ms},
    log,
    topics::{Refusal, Topic, Written},
    wire::frame::{FrameError, Request},
};

/// `acks`: every replica has it, which here is: the disk has it.
const ACKS_ALL: i16 = -1;
/// `acks`: no answer at all.
const ACKS_NONE: i16 = 0;
/// `acks`: appended, perhaps not yet on the disk.
const ACKS_LEADER: i16 = 1;
/// Longest wait for a sync, whatever the client allows.
const TIMEOUT_MAX_MS: u64 = 60_000;

/// An append whose records are not known to be durable yet.
struct Undurable {
    topic: usize,
    position: usize,
    written: Written,
}

pub(super) async fn produce(core: &Arc<Core>, request: Request) -> Result<Reply, FrameError> {
    let produced: ProduceRequest = request.decode()?;
    let acks = produced.acks;
    let timeout_ms = u64::try_from(produced.timeout_ms).unwrap_or(0).min(TIMEOUT_MAX_MS);
    let appending = Arc::clone(core);
    // Closed never; without a permit the records would wait here just as well.
    let _unpacking = if is_packed(&produced) { core.unpacking.acquire().await.ok() } else { None };
    let appended = task::spawn_blocking(move || append(&appending, produced)).await;
    let (mut responses, undurable) = appended.map_err(|panic| FrameError::Io(std::io::Error::other(panic)))?;
    if acks == ACKS_NONE {
        let refused = responses.iter().flat_map(|topic| &topic.partition_responses).any(|partition| partition.error_code != 0);
        // The only way to tell a client that wants no answers.
        let closed = || std::io::Error::other("a produce request without acknowledgement was refused");
        return if refused { Err(closed().into()) } else { Ok(Reply::Nothing) };
    }
    Ok(later(async move {
        if acks == ACKS_ALL {
            let deadline = Instant::now() + Duration::from_millis(timeout_ms);
            for Undurable { topic, position, mut written } in undurable {
                let durable = timeout_at(deadline, written.durable()).await;
                let failed = durable.map_or(Some(ResponseError::RequestTimedOut), Result::err);
                let response = responses.get_mut(topic).and_then(|topic| topic.partition_responses.get_mut(position));
                if let (Some(error), Some(response)) = (failed, response) {
                    response.error_code = error.code();
                    response.base_offset = -1;
                }
            }
        }
        request.answer(&ProduceResponse::default().with_responses(responses))
    }))
}

/// Whether records of it have to be unpacked to be looked at.
fn is_packed(produced: &ProduceRequest) -> bool {
    let partitions = produced.topic_data.iter().flat_map(|topic| &topic.partition_data);
    partitions.filter_map(|partition| partition.records.as_deref()).any(log::is_packed)
}

fn append(core: &Core, produced: ProduceRequest) -> (Vec<TopicProduceResponse>, Vec<Undurable>) {
    let mut undurable = Vec::new();
    let refused = if produced.transactional_id.is_some() {
        Some((ResponseError::TransactionalIdAuthorizationFailed, "this broker has no transactions"))
    } else if !matches!(produced.acks, ACKS_ALL | ACKS_NONE | ACKS_LEADER) {
        Some((ResponseError::InvalidRequiredAcks, "acks is -1, 0 or 1"))
    } else if core.room.is_full(now_ms()) {
        Some((ResponseError::KafkaStorageError, "the disk is nearly full: free space, and the producer's retries go through"))
    } else {
        None
    };
    let mut responses = Vec::with_capacity(produced.topic_data.len());
    for TopicProduceData { name, partition_data, .. } in produced.topic_data {
        let topic = core.topics.by_name(&name);
        let mut partitions = Vec::with_capacity(partition_data.len());
        for PartitionProduceData { index, records, .. } in partition_data {
            let appended = match (refused, &topic) {
                (Some((error, reason)), _) => Err((error, reason.to_owned())),
                (None, Some(topic)) => append_to(core, topic, index, &records.unwrap_or_default()),
                (None, None) => Err((ResponseError::UnknownTopicOrPartition, format!("there is no topic {}", name.as_str()))),
            };
            let response = PartitionProduceResponse::default().with_index(index);
            partitions.push(match appended {
                Ok(written) => {
                    let appended = written.appended;
                    undurable.push(Undurable { topic: responses.len(), position: partitions.len(), written });
                    response
                        .with_base_offset(appended.base_offset)
                        .with_log_append_time_ms(appended.append_time_ms)
                        .with_log_start_offset(-1)
                }
                Err((error, reason)) => {
                    tracing::debug!(topic = name.as_str(), partition = index, %error, reason, "produce refused");
                    response
                        .with_error_code(error.code())
                        .with_base_offset(-1)
                        .with_log_append_time_ms(-1)
                        .with_log_start_offset(-1)
                        .with_error_message(Some(text(reason)))
                }
            });
        }
        responses.push(TopicProduceResponse::default().with_name(name).with_partition_responses(partitions));
    }
    (responses, undurable)
}

fn append_to(core: &Core, topic: &Topic, index: i32, records: &[u8]) -> Result<Written, Refusal> {
    let unknown = || (ResponseError::UnknownTopicOrPartition, format!("topic {} has no partition {index}", topic.name));
    let partition = topic.partition(index).ok_or_else(unknown)?;
    partition.append(records, topic.settings().message_bytes_max, core.leader_epoch, now_ms())
}
