//! What the broker does with each request. A file per family: decode, apply, answer.

mod cluster;
mod configs;
mod fetch;
mod groups;
mod offsets;
mod produce;
mod records;
mod topics;

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{ApiKey, TopicName},
    protocol::StrBytes,
};
use tokio::task;

use crate::{
    broker::Core,
    wire::{
        connection::Outgoing,
        frame::{FrameError, Request},
    },
};

/// An answer, or the wait for it.
pub(crate) enum Reply {
    /// The client wants none.
    Nothing,
    /// It is there.
    Now(Bytes),
    /// It comes.
    Later(Pin<Box<dyn Future<Output = Result<Outgoing, FrameError>> + Send>>),
}

/// Code for success.
const NONE: i16 = 0;

/// Applies a request. Its effect is in place when this returns; what takes time is in the reply.
pub(crate) async fn apply(core: &Arc<Core>, host: &str, request: Request) -> Result<Reply, FrameError> {
    let served = (request.served.min..=request.served.max).contains(&request.version);
    match request.served.key {
        ApiKey::ApiVersions => return cluster::api_versions(&request, served).map(Reply::Now),
        _ if served => {}
        key => return Err(FrameError::NotServed { key: key as i16 }),
    }
    match request.served.key {
        ApiKey::Produce => produce::produce(core, request).await,
        ApiKey::Fetch => fetch::fetch(core, request),
        ApiKey::ListOffsets => blocking(core, request, records::list_offsets).await,
        ApiKey::OffsetForLeaderEpoch => blocking(core, request, records::offset_for_leader_epoch).await,
        ApiKey::DeleteRecords => blocking(core, request, records::delete_records).await,
        ApiKey::Metadata => cluster::metadata(core, request).await,
        ApiKey::DescribeCluster => cluster::describe_cluster(core, &request).map(Reply::Now),
        ApiKey::FindCoordinator => cluster::find_coordinator(core, &request).map(Reply::Now),
        ApiKey::InitProducerId => blocking(core, request, cluster::init_producer_id).await,
        ApiKey::CreateTopics => blocking(core, request, topics::create).await,
        ApiKey::DeleteTopics => topics::delete(core, request).await,
        ApiKey::CreatePartitions => blocking(core, request, topics::create_partitions).await,
        ApiKey::DescribeConfigs => configs::describe(core, &request).map(Reply::Now),
        ApiKey::AlterConfigs => blocking(core, request, configs::alter).await,
        ApiKey::IncrementalAlterConfigs => blocking(core, request, configs::alter_incrementally).await,
        ApiKey::JoinGroup => groups::join(core, host, request),
        ApiKey::SyncGroup => groups::sync(core, request),
        ApiKey::Heartbeat => groups::heartbeat(core, &request).map(Reply::Now),
        ApiKey::LeaveGroup => groups::leave(core, &request).map(Reply::Now),
        ApiKey::ListGroups => groups::list(core, &request).map(Reply::Now),
        ApiKey::DescribeGroups => groups::describe(core, &request).map(Reply::Now),
        ApiKey::DeleteGroups => groups::delete(core, request).await,
        ApiKey::OffsetCommit => offsets::commit(core, request),
        ApiKey::OffsetFetch => offsets::fetch(core, &request).map(Reply::Now),
        ApiKey::OffsetDelete => offsets::delete(core, request).await,
        key => Err(FrameError::NotServed { key: key as i16 }),
    }
}

/// Runs `answer` where it may block.
async fn blocking(
    core: &Arc<Core>,
    request: Request,
    answer: fn(&Core, &Request) -> Result<Bytes, FrameError>,
) -> Result<Reply, FrameError> {
    let core = Arc::clone(core);
    let answered = task::spawn_blocking(move || answer(&core, &request)).await;
    answered.map_err(|panic| FrameError::Io(std::io::Error::other(panic)))?.map(Reply::Now)
}

fn later(answer: impl Future<Output = Result<Bytes, FrameError>> + Send + 'static) -> Reply {
    Reply::Later(Box::pin(async move { Ok(Outgoing { frame: answer.await?, budget: None }) }))
}

fn code(outcome: &Result<(), ResponseError>) -> i16 {
    outcome.as_ref().err().map_or(NONE, ResponseError::code)
}

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// Kafka's rule for a client's idea of the leader epoch (KIP-320); -1 for none.
fn check_epoch(core: &Core, current: i32) -> Result<(), ResponseError> {
    match current {
        epoch if epoch < 0 || epoch == core.leader_epoch => Ok(()),
        epoch if epoch < core.leader_epoch => Err(ResponseError::FencedLeaderEpoch),
        _ => Err(ResponseError::UnknownLeaderEpoch),
    }
}
