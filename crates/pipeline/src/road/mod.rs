//! The road: one task that owns the source, decodes in place, and lets each lane's write fly beside it.

mod assign;
mod commit;
mod intake;
mod land;
mod leave;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Assigned, DeadLetters, Decoder, Event, Fault, Limits, RecordBatch, Sink, Source, SourceError, Start, State, Status,
    TopicPartition,
    backoff::Backoff,
    batch::{Batch, Owner},
    flight::{Ends, Landing},
    lane::Lane,
    stopped::Stopped,
    watermark::Watermark,
};

/// Carries records from the source to the sink until `shutdown` is cancelled, then writes what was read, commits and
/// closes the source, within [`Limits::shutdown_wait_ms`].
///
/// Dropping the future is a crash: what was not committed is read again by the next owner.
///
/// # Errors
/// An end said that going on would be wrong. Everything that had ended is committed, and the source is closed.
pub async fn run<Src, Dec, Snk, Dlq>(
    mut source: Src,
    decoder: Dec,
    sink: Arc<Snk>,
    dead_letters: Arc<Dlq>,
    limits: Limits,
    status: Arc<Status>,
    shutdown: CancellationToken,
) -> Result<(), Stopped>
where
    Src: Source,
    Dec: Decoder,
    Snk: Sink<Columns = Dec::Columns>,
    Dlq: DeadLetters,
{
    let mut road = Road::new(decoder, sink, dead_letters, limits, status.clone());
    let driven = road.drive(&mut source, &shutdown).await;
    let finished = road.finish(&mut source, driven.is_ok()).await;
    source.close().await;
    let ended = driven.and(finished);
    status.stopped(ended.as_ref().err().map(ToString::to_string));
    ended
}

/// An owned partition.
#[derive(Debug)]
struct Partition {
    epoch: u64,
    lane: usize,
    position: Position,
    /// The offset that the next record or gap follows on.
    read: i64,
    watermark: Watermark,
    /// It is being revoked: nothing of it is taken in or put back.
    leaving: bool,
    /// The source could not read it when it last tried.
    unreadable: bool,
}

/// What has to be done before a partition can be read.
#[derive(Debug)]
enum Position {
    /// The sink has not said yet where to start.
    Asking(Assigned),
    /// The source must be told to start here.
    Start(i64),
    /// The source must be told to go on here; what it hands out until then is dropped.
    Seek(i64),
    /// Nothing.
    Reading,
    /// It cannot be read.
    Stopped,
}

/// What ran beside the road and has ended.
enum Ended<C, B> {
    Flight { lane: usize, batch: Batch<C, B>, landing: Landing },
    Starts { asked: Vec<(Owner, Assigned)>, answer: Result<Vec<Start>, Fault> },
}

/// Something that is tried again later.
#[derive(Debug)]
struct Later {
    at: Option<Instant>,
    backoff: Backoff,
}

impl Later {
    fn new(limits: &Limits, stream: u64) -> Self {
        Self { at: None, backoff: Backoff::new(&limits.retry, stream) }
    }

    fn waits(&self) -> bool {
        self.at.is_some_and(|at| at > Instant::now())
    }

    fn succeeded(&mut self) {
        self.at = None;
        self.backoff.reset();
    }
}

struct Road<Dec: Decoder, Snk, Dlq, B> {
    decoder: Dec,
    ends: Arc<Ends<Snk, Dlq>>,
    limits: Limits,
    status: Arc<Status>,
    lanes: Vec<Lane<Dec::Columns, B>>,
    lane_numbers: HashMap<(Arc<str>, usize), usize>,
    partitions: HashMap<TopicPartition, Partition>,
    /// Flights and questions to the sink: a few per lane at most.
    beside: JoinSet<Ended<Dec::Columns, B>>,
    asking: bool,
    /// Given up, and the source does not know it yet.
    releasing: Vec<TopicPartition>,
    /// Some partition's position wants something done.
    unsettled: bool,
    epochs: u64,
    flights: u64,
    held_source_bytes: Arc<AtomicUsize>,
    held_shown: usize,
    over_since: Option<Instant>,
    commit_at: Instant,
    source: Later,
    start: Later,
    commit: Later,
}

impl<Dec, Snk, Dlq, B> Road<Dec, Snk, Dlq, B>
where
    Dec: Decoder,
    Snk: Sink<Columns = Dec::Columns>,
    Dlq: DeadLetters,
    B: RecordBatch,
{
    fn new(decoder: Dec, sink: Arc<Snk>, dead_letters: Arc<Dlq>, limits: Limits, status: Arc<Status>) -> Self {
        let ends = Ends {
            sink,
            dead_letters,
            writes: Semaphore::new(limits.lanes_max.max(1)),
            letters_bytes_max: limits.letters_bytes_max,
            retry: limits.retry.clone(),
            status: status.clone(),
        };
        Self {
            decoder,
            ends: Arc::new(ends),
            status,
            lanes: Vec::new(),
            lane_numbers: HashMap::new(),
            partitions: HashMap::new(),
            beside: JoinSet::new(),
            asking: false,
            releasing: Vec::new(),
            unsettled: false,
            epochs: 0,
            flights: FIRST_FLIGHT_STREAM,
            held_source_bytes: Arc::default(),
            held_shown: 0,
            over_since: None,
            commit_at: Instant::now() + limits.commit_interval(),
            source: Later::new(&limits, 1),
            start: Later::new(&limits, 2),
            commit: Later::new(&limits, 3),
            limits,
        }
    }

    async fn drive<Src: Source<Batch = B>>(&mut self, source: &mut Src, shutdown: &CancellationToken) -> Result<(), Stopped> {
        loop {
            // A source that always has something must not keep the others on this thread from running.
            tokio::task::consume_budget().await;
            self.settle(source).await?;
            self.ask_for_starts();
            self.pump(false);
            let takes = self.regulate(source)?;
            if self.commit_at <= Instant::now() {
                self.commit_all(source).await;
            }
            let wake = self.wakes_at();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                Some(ended) = self.beside.join_next(), if !self.beside.is_empty() => self.land(ended)?,
                () = sleep_until(wake) => {}
                event = source.next(), if takes => self.take(source, event).await?,
            }
        }
    }

    async fn take<Src: Source<Batch = B>>(
        &mut self,
        source: &mut Src,
        event: Result<Event<B>, SourceError>,
    ) -> Result<(), Stopped> {
        let event = match event {
            Ok(event) => event,
            Err(error) => return self.source_failed(error),
        };
        self.source_works();
        match event {
            Event::Assigned(assigned) => self.assigned(assigned),
            Event::Revoked(partitions) => self.revoked(source, partitions).await?,
            Event::Lost(partitions) => self.lost(partitions),
            Event::Records(batch) => self.records(batch),
            Event::Gap(span) => self.gap(span),
            Event::Unreadable(partition, reason) => self.unreadable(&partition, &reason),
        }
        Ok(())
    }

    /// Notes a failure of the source and lets it rest.
    fn source_failed(&mut self, error: SourceError) -> Result<(), Stopped> {
        let (state, wait) = match &error {
            SourceError::Retry(_) => (State::Retrying, self.source.backoff.passing(None)),
            SourceError::Credentials(_) => (State::Paused, self.source.backoff.credentials()),
            SourceError::Fatal(reason) => return Err(Stopped::Source(reason.clone())),
        };
        self.status.failed("source", state, &error.to_string());
        self.source.at = Some(Instant::now() + wait);
        Ok(())
    }

    fn source_works(&mut self) {
        if self.source.at.is_some() {
            self.source.succeeded();
            self.status.recovered("source");
        }
    }

    /// When there is something to do though nothing happens.
    fn wakes_at(&self) -> Instant {
        let lanes = self.lanes.iter().flat_map(|lane| {
            let stall = lane.blocked_since.filter(|_| !lane.paused).map(|since| since + self.limits.stall_pause());
            [lane.lingers_until(&self.limits), stall]
        });
        let over =
            self.over_since.filter(|_| self.lanes.iter().any(|lane| !lane.paused)).map(|since| since + self.limits.stall_pause());
        let resting = self.source.at.filter(|_| self.source.waits());
        let asking = self.start.at.filter(|_| self.start.waits());
        let now = Instant::now();
        // While the source rests nothing can be paused, so a stall that is over wakes nobody.
        let times = lanes.flatten().chain(over).filter(|at| resting.is_none() || *at > now).chain(resting).chain(asking);
        times.fold(self.commit_at, Instant::min)
    }

    /// True if the ownership is the present one.
    fn owned(&self, owner: &Owner) -> bool {
        self.partitions.get(&owner.partition).is_some_and(|partition| partition.epoch == owner.epoch)
    }

    fn held_bytes(&self) -> usize {
        self.held_source_bytes.load(Ordering::Relaxed) + self.lanes.iter().map(Lane::bytes).sum::<usize>()
    }
}

/// Streams below it belong to the road's own waits.
const FIRST_FLIGHT_STREAM: u64 = 16;
