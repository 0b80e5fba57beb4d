//! Sends records and waits until they are durable.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use mantis_pipeline::Header;
use rdkafka::{
    ClientContext, Message as _,
    config::RDKafkaLogLevel,
    error::KafkaError,
    message::{DeliveryResult, Header as NativeHeader, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext},
    types::RDKafkaErrorCode,
};
use tokio::{
    sync::Notify,
    task,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    ClientConfig, Error,
    config::Settings,
    error::Code,
    logs::{ClientErrors, lock},
    polled::Polled,
};

/// Records that wait for their acknowledgement; more are held back.
const QUEUE_MESSAGES_MAX: usize = 200_000;
/// KiB of records that wait for their acknowledgement.
const QUEUE_KBYTES_MAX: usize = 64 << 10;
/// How long a sender sleeps at a full queue before it looks again, unless a delivery wakes it.
const FULL_WAIT_MS: u64 = 100;
/// Calls that wait for deliveries at once: 2^24 records of 2^40 calls fit into librdkafka's opaque word.
const INDEX_BITS: u32 = 24;
/// Records of one call.
const RECORDS_MAX: usize = 1 << INDEX_BITS;
/// Longest wait at the end for what was handed over.
const CLOSE_WAIT_MS: u64 = 10_000;
/// Records handed over before other tasks of the thread get their turn.
const YIELD_RECORDS: usize = 1_024;

/// A record to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutRecord {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition; by default the key decides, in the way of Kafka's Java client.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Headers, in order.
    pub headers: Vec<Header>,
    /// Time in ms since the epoch; by default that of sending.
    pub timestamp_ms: Option<i64>,
}

/// Where a record is now durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The partition.
    pub partition: i32,
    /// The record's offset in it.
    pub offset: i64,
}

/// An idempotent producer: what it reports as delivered is on all in-sync replicas, once and in order.
pub struct Producer {
    inner: Arc<Polled<Context>>,
}

impl Producer {
    /// Makes the producer; does not wait for the brokers.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub fn new(client: &ClientConfig) -> Result<Self, Error> {
        Self::with(client.producer(QUEUE_MESSAGES_MAX, QUEUE_KBYTES_MAX)?)
    }

    /// A producer that gives no record up while brokers are away, so that each stays in its place before later ones.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub fn patient(client: &ClientConfig) -> Result<Self, Error> {
        Self::with(client.patient_producer(QUEUE_MESSAGES_MAX, QUEUE_KBYTES_MAX)?)
    }

    /// Why brokers refuse this client, if they did since one of them last answered it.
    pub fn refused(&self) -> Option<Error> {
        self.inner.context().errors.refused()
    }

    /// A producer for copies of records of the log, of any size. What waits in it is bounded by what the caller holds.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub(crate) fn copier(client: &ClientConfig, codec: &str) -> Result<Self, Error> {
        Self::with(client.copier(QUEUE_MESSAGES_MAX, codec)?)
    }

    fn with(settings: Settings) -> Result<Self, Error> {
        let context = Context { errors: ClientErrors::default(), calls: Mutex::default(), room: Notify::new() };
        let producer: BaseProducer<Context> = settings
            .rdkafka()
            .create_with_context(context)
            .map_err(|error| Error::Config(format!("the Kafka producer cannot be made: {error}")))?;
        let inner = Polled::new(producer).map_err(|error| {
            Error::Unavailable(format!("no thread for a Kafka producer: {error}; raise the limit on threads"))
        })?;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Sends one record and waits for its acknowledgement.
    ///
    /// # Errors
    /// As [`send_all`](Self::send_all).
    pub async fn send(&self, record: OutRecord) -> Result<Delivered, Error> {
        let mut results = self.send_all(std::slice::from_ref(&record)).await;
        results.pop().unwrap_or_else(|| Err(Error::Fatal("a record was sent without a result; report it as a defect".into())))
    }

    /// Sends records and waits until each is acknowledged or has failed for good, which takes a minute at most after
    /// it was taken into the bounded queue (of a [`patient`](Self::patient) producer as long as it takes). One result per record, in the same order. Waits while the queue is full.
    ///
    /// Records of one partition are written in the order in which they are given. Dropping the future does not take
    /// back what was handed over.
    ///
    /// # Errors
    /// Per record. [`Error::Refused`]: too large, or the topic does not exist; [`Error::Credentials`];
    /// [`Error::Unavailable`]: it may or may not be written, send it again.
    pub async fn send_all(&self, records: &[OutRecord]) -> Vec<Result<Delivered, Error>> {
        let context = self.inner.context();
        let mut results = Vec::with_capacity(records.len());
        for records in records.chunks(RECORDS_MAX) {
            let mut outcomes = self.send_chunk(records).await;
            // A batch is refused as a whole: only alone a record shows whether it is too large itself.
            for (outcome, record) in outcomes.iter_mut().zip(records) {
                if records.len() > 1 && matches!(outcome, Outcome::Failed(Code::TOO_LARGE | Code::BATCH_TOO_LARGE)) {
                    *outcome = self.send_chunk(std::slice::from_ref(record)).await.pop().unwrap_or(Outcome::Waiting);
                }
            }
            results.extend(outcomes.into_iter().zip(records).map(|(outcome, record)| match outcome {
                Outcome::Delivered(delivered) => Ok(delivered),
                Outcome::Failed(code) => Err(context.failure(code, record)),
                Outcome::Waiting => {
                    Err(Error::Unavailable(format!("a record for {} has no result; send it again", record.topic)))
                }
            }));
        }
        results
    }

    async fn send_chunk(&self, records: &[OutRecord]) -> Vec<Outcome> {
        let context = self.inner.context();
        let (slot, call) = context.open(records.len());
        let mut handing = HandingOver { context, slot, left: records.len() };
        for (index, record) in records.iter().enumerate() {
            if index % YIELD_RECORDS == YIELD_RECORDS - 1 {
                task::yield_now().await;
            }
            let handed = self.hand_over(record, slot << INDEX_BITS | index).await;
            handing.left -= 1;
            if let Err(code) = handed {
                context.end(slot, 1, |outcomes| outcomes[index] = Outcome::Failed(code));
            }
        }
        call.done.notified().await;
        std::mem::take(&mut *lock(&call.outcomes)).0
    }

    async fn hand_over(&self, record: &OutRecord, opaque: usize) -> Result<(), Code> {
        loop {
            let mut native = BaseRecord::<[u8], [u8], usize>::with_opaque_to(&record.topic, opaque);
            native.partition = record.partition;
            native.key = record.key.as_deref();
            native.payload = record.payload.as_deref();
            native.timestamp = record.timestamp_ms;
            native.headers = (!record.headers.is_empty()).then(|| headers(&record.headers));
            // Before the attempt, so that a delivery in between is not missed.
            let room = self.inner.context().room.notified();
            match self.inner.send(native) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    let _ = timeout(Duration::from_millis(FULL_WAIT_MS), room).await;
                }
                Err((error, _)) => {
                    return Err(error.rdkafka_error_code().map_or(Code::INVALID_ARG, Code::from));
                }
            }
        }
    }

    /// Waits until everything handed over has ended, `wait` at most.
    ///
    /// # Errors
    /// Not everything ended in time.
    pub async fn flush(&self, wait: Duration) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        let flushed = task::spawn_blocking(move || inner.flush(wait)).await;
        match flushed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::from_rdkafka(&error, "not every record was acknowledged in time")),
            Err(error) => Err(Error::Fatal(format!("flushing ended: {error}"))),
        }
    }

    /// Waits for what was handed over, within a bound of 10 s, and ends the producer.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn close(self) -> Result<(), Error> {
        let deadline = Instant::now() + Duration::from_millis(CLOSE_WAIT_MS);
        let flushed = self.flush(Duration::from_millis(CLOSE_WAIT_MS)).await;
        // Ending the client joins its threads.
        let _ = timeout_at(deadline + Duration::from_secs(1), task::spawn_blocking(move || drop(self))).await;
        flushed
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

fn headers(headers: &[Header]) -> OwnedHeaders {
    headers.iter().fold(OwnedHeaders::new_with_capacity(headers.len()), |all, header| {
        all.insert(NativeHeader { key: &header.key, value: header.value.as_deref() })
    })
}

/// How a record ended.
#[derive(Clone, Copy)]
enum Outcome {
    Waiting,
    Delivered(Delivered),
    Failed(Code),
}

/// One call to [`Producer::send_all`].
struct Call {
    /// The outcomes, and how many of them are still waited for.
    outcomes: Mutex<(Vec<Outcome>, usize)>,
    done: Notify,
}

/// The calls that wait. A record carries its call's slot and its index in it through librdkafka, so that nothing is
/// allocated per record.
#[derive(Default)]
struct Calls {
    slots: Vec<Option<Arc<Call>>>,
    free: Vec<usize>,
}

/// Gives up the records of a call that were not handed over, if the call is dropped.
struct HandingOver<'a> {
    context: &'a Context,
    slot: usize,
    left: usize,
}

impl Drop for HandingOver<'_> {
    fn drop(&mut self) {
        if self.left > 0 {
            self.context.end(self.slot, self.left, |_| {});
        }
    }
}

struct Context {
    errors: ClientErrors,
    calls: Mutex<Calls>,
    room: Notify,
}

impl Context {
    fn open(&self, records: usize) -> (usize, Arc<Call>) {
        let call = Arc::new(Call { outcomes: Mutex::new((vec![Outcome::Waiting; records], records)), done: Notify::new() });
        let mut calls = lock(&self.calls);
        let slot = calls.free.pop().unwrap_or(calls.slots.len());
        if slot == calls.slots.len() {
            calls.slots.push(None);
        }
        calls.slots[slot] = Some(Arc::clone(&call));
        (slot, call)
    }

    /// Notes that `count` records of the call have ended.
    fn end(&self, slot: usize, count: usize, note: impl FnOnce(&mut [Outcome])) {
        let Some(call) = lock(&self.calls).slots.get(slot).cloned().flatten() else { return };
        let left = {
            let mut outcomes = lock(&call.outcomes);
            note(&mut outcomes.0);
            outcomes.1 = outcomes.1.saturating_sub(count);
            outcomes.1
        };
        if left == 0 {
            let mut calls = lock(&self.calls);
            calls.slots[slot] = None;
            calls.free.push(slot);
            call.done.notify_one();
        }
    }

    fn failure(&self, code: Code, record: &OutRecord) -> Error {
        // A broker that refuses the client lets its records time out.
        match self.errors.refused() {
            Some(refused) if code == Code::MSG_TIMED_OUT => refused,
            _ => {
                let bytes = record.payload.as_ref().map_or(0, Vec::len);
                Error::from_code(code, format_args!("a record of {bytes} bytes was not written to {}", record.topic))
            }
        }
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.errors.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.errors.error(error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let outcome = match result {
            Ok(message) => {
                self.errors.works();
                Outcome::Delivered(Delivered { partition: message.partition(), offset: message.offset() })
            }
            Err((error, _)) => Outcome::Failed(error.rdkafka_error_code().map_or(Code::FATAL, Code::from)),
        };
        self.end(opaque >> INDEX_BITS, 1, |outcomes| outcomes[opaque & (RECORDS_MAX - 1)] = outcome);
        self.room.notify_one();
    }
}
