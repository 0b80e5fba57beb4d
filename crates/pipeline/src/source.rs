//! Where records come from.

use std::{fmt, future::Future, sync::Arc};

/// One partition of one topic. Cheap to clone; never made per record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number within the topic.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition by topic name and number.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A range of positions of one partition, half open.
///
/// The offsets in it need not all hold a record (transaction markers, compaction, retention). Spans that the road gives to
/// a sink follow on each other without a hole: `from` is where the span before ended, not where the first record lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// The partition.
    pub partition: TopicPartition,
    /// First position.
    pub from: i64,
    /// The position to go on from: last offset + 1.
    pub next: i64,
}

/// A record as it lies in the source's own buffer.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Position in the partition.
    pub offset: i64,
    /// The record's timestamp in ms since the epoch, where it has one.
    pub timestamp_ms: Option<i64>,
    /// The key's bytes: the asset for MANTIS topics.
    pub key: Option<&'a [u8]>,
    /// The value's bytes; `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
}

/// A record's header, owned. Headers are copied only for dead letters and traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The header's name.
    pub key: String,
    /// The header's value.
    pub value: Option<Vec<u8>>,
}

/// Records of one partition, in order of offset, never empty. Owns the memory that its records borrow from.
pub trait RecordBatch: Send + Sync + 'static {
    /// The partition that every record of the batch comes from.
    fn partition(&self) -> &TopicPartition;
    /// Number of records, at least one.
    fn len(&self) -> usize;
    /// Never true: an empty batch is not handed out.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The record at `index`, below [`len`](Self::len).
    fn record(&self, index: usize) -> Record<'_>;
    /// The headers of the record at `index`, copied.
    fn headers(&self, index: usize) -> Vec<Header>;
    /// Bytes of memory that the batch holds on to, for the road's bound.
    fn bytes(&self) -> usize;
}

/// A partition that the source now owns, before the first record of it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub partition: TopicPartition,
    /// The group's committed offset, if it has one.
    pub committed: Option<i64>,
    /// First offset that the log still has.
    pub log_start: i64,
    /// Offset after the last record of the log.
    pub log_end: i64,
}

/// What a source reports.
#[derive(Debug)]
pub enum Event<B> {
    /// Partitions were assigned. Nothing of them is read before [`Source::start`].
    Assigned(Vec<Assigned>),
    /// Partitions are about to be taken away. They are still owned, and may be committed,
    /// until [`Source::release`]; that must come within the source's rebalance timeout.
    Revoked(Vec<TopicPartition>),
    /// Partitions are already lost (the member was fenced): no commit of them can take effect.
    /// [`Source::release`] must still be called.
    Lost(Vec<TopicPartition>),
    /// Records of one partition.
    Records(B),
    /// Records of a partition that were removed (retention) before they could be read. Reading goes on at `span.next`.
    Gap(Span),
    /// A partition that is owned cannot be read at its position, for this reason (it says what to do). The source tries again
    /// by itself and reports each failed attempt; records or a gap of the partition say that it is over. Others go on.
    Unreadable(TopicPartition, String),
}

/// A failure of the source. The road logs it, keeps it as the last error, waits with backoff and goes on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Passing trouble (the broker is away, a coordinator moves): try again.
    #[error("{0}")]
    Retry(String),
    /// Wrong credentials or missing rights: report, wait, try again; never drop.
    #[error("{0}")]
    Credentials(String),
    /// The source can never give anything again: the worker stops.
    #[error("{0}")]
    Fatal(String),
}

/// Where records come from, and where progress is kept. One task owns it.
///
/// While a method other than [`next`](Self::next) runs, the road does nothing else: each ends within the source's own
/// bound, with an error if need be. What failed with [`SourceError::Retry`] or [`SourceError::Credentials`] is called again.
pub trait Source: Send {
    /// The batches it hands out.
    type Batch: RecordBatch;

    /// The next event. Cancel safe: a dropped future loses nothing.
    ///
    /// As long as the road does not call it, nothing new is taken from the source; a source keeps at most its
    /// own byte-bounded prefetch. The road leaves it alone for [`Limits::stall_pause_ms`](crate::Limits::stall_pause_ms)
    /// at most, or [`Limits::release_wait_ms`](crate::Limits::release_wait_ms) after a revocation.
    fn next(&mut self) -> impl Future<Output = Result<Event<Self::Batch>, SourceError>> + Send;

    /// Answers [`Event::Assigned`]: begins to read each partition at the given offset. Assigned partitions that are
    /// left out are owned but not read (their start position cannot be honoured).
    fn start(&mut self, at: &[(TopicPartition, i64)]) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Answers [`Event::Revoked`] and [`Event::Lost`]: gives the partitions up.
    /// After it returns, no batch of them is handed out and no commit of them is sent.
    fn release(&mut self, partitions: &[TopicPartition]) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Commits `(partition, next offset)` and returns when the group has it, or not. No error of it stops the road: it
    /// commits again later, with what has ended by then.
    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Goes on reading an owned partition at `offset`; what was prefetched of it is discarded, and it stays paused if it
    /// is. Below the log's start an [`Event::Gap`] follows; above its end it is [`SourceError::Fatal`].
    fn seek(&mut self, partition: &TopicPartition, offset: i64) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Stops handing out records of owned partitions; [`next`](Self::next) still reports rebalances.
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), SourceError>;

    /// Undoes [`pause`](Self::pause), from the place where reading stopped.
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), SourceError>;

    /// Leaves the group, within the source's own bound. What is not committed is read again by the next owner.
    fn close(self) -> impl Future<Output = ()> + Send;
}
