//! Where rows become durable.

use std::{future::Future, ops::Range, time::Duration};

use crate::{Assigned, Columns, Reason, Span, TopicPartition};

/// Where a sink wants a newly assigned partition to be read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The group's committed offset; the log's start if there is none.
    Committed,
    /// The sink keeps its own ledger, and it ends here: the next offset to read.
    At(i64),
}

/// A part of a batch to be made durable.
#[derive(Debug)]
pub struct Part<'a, C> {
    /// The batch's columns, all of them.
    pub columns: &'a C,
    /// The rows to write now.
    pub rows: Range<usize>,
    /// The positions that the batch covers, one span per partition.
    pub spans: &'a [Span],
    /// True where these rows are all that is left of the batch: if every one of them ends as written or duplicate, a
    /// sink with a ledger moves it to each span's `next` in the same transaction. Otherwise it leaves the ledger
    /// alone, and the road calls [`Sink::advance`] once the rejected rows have their dead letters.
    pub last: bool,
}

/// A position that the sink's ledger holds instead of the one a write assumed.
pub type Moved = (TopicPartition, i64);

/// What a sink has made durable of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// Everything before this offset.
    To(i64),
    /// Its ledger is here instead of where the rows that it held begin: they are dropped, and reading goes on here.
    Moved(i64),
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every row ended. Rows that are not listed as rejected are durable.
    /// `written + duplicates + conflicts + rejected.len()` is the number of rows of the part.
    Ended {
        /// Rows that were new.
        written: usize,
        /// Rows that the store already had with the same value, where it can tell.
        duplicates: usize,
        /// Rows whose identity the store already had with another value, now replaced (the last by offset wins).
        conflicts: usize,
        /// Rows that the store refused, by index into the columns, in order, with the reason.
        rejected: Vec<(usize, Reason)>,
        /// True where a sink with a ledger has moved it to the end of the batch.
        advanced: bool,
    },
    /// The store refused the part as a whole and does not say which row is to blame: the road bisects it.
    /// Nothing of it counts as written.
    Refused(Reason),
    /// The ledger is not where the batch starts: another owner wrote, or the store was restored. Nothing was written.
    /// The road drops the batch and goes on reading at these positions; at least one partition of the batch is named.
    Moved(Vec<Moved>),
}

/// A write that did not come to an end. Nothing may be assumed of its rows: they are written again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Passing trouble. `after` is what the store asked for (Retry-After); without it the road backs off.
    #[error("{reason}")]
    Retry {
        /// What happened, to what, and what to do.
        reason: String,
        /// How long the store asked to be left alone.
        after: Option<Duration>,
    },
    /// Wrong credentials or missing rights: the worker pauses, reports and tries again slowly; it never drops.
    #[error("{reason}")]
    Credentials {
        /// What happened, to what, and what to do.
        reason: String,
    },
    /// Going on could lose data or make it wrong: the worker stops and says why.
    #[error("{reason}")]
    Fatal {
        /// What happened, to what, and what to do.
        reason: String,
    },
}

impl Fault {
    /// A passing fault, with the road's own backoff.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }
}

/// A store at the end of the road. Writes must be idempotent by the identity of the row.
///
/// The road may have several writes under way ([`Limits::lanes_max`](crate::Limits::lanes_max)), never two for one
/// partition. It does not cut a call short, because what becomes of it would not be known: each call ends within the sink's
/// own bound, with [`Fault::Retry`] if need be. Only when the worker ends or crashes the future is dropped.
pub trait Sink: Send + Sync + 'static {
    /// The columns it takes.
    type Columns: Columns;

    /// The positions to start from, one per partition and in the same order.
    ///
    /// A sink with a ledger takes the partitions over: a call for one of them that began before has ended or takes no effect
    /// any more. Without that nothing is lost, but a write of an earlier owner that lands late may bring an older value back.
    fn start(&self, _assigned: &[Assigned]) -> impl Future<Output = Result<Vec<Start>, Fault>> + Send;

    /// Makes rows durable; returns only when they are, or when the sink holds them and [`durable`](Self::durable) says so.
    fn write(&self, part: Part<'_, Self::Columns>) -> impl Future<Output = Result<Outcome, Fault>> + Send;

    /// Moves the sink's ledger over spans whose rows have all ended. Sinks without one do nothing. A ledger that is at the
    /// end of its span already (an earlier call got through unseen) is as good; one that is elsewhere moves nothing.
    fn advance(&self, spans: &[Span]) -> impl Future<Output = Result<Option<Vec<Moved>>, Fault>> + Send;

    /// Up to where an owned partition may be committed, when every row before `done` has ended: at most `done`.
    ///
    /// A sink that gathers rows and makes them durable together (an object, a snapshot of its state) answers where the last
    /// of these ends, and the group's offset waits for it. Asked at every commit, so it only looks.
    fn durable(&self, _partition: &TopicPartition, done: i64) -> Durable {
        Durable::To(done)
    }

    /// Makes durable what it holds of the partitions, because they are about to be given up. What fails or does not end in
    /// time (the road drops the call) is read again by the next owner.
    fn flush(&self, _partitions: &[TopicPartition]) -> impl Future<Output = Result<(), Fault>> + Send {
        async { Ok(()) }
    }

    /// The partitions were given up: what it holds of them is to be dropped.
    fn release(&self, _partitions: &[TopicPartition]) {}
}
