//! Positions of partitions and groups, asked of the brokers without blocking a thread.

use std::{collections::HashMap, sync::Arc, time::Duration};

use mantis_pipeline::TopicPartition;
use tokio::time::timeout;

use crate::{
    Error,
    error::Code,
    raw::{End, Entry, Handle, Queue, Reply},
};

/// Beyond librdkafka's own limit on a request, which answers with the reason.
const GRACE_MS: u64 = 1_000;

/// The first position that the log has and the one after its last record, of each partition.
pub(crate) async fn ends(
    handle: &Handle,
    partitions: &[TopicPartition],
    wait_ms: u32,
) -> Result<HashMap<TopicPartition, (i64, i64)>, Error> {
    let (first, last) =
        tokio::try_join!(offsets(handle, partitions, End::First, wait_ms), offsets(handle, partitions, End::Last, wait_ms))?;
    partitions
        .iter()
        .map(|partition| match (first.get(partition), last.get(partition)) {
            (Some(first), Some(last)) => Ok((partition.clone(), (*first, *last))),
            _ => Err(Error::Unavailable(format!("the brokers said nothing about {partition}; it is asked again"))),
        })
        .collect()
}

/// One end of the log of each partition.
pub(crate) async fn offsets(
    handle: &Handle,
    partitions: &[TopicPartition],
    end: End,
    wait_ms: u32,
) -> Result<HashMap<TopicPartition, i64>, Error> {
    if partitions.is_empty() {
        return Ok(HashMap::new());
    }
    let replies = Queue::replies(handle.clone());
    handle.list_offsets(partitions, end, wait_ms.cast_signed(), &replies)?;
    let names = Names::of(partitions);
    let what = "cannot read the positions of the log";
    let mut found = HashMap::new();
    for entry in reply(&replies, wait_ms, what).await?.entries().map_err(|code| Error::from_code(code, what))? {
        if entry.code.is_error() {
            return Err(Error::from_code(entry.code, format_args!("{what} of {}/{}", entry.topic, entry.partition)));
        }
        found.insert(names.name(&entry), entry.offset);
    }
    Ok(found)
}

/// The committed offsets of a group: of `partitions`, or of all it has any for. Partitions without one are left out.
pub(crate) async fn committed(
    handle: &Handle,
    group: &str,
    partitions: Option<&[TopicPartition]>,
    wait_ms: u32,
) -> Result<HashMap<TopicPartition, i64>, Error> {
    if partitions.is_some_and(<[_]>::is_empty) {
        return Ok(HashMap::new());
    }
    let replies = Queue::replies(handle.clone());
    handle.list_group_offsets(group, partitions, wait_ms.cast_signed(), &replies)?;
    let names = Names::of(partitions.unwrap_or_default());
    let what = format!("cannot read the committed offsets of group {group}");
    let mut found = HashMap::new();
    for entry in reply(&replies, wait_ms, &what).await?.entries().map_err(|code| Error::from_code(code, &what))? {
        if entry.code.is_error() {
            return Err(Error::from_code(entry.code, format_args!("{what} for {}/{}", entry.topic, entry.partition)));
        }
        if entry.offset >= 0 {
            found.insert(names.name(&entry), entry.offset);
        }
    }
    Ok(found)
}

/// The next reply on `replies`.
pub(crate) async fn reply(replies: &Queue, wait_ms: u32, what: &str) -> Result<Reply, Error> {
    let comes = async {
        loop {
            if let Some(reply) = replies.poll() {
                return reply;
            }
            replies.wait().await;
        }
    };
    let longest = Duration::from_millis(u64::from(wait_ms) + GRACE_MS);
    timeout(longest, comes).await.map_err(|_| Error::from_code(Code::TIMED_OUT, format_args!("{what} within {longest:?}")))
}

/// Topic names that are shared, not made per partition.
struct Names<'a>(&'a [TopicPartition]);

impl<'a> Names<'a> {
    fn of(partitions: &'a [TopicPartition]) -> Self {
        Self(partitions)
    }

    fn name(&self, entry: &Entry) -> TopicPartition {
        let shared = self.0.iter().find(|known| *known.topic == *entry.topic).map(|known| Arc::clone(&known.topic));
        TopicPartition { topic: shared.unwrap_or_else(|| entry.topic.as_str().into()), partition: entry.partition }
    }
}
