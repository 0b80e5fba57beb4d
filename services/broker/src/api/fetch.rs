//! Fetch: durable batches as they lie in the files, after a wait if there are none yet.
//!
//! The answer is encoded here and not by `kafka-protocol`, so that records go from the file into the frame and from the
//! frame to the socket, with no copy between. Its form: Kafka's `FetchResponse` schema.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes};
use kafka_protocol::{
    ResponseError,
    messages::{FetchRequest, fetch_request::FetchTopic},
};
use tokio::{
    sync::Notify,
    task,
    time::{Instant, timeout_at},
};
use uuid::Uuid;

use super::{NONE, Reply, check_epoch};
use crate::{
    broker::Core,
    log::{self, LogError, LogSlice},
    topics::{Offsets, Partition},
    wire::{
        connection::Outgoing,
        frame::{self, FrameError, LENGTH_BYTES, Request},
    },
};

/// First version with compact lengths and tagged fields.
const FLEXIBLE: i16 = 12;
/// First version that names topics by id.
const TOPIC_IDS: i16 = 13;
/// Bytes of an answer around the records of one partition, at most.
const PARTITION_BYTES: usize = 80;

/// What is asked of one partition.
struct Asked {
    index: i32,
    offset: i64,
    bytes_max: usize,
    partition: Result<Arc<Partition>, ResponseError>,
}

struct AskedTopic {
    name: Bytes,
    id: Uuid,
    partitions: Vec<Asked>,
}

/// What is found there.
struct Found {
    index: i32,
    error: Option<ResponseError>,
    offsets: Offsets,
    records: Option<Records>,
}

/// Records of a partition, as they lie in its files.
struct Records {
    slice: LogSlice,
    /// The offset that was asked for.
    offset: i64,
    partition: Arc<Partition>,
}

struct FoundTopic {
    name: Bytes,
    id: Uuid,
    partitions: Vec<Found>,
}

/// A fetch under way; it is called when one of its partitions has something new.
struct Waiting {
    topics: Vec<AskedTopic>,
    called: Arc<Notify>,
}

pub(super) fn fetch(core: &Arc<Core>, request: Request) -> Result<Reply, FrameError> {
    let asked: FetchRequest = request.decode()?;
    if asked.session_id != 0 && asked.session_epoch > 0 {
        // There are no fetch sessions: the client begins anew with a full fetch.
        let frame = encode(&request, Some(ResponseError::FetchSessionIdNotFound), &[])?;
        return Ok(Reply::Now(frame));
    }
    let core = Arc::clone(core);
    Ok(Reply::Later(Box::pin(async move {
        let limits = &core.config.limits;
        let wait_ms = u64::try_from(asked.max_wait_ms).unwrap_or(0).min(limits.fetch_wait_max_ms);
        let bytes_min = usize::try_from(asked.min_bytes).unwrap_or(0);
        let bytes_max = usize::try_from(asked.max_bytes).unwrap_or(0).min(limits.fetch_bytes_max);
        let topics = asked.topics.into_iter().map(|topic| resolve(&core, topic, request.version)).collect();
        let waiting = Waiting::begin(topics);
        let deadline = Instant::now() + Duration::from_millis(wait_ms);
        let found = loop {
            let found = look(&waiting.topics, bytes_max);
            let slices = found.iter().flat_map(|topic| &topic.partitions);
            let bytes: usize = slices.clone().map(Found::bytes).sum();
            let failed = slices.clone().any(|found| found.error.is_some());
            if bytes >= bytes_min || failed || waiting.topics.is_empty() || core.shutdown.is_cancelled() {
                break found;
            }
            tokio::select! {
                woken = timeout_at(deadline, waiting.called.notified()) => if woken.is_err() { break found },
                () = core.shutdown.cancelled() => break found,
            }
        };
        drop(waiting);
        let bytes: usize = found.iter().flat_map(|topic| &topic.partitions).map(Found::bytes).sum();
        let held = u32::try_from(bytes.min(limits.fetches_in_flight_bytes_max)).unwrap_or(u32::MAX);
        let budget = Arc::clone(&core.fetch_budget).acquire_many_owned(held).await.ok();
        let frame = if bytes == 0 {
            encode(&request, None, &found)?
        } else {
            let encoded = task::spawn_blocking(move || encode(&request, None, &found)).await;
            encoded.map_err(|panic| FrameError::Io(std::io::Error::other(panic)))??
        };
        Ok(Outgoing { frame, budget })
    })))
}

impl Waiting {
    fn begin(topics: Vec<AskedTopic>) -> Waiting {
        let called = Arc::new(Notify::new());
        for partition in topics.iter().flat_map(|topic| &topic.partitions).filter_map(|asked| asked.partition.as_ref().ok()) {
            partition.readers.add(&called);
        }
        Waiting { topics, called }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let asked = self.topics.iter().flat_map(|topic| &topic.partitions);
        for partition in asked.filter_map(|asked| asked.partition.as_ref().ok()) {
            partition.readers.remove(&self.called);
        }
    }
}

fn resolve(core: &Core, asked: FetchTopic, version: i16) -> AskedTopic {
    let (topic, unknown) = if version >= TOPIC_IDS {
        (core.topics.by_id(asked.topic_id), ResponseError::UnknownTopicId)
    } else {
        (core.topics.by_name(&asked.topic), ResponseError::UnknownTopicOrPartition)
    };
    let partitions = asked.partitions.into_iter().map(|partition| {
        let found = topic.as_ref().ok_or(unknown).and_then(|topic| {
            check_epoch(core, partition.current_leader_epoch)?;
            topic.partition(partition.partition).ok_or(ResponseError::UnknownTopicOrPartition)
        });
        Asked {
            index: partition.partition,
            offset: partition.fetch_offset,
            bytes_max: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
            partition: found,
        }
    });
    AskedTopic { partitions: partitions.collect(), name: asked.topic.0.into_bytes(), id: asked.topic_id }
}

/// Takes slices in the order that was asked, until `bytes_max` is reached. The first may be larger (one whole batch), so
/// that a client can get over any batch.
fn look(topics: &[AskedTopic], bytes_max: usize) -> Vec<FoundTopic> {
    let mut left = bytes_max;
    let mut first = true;
    let mut read = |asked: &Asked| -> Found {
        let nowhere = Offsets { start: -1, high_watermark: -1 };
        let refused = |error, offsets| Found { index: asked.index, error: Some(error), offsets, records: None };
        let partition = match &asked.partition {
            Ok(partition) => partition,
            Err(error) => return refused(*error, nowhere),
        };
        let read = match partition.read(asked.offset, asked.bytes_max.min(left)) {
            Ok(read) => read,
            Err(error) => return refused(error, nowhere),
        };
        match read.slice {
            Ok(slice) if slice.is_empty() || slice.len() > left && !first => {
                Found { index: asked.index, error: None, offsets: read.offsets, records: None }
            }
            Ok(slice) => {
                left = left.saturating_sub(slice.len());
                first = false;
                let records = Records { slice, offset: asked.offset, partition: Arc::clone(partition) };
                Found { index: asked.index, error: None, offsets: read.offsets, records: Some(records) }
            }
            Err(error) => refused(error, read.offsets),
        }
    };
    let found = topics.iter().map(|topic| FoundTopic {
        name: topic.name.clone(),
        id: topic.id,
        partitions: topic.partitions.iter().map(&mut read).collect(),
    });
    found.collect()
}

/// Reads the slices into the answer. Blocks on the disk for what is not in memory.
fn encode(request: &Request, error: Option<ResponseError>, topics: &[FoundTopic]) -> Result<Bytes, FrameError> {
    let version = request.version;
    let flexible = version >= FLEXIBLE;
    let room: usize = topics.iter().map(|topic| PARTITION_BYTES + topic.name.len() + topic.bytes()).sum();
    let mut out = Vec::with_capacity(PARTITION_BYTES + room);
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    out.put_i32(request.correlation_id);
    put_no_tags(&mut out, flexible);
    out.put_i32(0); // throttle time
    if version >= 7 {
        out.put_i16(error.map_or(NONE, |error| error.code()));
        out.put_i32(0); // no session
    }
    put_count(&mut out, flexible, topics.len());
    for topic in topics {
        if version >= TOPIC_IDS {
            out.put_u128(topic.id.as_u128());
        } else if flexible {
            put_count(&mut out, flexible, topic.name.len());
            out.put_slice(&topic.name);
        } else {
            out.put_u16(u16::try_from(topic.name.len()).unwrap_or(u16::MAX));
            out.put_slice(&topic.name);
        }
        put_count(&mut out, flexible, topic.partitions.len());
        for found in &topic.partitions {
            put_partition(&mut out, version, found);
        }
        put_no_tags(&mut out, flexible);
    }
    put_no_tags(&mut out, flexible);
    frame::finish(&mut out);
    Ok(out.into())
}

/// One partition with its records, as far as they are what was once appended. What is damaged is told when a reader has come
/// to it: it is then the first thing asked for.
fn put_partition(out: &mut Vec<u8>, version: i16, found: &Found) {
    let Some(Records { slice, offset, partition }) = &found.records else {
        return put_records(out, version, found, found.error, &[]);
    };
    let begin = out.len();
    put_head(out, version, found, None, slice.len());
    let records_at = out.len();
    let read = slice.read_into(out);
    let records = out.get(records_at..).unwrap_or_default();
    let intact = if read.is_ok() { log::intact_bytes(records) } else { 0 };
    if intact == slice.len() {
        return put_no_tags(out, version >= FLEXIBLE);
    }
    let records = records.get(..intact).unwrap_or_default().to_vec();
    let error = (intact == 0).then(|| match read {
        Ok(()) => partition.damaged(*offset, &"a batch does not match its checksum"),
        Err(error) => partition.cannot_read(*offset, &LogError::io("read", "a segment")(error)),
    });
    out.truncate(begin);
    put_records(out, version, found, error, &records);
}

fn put_records(out: &mut Vec<u8>, version: i16, found: &Found, error: Option<ResponseError>, records: &[u8]) {
    put_head(out, version, found, error, records.len());
    out.put_slice(records);
    put_no_tags(out, version >= FLEXIBLE);
}

/// What stands before the records.
fn put_head(out: &mut Vec<u8>, version: i16, found: &Found, error: Option<ResponseError>, records_bytes: usize) {
    let flexible = version >= FLEXIBLE;
    out.put_i32(found.index);
    out.put_i16(error.map_or(NONE, |error| error.code()));
    out.put_i64(found.offsets.high_watermark);
    out.put_i64(found.offsets.high_watermark); // last stable offset: there are no transactions
    if version >= 5 {
        out.put_i64(found.offsets.start);
    }
    put_count(out, flexible, 0); // aborted transactions
    if version >= 11 {
        out.put_i32(-1); // preferred read replica
    }
    put_count(out, flexible, records_bytes);
}

impl Found {
    /// Bytes of its records.
    fn bytes(&self) -> usize {
        self.records.as_ref().map_or(0, |records| records.slice.len())
    }
}

impl FoundTopic {
    fn bytes(&self) -> usize {
        self.partitions.iter().map(|found| PARTITION_BYTES + found.bytes()).sum()
    }
}

/// A length or count: four bytes, or a varint of one more.
fn put_count(out: &mut Vec<u8>, flexible: bool, count: usize) {
    let count = u32::try_from(count).unwrap_or(u32::MAX - 1);
    if !flexible {
        return out.put_u32(count);
    }
    let mut rest = count + 1;
    while rest >= 0x80 {
        out.put_u8((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn put_no_tags(out: &mut Vec<u8>, flexible: bool) {
    if flexible {
        out.put_u8(0);
    }
}
