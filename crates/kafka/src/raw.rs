//! The one module with unsafe code: librdkafka's batch consume, its rebalance callback and some of its requests are not
//! in rdkafka's safe API.
//!
//! What it relies on, settled in librdkafka 2.12.1's sources:
//!
//! * `rd_kafka_consume_batch_queue` serves what lies before, between and behind the messages of a batch: it calls the
//!   rebalance and error callbacks on the calling thread (`rd_kafka_poll_cb` with `RD_KAFKA_Q_CB_RETURN`) and leaves out
//!   messages from before a seek, a pause or a revocation (versions and barriers). It may hand out a message twice when a
//!   pause races with it, because the position to resume from is stored only after the batch was taken; the consumer
//!   therefore drops what lies before its own position.
//! * The callback need not answer a rebalance: the group waits in `wait-assign-call` or `wait-unassign-call`, keeps its
//!   heartbeat up, and reports no further rebalance until (incremental) assign or unassign is called from any thread.
//! * A handle may be used from any thread. Messages and queues must be gone before `rd_kafka_destroy`.

#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    fmt, ptr, slice,
    sync::{Arc, Mutex},
};

use mantis_pipeline::{Header, Record, TopicPartition};
use rdkafka::{
    admin::AdminClient,
    bindings::{self as rd, rd_kafka_resp_err_t as Native},
};
use tokio::sync::Notify;

use crate::{
    config::Settings,
    error::{Code, Error},
    logs::{self, ClientErrors, lock},
};

/// Bytes of librdkafka's error texts.
const ERROR_TEXT_BYTES: usize = 512;
/// librdkafka's own bytes per message: an operation with the message in it, as its allocator rounds it.
pub(crate) const MESSAGE_OVERHEAD_BYTES: usize = 320;

unsafe extern "C" {
    // As in the bindings, but with a number: brokers send codes that the bindings' enum does not have.
    fn rd_kafka_err2str(err: c_int) -> *const c_char;
}

/// librdkafka's text for a code.
pub(crate) fn code_text(code: Code) -> String {
    // SAFETY: takes any number and returns a string that is static, or in thread-local storage until the next call.
    unsafe { text(rd_kafka_err2str(code.0)) }
}

/// SAFETY: `text` is null or a string that ends with 0 and lives through the call.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() { String::new() } else { unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned() }
}

/// SAFETY: `at` points to a field of the enum's type. Read as a number: brokers send codes that the enum does not have.
unsafe fn code(at: *const Native) -> Code {
    Code(unsafe { at.cast::<c_int>().read() })
}

fn c_string(text: &str, what: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Config(format!("{what} contains a zero byte: remove it")))
}

/// Settings that librdkafka has accepted.
pub(crate) struct NativeConfig(*mut rd::rd_kafka_conf_t);

impl NativeConfig {
    pub(crate) fn new(settings: &Settings) -> Result<Self, Error> {
        // SAFETY: a new configuration, owned by the guard from here on.
        let config = Self(unsafe { rd::rd_kafka_conf_new() });
        for (key, value) in &settings.0 {
            config.set(key, value)?;
        }
        Ok(config)
    }

    fn set(&self, key: &str, value: &str) -> Result<(), Error> {
        let (name, native) = (c_string(key, key)?, c_string(value, key)?);
        let mut why = [0 as c_char; ERROR_TEXT_BYTES];
        // SAFETY: the configuration is alive, the strings end with 0, the buffer has the length that is given.
        let set = unsafe { rd::rd_kafka_conf_set(self.0, name.as_ptr(), native.as_ptr(), why.as_mut_ptr(), why.len()) };
        if set == rd::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
            return Ok(());
        }
        // librdkafka repeats the value, which may be a secret.
        let secret = ["password", "secret", "key", "token", "pem", "jaas", "oauthbearer"].iter().any(|part| key.contains(part));
        // SAFETY: librdkafka ends the text with 0 within the buffer.
        let why = if secret { "not a value of it".to_owned() } else { unsafe { text(why.as_ptr()) } };
        Err(Error::Config(format!("{key}: {why}")))
    }
}

impl Drop for NativeConfig {
    fn drop(&mut self) {
        // SAFETY: owned; null once a client has taken it, which destroy ignores by the check.
        if !self.0.is_null() {
            unsafe { rd::rd_kafka_conf_destroy(self.0) };
        }
    }
}

/// A rebalance that the group waits to be answered.
#[derive(Debug)]
pub(crate) struct Rebalance {
    pub(crate) kind: RebalanceKind,
    pub(crate) partitions: Vec<(String, i32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RebalanceKind {
    Assign,
    Revoke,
    Lost,
}

/// What callbacks write and the client reads. librdkafka holds a pointer to it as long as the client lives.
#[derive(Debug, Default)]
struct Callbacks {
    errors: ClientErrors,
    rebalances: Mutex<Vec<Rebalance>>,
}

/// A consumer's handle.
pub(crate) struct Client {
    rk: *mut rd::rd_kafka_t,
    callbacks: Box<Callbacks>,
}

// SAFETY: librdkafka's handle may be used from any thread at once; the callbacks' state is behind locks.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    pub(crate) fn consumer(settings: &Settings) -> Result<Arc<Self>, Error> {
        let mut config = NativeConfig::new(settings)?;
        let callbacks = Box::<Callbacks>::default();
        let mut why = [0 as c_char; ERROR_TEXT_BYTES];
        // SAFETY: the configuration is alive. The opaque pointer is to the heap and is freed after the client (`Drop`).
        // rd_kafka_new takes the configuration over only if it succeeds.
        let rk = unsafe {
            rd::rd_kafka_conf_set_opaque(config.0, ptr::from_ref::<Callbacks>(&callbacks).cast_mut().cast());
            rd::rd_kafka_conf_set_rebalance_cb(config.0, Some(on_rebalance));
            rd::rd_kafka_conf_set_error_cb(config.0, Some(on_error));
            rd::rd_kafka_conf_set_log_cb(config.0, Some(on_log));
            rd::rd_kafka_new(rd::rd_kafka_type_t::RD_KAFKA_CONSUMER, config.0, why.as_mut_ptr(), why.len())
        };
        if rk.is_null() {
            // SAFETY: librdkafka ends the text with 0 within the buffer.
            return Err(Error::Config(format!("the Kafka client cannot be made: {}", unsafe { text(why.as_ptr()) })));
        }
        config.0 = ptr::null_mut();
        Ok(Arc::new(Self { rk, callbacks }))
    }

    pub(crate) fn errors(&self) -> &ClientErrors {
        &self.callbacks.errors
    }

    /// The rebalances that came since the last call, in order.
    pub(crate) fn rebalances(&self) -> Vec<Rebalance> {
        std::mem::take(&mut lock(&self.callbacks.rebalances))
    }

    /// Joins the group.
    pub(crate) fn subscribe(&self, topics: &[String]) -> Result<(), Error> {
        let mut list = List::new(topics.len());
        for topic in topics {
            list.push(topic, -1, None)?;
        }
        // SAFETY: handle and list are alive; the list is copied.
        let code = unsafe {
            // Errors of the client come with the messages, from one queue.
            let served = rd::rd_kafka_poll_set_consumer(self.rk);
            if served == Native::RD_KAFKA_RESP_ERR_NO_ERROR { rd::rd_kafka_subscribe(self.rk, list.0) } else { served }
        };
        done(code, "cannot subscribe")
    }

    /// Whether the group moves single partitions ([`incremental_assign`](Self::incremental_assign)) or all at once
    /// ([`assign`](Self::assign)). Known once a rebalance came.
    pub(crate) fn is_cooperative(&self) -> bool {
        // SAFETY: returns null or a static string.
        unsafe { text(rd::rd_kafka_rebalance_protocol(self.rk)) == "COOPERATIVE" }
    }

    pub(crate) fn incremental_assign(&self, positions: &[(TopicPartition, i64)]) -> Result<(), Error> {
        let list = List::positions(positions)?;
        // SAFETY: handle and list are alive; the list is copied.
        failed(unsafe { rd::rd_kafka_incremental_assign(self.rk, list.0) }, "cannot assign partitions")
    }

    pub(crate) fn incremental_unassign(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let list = List::partitions(partitions)?;
        // SAFETY: handle and list are alive; the list is copied.
        failed(unsafe { rd::rd_kafka_incremental_unassign(self.rk, list.0) }, "cannot give partitions up")
    }

    /// Replaces the whole assignment.
    pub(crate) fn assign(&self, positions: &[(TopicPartition, i64)]) -> Result<(), Error> {
        let list = List::positions(positions)?;
        // SAFETY: handle and list are alive; the list is copied.
        done(unsafe { rd::rd_kafka_assign(self.rk, list.0) }, "cannot assign partitions")
    }

    /// Ends the whole assignment.
    pub(crate) fn unassign(&self) -> Result<(), Error> {
        // SAFETY: the handle is alive; a null list stands for nothing.
        done(unsafe { rd::rd_kafka_assign(self.rk, ptr::null()) }, "cannot give partitions up")
    }

    /// Makes what was fetched of the partition void and goes on at `offset`. Blocks until librdkafka's main thread took
    /// notice, `wait_ms` at most. The code is about the partition.
    pub(crate) fn seek(&self, partition: &TopicPartition, offset: i64, wait_ms: i32) -> Result<Code, Error> {
        let list = List::positions(&[(partition.clone(), offset)])?;
        // SAFETY: handle and list are alive; librdkafka writes codes into the list's elements.
        failed(
            unsafe { rd::rd_kafka_seek_partitions(self.rk, list.0, wait_ms) },
            format_args!("cannot seek {partition} to {offset}"),
        )?;
        Ok(list.first_code())
    }

    pub(crate) fn pause(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let list = List::partitions(partitions)?;
        // SAFETY: handle and list are alive.
        done(unsafe { rd::rd_kafka_pause_partitions(self.rk, list.0) }, "cannot pause partitions")
    }

    pub(crate) fn resume(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let list = List::partitions(partitions)?;
        // SAFETY: handle and list are alive.
        done(unsafe { rd::rd_kafka_resume_partitions(self.rk, list.0) }, "cannot resume partitions")
    }

    /// Starts a commit; its result comes to `replies` as an event.
    pub(crate) fn commit(&self, offsets: &[(TopicPartition, i64)], replies: &Queue) -> Result<(), Error> {
        let list = List::positions(offsets)?;
        // SAFETY: handle, list and queue are alive; the list is copied; without a callback the result becomes an event.
        let code = unsafe { rd::rd_kafka_commit_queue(self.rk, list.0, replies.queue, None, ptr::null_mut()) };
        done(code, "cannot commit")
    }

    /// Starts to leave the group. What comes of it is served by consuming from `queue`.
    pub(crate) fn start_close(&self, queue: &Queue) -> Result<(), Error> {
        // SAFETY: handle and queue are alive.
        failed(unsafe { rd::rd_kafka_consumer_close_queue(self.rk, queue.queue) }, "cannot leave the group")
    }

    pub(crate) fn is_closed(&self) -> bool {
        // SAFETY: the handle is alive.
        unsafe { rd::rd_kafka_consumer_closed(self.rk) != 0 }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: batches, queues and topics hold the client alive, so nothing of it is used any more. Without the flag
        // destroy would wait for an answer to the rebalance that closing causes.
        unsafe { rd::rd_kafka_destroy_flags(self.rk, rd::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) };
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

unsafe extern "C" fn on_rebalance(
    rk: *mut rd::rd_kafka_t,
    code: Native,
    partitions: *mut rd::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    // SAFETY: `opaque` is the client's `Callbacks`, which outlive it; the list lives through the callback.
    unsafe {
        let kind = match code {
            Native::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => RebalanceKind::Assign,
            _ if rd::rd_kafka_assignment_lost(rk) != 0 => RebalanceKind::Lost,
            _ => RebalanceKind::Revoke,
        };
        let partitions = entries(partitions).into_iter().map(|entry| (entry.topic, entry.partition)).collect();
        lock(&(*opaque.cast::<Callbacks>()).rebalances).push(Rebalance { kind, partitions });
    }
}

unsafe extern "C" fn on_error(_: *mut rd::rd_kafka_t, code: c_int, reason: *const c_char, opaque: *mut c_void) {
    // SAFETY: as above; the reason is a string that lives through the callback.
    unsafe { (*opaque.cast::<Callbacks>()).errors.note(Code(code), &text(reason)) };
}

unsafe extern "C" fn on_log(_: *const rd::rd_kafka_t, level: c_int, facility: *const c_char, message: *const c_char) {
    // SAFETY: strings that live through the callback.
    unsafe { logs::log(level, &text(facility), &text(message)) };
}

/// What keeps a handle alive.
#[derive(Clone)]
pub(crate) struct Handle {
    rk: *mut rd::rd_kafka_t,
    _keep: Keep,
}

#[derive(Clone)]
enum Keep {
    Client(#[allow(dead_code)] Arc<Client>),
    Admin(#[allow(dead_code)] Arc<AdminClient<ClientErrors>>),
}

// SAFETY: librdkafka's handle may be used from any thread at once.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl From<&Arc<Client>> for Handle {
    fn from(client: &Arc<Client>) -> Self {
        Self { rk: client.rk, _keep: Keep::Client(Arc::clone(client)) }
    }
}

impl From<&Arc<AdminClient<ClientErrors>>> for Handle {
    fn from(client: &Arc<AdminClient<ClientErrors>>) -> Self {
        Self { rk: client.inner().native_ptr(), _keep: Keep::Admin(Arc::clone(client)) }
    }
}

impl Handle {
    /// Asks for the first or the last position of each partition; the result comes to `replies`.
    pub(crate) fn list_offsets(
        &self,
        partitions: &[TopicPartition],
        end: End,
        wait_ms: i32,
        replies: &Queue,
    ) -> Result<(), Error> {
        let spec = match end {
            End::First => rd::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST,
            End::Last => rd::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST,
        };
        let mut list = List::new(partitions.len());
        for partition in partitions {
            list.push(&partition.topic, partition.partition, Some(spec as i64))?;
        }
        let options = self.options(rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, wait_ms);
        // SAFETY: all are alive; list and options are copied.
        unsafe { rd::rd_kafka_ListOffsets(self.rk, list.0, options.0, replies.queue) };
        Ok(())
    }

    /// Asks for the group's committed offsets, of all partitions it has any for if none are given.
    pub(crate) fn list_group_offsets(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
        wait_ms: i32,
        replies: &Queue,
    ) -> Result<(), Error> {
        let group = c_string(group, "the group's name")?;
        let list = partitions.map(List::partitions).transpose()?;
        let options = self.options(rd::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS, wait_ms);
        // SAFETY: all are alive; group and list are copied, and the copy is destroyed here.
        unsafe {
            let list = list.as_ref().map_or(ptr::null(), |list| list.0.cast_const());
            let mut asked = rd::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), list);
            rd::rd_kafka_ListConsumerGroupOffsets(self.rk, &raw mut asked, 1, options.0, replies.queue);
            rd::rd_kafka_ListConsumerGroupOffsets_destroy(asked);
        }
        Ok(())
    }

    /// Blocks until the cluster's id is known, `wait_ms` at most.
    pub(crate) fn cluster_id(&self, wait_ms: i32) -> Option<String> {
        // SAFETY: returns null or a string that is ours to free.
        unsafe {
            let id = rd::rd_kafka_clusterid(self.rk, wait_ms);
            (!id.is_null()).then(|| {
                let copy = text(id);
                rd::rd_kafka_mem_free(self.rk, id.cast());
                copy
            })
        }
    }

    fn options(&self, op: rd::rd_kafka_admin_op_t, wait_ms: i32) -> Options {
        let mut why = [0 as c_char; ERROR_TEXT_BYTES];
        // SAFETY: new options, owned by the guard. A timeout out of range would leave the default of a minute.
        unsafe {
            let options = rd::rd_kafka_AdminOptions_new(self.rk, op);
            rd::rd_kafka_AdminOptions_set_request_timeout(options, wait_ms, why.as_mut_ptr(), why.len());
            Options(options)
        }
    }
}

/// An end of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// The first position that the log still has.
    First,
    /// The position after the last record.
    Last,
}

struct Options(*mut rd::rd_kafka_AdminOptions_t);

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { rd::rd_kafka_AdminOptions_destroy(self.0) };
    }
}

/// A queue that wakes a task when something comes.
pub(crate) struct Queue {
    queue: *mut rd::rd_kafka_queue_t,
    wake: Arc<Notify>,
    _handle: Handle,
}

// SAFETY: a queue may be used from any thread at once.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// A consumer's own queue: messages, rebalances, errors.
    pub(crate) fn of_consumer(client: &Arc<Client>) -> Result<Self, Error> {
        // SAFETY: returns null or a reference to the queue, which is ours to give back.
        let queue = unsafe { rd::rd_kafka_queue_get_consumer(client.rk) };
        if queue.is_null() {
            return Err(Error::Config("a consumer needs a group: name one".into()));
        }
        Ok(Self::waking(queue, client.into()))
    }

    /// A queue for messages of a reader; the client's errors come with them.
    pub(crate) fn of_reader(client: &Arc<Client>) -> Self {
        let queue = Self::replies(client.into());
        // SAFETY: all are alive; the reference to the main queue is ours to give back.
        unsafe {
            let main = rd::rd_kafka_queue_get_main(client.rk);
            rd::rd_kafka_queue_forward(main, queue.queue);
            rd::rd_kafka_queue_destroy(main);
        }
        queue
    }

    /// A queue for the replies to requests. Dropping it drops what comes later.
    pub(crate) fn replies(handle: Handle) -> Self {
        // SAFETY: a new queue, ours to give back.
        let queue = unsafe { rd::rd_kafka_queue_new(handle.rk) };
        Self::waking(queue, handle)
    }

    fn waking(queue: *mut rd::rd_kafka_queue_t, handle: Handle) -> Self {
        let wake = Arc::new(Notify::new());
        // SAFETY: the callback runs under the queue's lock, and `Drop` takes it away under the same lock before the
        // `Notify` goes.
        unsafe { rd::rd_kafka_queue_cb_event_enable(queue, Some(on_event), Arc::as_ptr(&wake).cast_mut().cast()) };
        Self { queue, wake, _handle: handle }
    }

    /// Waits until something came to the queue after it was empty. Cancel safe.
    pub(crate) async fn wait(&self) {
        self.wake.notified().await;
    }

    /// Takes what there is, without waiting, `messages_max` messages at most; calls back on this thread.
    pub(crate) fn consume(&self, into: &mut Vec<Message>, messages_max: usize) {
        into.reserve(messages_max);
        let free = into.spare_capacity_mut();
        // SAFETY: `Message` is a transparent pointer, and so many fit behind the vector's end. What librdkafka wrote
        // there are valid messages that are ours.
        unsafe {
            let taken = rd::rd_kafka_consume_batch_queue(self.queue, 0, free.as_mut_ptr().cast(), messages_max);
            let length = into.len() + usize::try_from(taken).unwrap_or(0).min(messages_max);
            into.set_len(length);
        }
    }

    /// The next reply, without waiting.
    pub(crate) fn poll(&self) -> Option<Reply> {
        // SAFETY: the queue is alive; an event is ours.
        let event = unsafe { rd::rd_kafka_queue_poll(self.queue, 0) };
        (!event.is_null()).then(|| Reply(event))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the callback goes first; the reference to the queue is ours.
        unsafe {
            rd::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            rd::rd_kafka_queue_destroy(self.queue);
        }
    }
}

unsafe extern "C" fn on_event(_: *mut rd::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: the queue's `Notify`, which lives until the callback is taken away.
    unsafe { (*opaque.cast::<Notify>()).notify_one() };
}

/// A reply to a request.
pub(crate) struct Reply(*mut rd::rd_kafka_event_t);

// SAFETY: owned, not shared.
unsafe impl Send for Reply {}

impl Reply {
    /// The positions in the reply. An error is about the request as a whole.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, Code> {
        // SAFETY: the event is alive; what is read belongs to it and is copied.
        unsafe {
            let failure = Code(rd::rd_kafka_event_error(self.0) as c_int);
            match rd::rd_kafka_event_type(self.0) {
                rd::RD_KAFKA_EVENT_OFFSET_COMMIT => {
                    let entries = entries(rd::rd_kafka_event_topic_partition_list(self.0));
                    // One partition's failure also stands for the whole; the entries say which it is.
                    if failure.is_error() && !entries.iter().any(|entry| entry.code.is_error()) {
                        return Err(failure);
                    }
                    Ok(entries)
                }
                _ if failure.is_error() => Err(failure),
                rd::RD_KAFKA_EVENT_LISTOFFSETS_RESULT => {
                    let mut count = 0;
                    let infos =
                        rd::rd_kafka_ListOffsets_result_infos(rd::rd_kafka_event_ListOffsets_result(self.0), &raw mut count);
                    Ok(array(infos.cast_const(), count)
                        .iter()
                        .map(|info| entry(rd::rd_kafka_ListOffsetsResultInfo_topic_partition(*info)))
                        .collect())
                }
                rd::RD_KAFKA_EVENT_LISTCONSUMERGROUPOFFSETS_RESULT => {
                    let mut count = 0;
                    let result = rd::rd_kafka_event_ListConsumerGroupOffsets_result(self.0);
                    let groups = rd::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
                    let mut all = Vec::new();
                    for group in array(groups.cast_const(), count) {
                        let error = rd::rd_kafka_group_result_error(*group);
                        if !error.is_null() {
                            return Err(Code(rd::rd_kafka_error_code(error) as c_int));
                        }
                        all.extend(entries(rd::rd_kafka_group_result_partitions(*group)));
                    }
                    Ok(all)
                }
                _ => Ok(Vec::new()),
            }
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { rd::rd_kafka_event_destroy(self.0) };
    }
}

/// SAFETY: `items` is null or points to `count` elements that live as long as the caller needs them.
unsafe fn array<'a, T>(items: *const T, count: usize) -> &'a [T] {
    if items.is_null() { &[] } else { unsafe { slice::from_raw_parts(items, count) } }
}

/// A position in a reply.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Negative where there is none.
    pub(crate) offset: i64,
    pub(crate) code: Code,
}

/// SAFETY: `list` is null or alive.
unsafe fn entries(list: *const rd::rd_kafka_topic_partition_list_t) -> Vec<Entry> {
    if list.is_null() {
        return Vec::new();
    }
    unsafe {
        let count = usize::try_from((*list).cnt).unwrap_or(0);
        (0..count).map(|index| entry((*list).elems.add(index))).collect()
    }
}

/// SAFETY: `partition` is alive.
unsafe fn entry(partition: *const rd::rd_kafka_topic_partition_t) -> Entry {
    unsafe {
        Entry {
            topic: text((*partition).topic),
            partition: (*partition).partition,
            offset: (*partition).offset,
            code: code(&raw const (*partition).err),
        }
    }
}

/// A list of partitions. Never kept: a live one may hold partitions, and with them the client's end, up.
struct List(*mut rd::rd_kafka_topic_partition_list_t);

impl List {
    fn new(count: usize) -> Self {
        // SAFETY: a new list, owned. The count is only a first size.
        Self(unsafe { rd::rd_kafka_topic_partition_list_new(c_int::try_from(count).unwrap_or(0)) })
    }

    fn positions(positions: &[(TopicPartition, i64)]) -> Result<Self, Error> {
        let mut list = Self::new(positions.len());
        for (partition, offset) in positions {
            list.push(&partition.topic, partition.partition, Some(*offset))?;
        }
        Ok(list)
    }

    fn partitions(partitions: &[TopicPartition]) -> Result<Self, Error> {
        let mut list = Self::new(partitions.len());
        for partition in partitions {
            list.push(&partition.topic, partition.partition, None)?;
        }
        Ok(list)
    }

    fn push(&mut self, topic: &str, partition: i32, offset: Option<i64>) -> Result<(), Error> {
        let topic = c_string(topic, "a topic's name")?;
        // SAFETY: the list is alive, the name is copied, the element that is returned is valid until the next push.
        unsafe {
            let element = rd::rd_kafka_topic_partition_list_add(self.0, topic.as_ptr(), partition);
            if let Some(offset) = offset {
                (*element).offset = offset;
            }
        }
        Ok(())
    }

    fn first_code(&self) -> Code {
        // SAFETY: the list is alive.
        unsafe { entries(self.0) }.first().map_or(Code::NONE, |entry| entry.code)
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: owned.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.0) };
    }
}

fn done(code: Native, what: impl fmt::Display) -> Result<(), Error> {
    if code == Native::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(Error::from_code(Code(code as c_int), what)) }
}

fn failed(error: *mut rd::rd_kafka_error_t, what: impl fmt::Display) -> Result<(), Error> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: an error that is ours; its text is copied before it goes.
    unsafe {
        let (code, why) = (Code(rd::rd_kafka_error_code(error) as c_int), text(rd::rd_kafka_error_string(error)));
        rd::rd_kafka_error_destroy(error);
        Err(Error::with_reason(code, format_args!("{what}: {why}")))
    }
}

/// A message, or an error in the place of one.
#[repr(transparent)]
pub(crate) struct Message(*mut rd::rd_kafka_message_t);

// SAFETY: owned; librdkafka counts references to what messages share atomically.
unsafe impl Send for Message {}
// SAFETY: all but `headers` only read, and `headers` is behind a lock of the batch.
unsafe impl Sync for Message {}

impl Message {
    pub(crate) fn code(&self) -> Code {
        // SAFETY: the message is alive.
        unsafe { code(&raw const (*self.0).err) }
    }

    /// The text of an error message.
    pub(crate) fn error_text(&self) -> String {
        // SAFETY: a message with an error has its text as payload.
        unsafe { text(rd::rd_kafka_message_errstr(self.0)) }
    }

    pub(crate) fn offset(&self) -> i64 {
        // SAFETY: the message is alive.
        unsafe { (*self.0).offset }
    }

    pub(crate) fn partition(&self) -> i32 {
        // SAFETY: the message is alive.
        unsafe { (*self.0).partition }
    }

    /// The topic's name; empty for an error that is about none.
    pub(crate) fn topic(&self) -> &str {
        // SAFETY: the message keeps its topic alive, and the topic its name.
        unsafe {
            if (*self.0).rkt.is_null() {
                return "";
            }
            CStr::from_ptr(rd::rd_kafka_topic_name((*self.0).rkt)).to_str().unwrap_or("")
        }
    }

    /// Whether both are of one partition, by address: quick, and right while both are alive.
    pub(crate) fn same_partition(&self, other: &Self) -> bool {
        // SAFETY: the messages are alive.
        unsafe { (*self.0).rkt == (*other.0).rkt && (*self.0).partition == (*other.0).partition }
    }

    pub(crate) fn bytes(&self) -> usize {
        // SAFETY: the message is alive.
        unsafe { (*self.0).len + (*self.0).key_len + MESSAGE_OVERHEAD_BYTES }
    }

    #[inline]
    pub(crate) fn record(&self) -> Record<'_> {
        // SAFETY: the message is alive and not changed; key and payload belong to it.
        unsafe {
            let message = &*self.0;
            let mut kind = rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
            let timestamp = rd::rd_kafka_message_timestamp(self.0, &raw mut kind);
            Record {
                offset: message.offset,
                timestamp_ms: (kind != rd::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && timestamp >= 0)
                    .then_some(timestamp),
                key: bytes(message.key, message.key_len),
                payload: bytes(message.payload, message.len),
            }
        }
    }

    /// The headers, copied. librdkafka parses them when they are first asked for, so calls must not overlap.
    fn headers(&self) -> Vec<Header> {
        let mut all = Vec::new();
        // SAFETY: the message is alive; names and values belong to it and are copied.
        unsafe {
            let mut headers = ptr::null_mut();
            if rd::rd_kafka_message_headers(self.0, &raw mut headers) != Native::RD_KAFKA_RESP_ERR_NO_ERROR {
                return all;
            }
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            while rd::rd_kafka_header_get_all(headers, all.len(), &raw mut name, &raw mut value, &raw mut size)
                == Native::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                all.push(Header { key: text(name), value: bytes(value, size).map(<[u8]>::to_vec) });
            }
        }
        all
    }
}

/// SAFETY: `at` is null or points to `length` bytes that live as long as the caller needs them.
unsafe fn bytes<'a>(at: *const c_void, length: usize) -> Option<&'a [u8]> {
    (!at.is_null()).then(|| unsafe { slice::from_raw_parts(at.cast(), length) })
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: owned. The client is alive: messages live in a consumer, a reader or in `Messages`, which hold it.
        unsafe { rd::rd_kafka_message_destroy(self.0) };
    }
}

/// Messages that keep their client alive.
pub(crate) struct Messages {
    // Dropped before the client.
    messages: Vec<Message>,
    parsing: Mutex<()>,
    _client: Arc<Client>,
}

impl Messages {
    pub(crate) fn new(messages: Vec<Message>, client: Arc<Client>) -> Self {
        Self { messages, parsing: Mutex::new(()), _client: client }
    }

    pub(crate) fn as_slice(&self) -> &[Message] {
        &self.messages
    }

    pub(crate) fn headers(&self, index: usize) -> Vec<Header> {
        let _parsing = lock(&self.parsing);
        self.messages[index].headers()
    }
}

/// A partition that is read by itself, without a group.
pub(crate) struct Reading {
    topic: *mut rd::rd_kafka_topic_t,
    partition: i32,
    // Dropped after the reading has stopped.
    _client: Arc<Client>,
}

// SAFETY: a topic's handle may be used from any thread at once.
unsafe impl Send for Reading {}
// SAFETY: as above.
unsafe impl Sync for Reading {}

impl Reading {
    /// Messages of the partition from `offset` on come to `queue`.
    pub(crate) fn start(client: &Arc<Client>, partition: &TopicPartition, offset: i64, queue: &Queue) -> Result<Self, Error> {
        let name = c_string(&partition.topic, "a topic's name")?;
        // SAFETY: the handle is alive; no configuration means the client's; the topic is ours to give back.
        let topic = unsafe { rd::rd_kafka_topic_new(client.rk, name.as_ptr(), ptr::null_mut()) };
        if topic.is_null() {
            return Err(Error::Refused(format!("{partition} cannot be read: check the topic's name")));
        }
        let reading = Self { topic, partition: partition.partition, _client: Arc::clone(client) };
        // SAFETY: topic and queue are alive.
        let started = unsafe { rd::rd_kafka_consume_start_queue(topic, partition.partition, offset, queue.queue) };
        if started == 0 {
            return Ok(reading);
        }
        // SAFETY: always possible.
        let code = Code(unsafe { rd::rd_kafka_last_error() } as c_int);
        Err(Error::from_code(code, format_args!("cannot read {partition} from {offset}")))
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // SAFETY: the topic is ours; stopping what was not started is an error that changes nothing.
        unsafe {
            rd::rd_kafka_consume_stop(self.topic, self.partition);
            rd::rd_kafka_topic_destroy(self.topic);
        }
    }
}
