//! A recording on its way to the broker.

use std::{
    collections::{HashSet, VecDeque},
    future::{Future, poll_fn},
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{Account, Error, Message, Publish, PublishError, Recording, Totals, encode::Encoder, progress::Kept};

/// Messages that wait for their acknowledgement.
const IN_FLIGHT_MESSAGES_MAX: usize = 20_000;
/// Bytes of their payloads.
const IN_FLIGHT_BYTES_MAX: usize = 32 << 20;
/// Messages and bytes of payloads that the reader hands over at once.
const CHUNK_MESSAGES: usize = 256;
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks read ahead.
const CHUNKS_AHEAD: usize = 4;
/// How often progress is kept and reported.
const TICK_MS: u64 = 500;
/// Without an acknowledgement for so long, the replay says that it waits.
const WAITING_AFTER_MS: u64 = 2_000;
/// How often it says so.
const WAITING_AGAIN_MS: u64 = 10_000;
/// Waits before a message is sent again.
const RETRY_MS_MIN: u64 = 100;
const RETRY_MS_MAX: u64 = 5_000;
/// How long a replay that is stopped waits for what is in flight.
const DRAIN_MS_MAX: u64 = 10_000;

/// How fast a recording is played.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as the broker takes it.
    Fast,
    /// So many times the recorded speed: finite, above 0; 1 is as recorded.
    Times(f64),
}

/// How a recording is replayed.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// How fast.
    pub pace: Pace,
    /// Folder where progress is kept; without one an interrupted replay begins again.
    pub progress_folder: Option<PathBuf>,
    /// What names the receiving cluster: progress towards one is not progress towards another.
    pub target: String,
    /// Leaves out kept progress and begins at the start.
    pub restart: bool,
    /// How long to wait without any acknowledgement before giving up; `None`: until the broker is back.
    pub wait_max: Option<Duration>,
}

/// What a replay tells while it runs.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The account so far, twice a second and at the end.
    Account(&'a Account),
    /// An interrupted replay goes on after so many acknowledged messages.
    Resuming(u64),
    /// Nothing was acknowledged for a while.
    Waiting {
        /// For how long.
        waited: Duration,
        /// What the producer last said.
        reason: &'a str,
    },
}

/// Plays a recording to `producer` until its end, or until `stop` is cancelled: then what is in flight is waited for
/// (at most 10 s) and progress is kept. Each delivery is awaited; progress counts messages that were acknowledged
/// without a gap, so a resumed replay repeats at most what was in flight.
///
/// # Errors
/// A file cannot be read, the recording is not what the kept progress belongs to, the broker refuses a message or does
/// not answer within `wait_max`. Progress is kept.
pub async fn replay<P: Publish>(
    recording: Recording,
    producer: &P,
    options: &ReplayOptions,
    stop: &CancellationToken,
    tell: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<Account, Error> {
    let folder = options.progress_folder.as_deref();
    let kept = folder.map(|folder| Kept::open(folder, &recording, &options.target, options.restart)).transpose()?;
    let resumed = kept.as_ref().map_or(0, Kept::messages);
    if resumed > 0 {
        tell(Progress::Resuming(resumed));
    }
    let account =
        Account { files: recording.files() as u64, bytes: recording.bytes(), resumed_messages: resumed, ..Account::default() };
    let (chunks, ahead) = mpsc::channel(CHUNKS_AHEAD);
    let reader = tokio::task::spawn_blocking(move || read(recording, resumed, &chunks));
    let now = Instant::now();
    let mut replay = Replay {
        producer,
        options,
        stop,
        tell,
        kept,
        saved: resumed,
        account,
        in_flight: VecDeque::new(),
        in_flight_bytes: 0,
        started: now,
        next_tick: now + Duration::from_millis(TICK_MS),
        silent_since: now,
        next_waiting: now,
        publishing: false,
        resend_wait_ms: 0,
        reason: "the broker does not answer, or takes nothing for now (a full disk): its log and health say which".into(),
        clock: None,
    };
    let played = replay.play(ahead).await;
    if matches!(played, Err(Interrupted::Stopped)) {
        replay.drain().await;
    }
    // A reader whose listener is gone ends early, and without error.
    let read = reader.await.unwrap_or_else(|died| Err(Error::io("the recording")(std::io::Error::other(died))));
    let kept = replay.end(played.is_ok() && matches!(read, Ok(true)));
    if let Err(Interrupted::Failed(error)) = played {
        return Err(error);
    }
    read?;
    kept?;
    Ok(replay.account)
}

/// Messages in order, and what had been read when the last of them was made.
struct Chunk {
    messages: Vec<Message>,
    totals: Totals,
    bytes_read: u64,
}

/// Reads the recording to its end (true), or until nobody listens.
fn read(mut recording: Recording, skip: u64, chunks: &mpsc::Sender<Chunk>) -> Result<bool, Error> {
    let mut encoder = Encoder::new(recording.format, recording.batch);
    let mut skipped = 0;
    loop {
        let mut messages = Vec::new();
        let mut bytes = 0;
        let mut more = true;
        while more && messages.len() < CHUNK_MESSAGES && bytes < CHUNK_BYTES {
            match recording.next_piece()? {
                Some((_, piece)) if skipped < skip => {
                    encoder.skip(&piece);
                    skipped += 1;
                }
                Some((label, piece)) => {
                    let message = encoder.message(&label, &piece);
                    bytes += message.payload.len();
                    messages.push(message);
                }
                None => more = false,
            }
        }
        let chunk = Chunk { messages, totals: recording.totals().clone(), bytes_read: recording.bytes_read() };
        if chunks.blocking_send(chunk).is_err() {
            return Ok(false);
        }
        if !more {
            return Ok(true);
        }
    }
}

struct Replay<'a, P: Publish> {
    producer: &'a P,
    options: &'a ReplayOptions,
    stop: &'a CancellationToken,
    tell: &'a mut (dyn FnMut(Progress<'_>) + Send),
    kept: Option<Kept>,
    /// Messages that the kept progress counts.
    saved: u64,
    account: Account,
    /// In the order of the recording: what is acknowledged leaves at the front, without gaps.
    in_flight: VecDeque<InFlight<P::Delivery>>,
    in_flight_bytes: usize,
    started: Instant,
    next_tick: Instant,
    /// Since when nothing was acknowledged, while there was something to acknowledge.
    silent_since: Instant,
    /// When it may be told again that nothing is.
    next_waiting: Instant,
    publishing: bool,
    /// Wait before the message at the front is sent again.
    resend_wait_ms: u64,
    /// What the producer last said of its troubles.
    reason: String,
    clock: Option<Clock>,
}

struct InFlight<D> {
    message: Arc<Message>,
    delivery: D,
    /// Why the delivery was given up, until the message is sent again.
    failed: Option<PublishError>,
}

/// The recorded time that belongs to a time of ours.
struct Clock {
    recorded_ns: i64,
    ours: Instant,
    assets: HashSet<Arc<str>>,
}

enum Interrupted {
    Stopped,
    Failed(Error),
}

enum Woke<T> {
    Done(T),
    /// The delivery at the front ended.
    Settled,
}

impl<P: Publish> Replay<'_, P> {
    async fn play(&mut self, mut ahead: mpsc::Receiver<Chunk>) -> Result<(), Interrupted> {
        while let Some(chunk) = self.during(ahead.recv()).await? {
            self.account.read = chunk.totals;
            self.account.bytes_read = chunk.bytes_read;
            for message in chunk.messages {
                self.wait_until_due(&message).await?;
                while self.in_flight.len() >= IN_FLIGHT_MESSAGES_MAX || self.in_flight_bytes >= IN_FLIGHT_BYTES_MAX {
                    self.settle_front().await?;
                }
                if self.account.resumed_messages > 0 && self.account.messages == 0 {
                    self.account.resumed_from = Some(message.source.clone());
                }
                let delivery = self.publish(&message).await?;
                self.account.messages += 1;
                self.account.payload_bytes += message.payload.len() as u64;
                self.in_flight_bytes += message.payload.len();
                self.in_flight.push_back(InFlight { message: Arc::new(message), delivery, failed: None });
                self.settle_ready().await?;
            }
        }
        while !self.in_flight.is_empty() {
            self.settle_front().await?;
        }
        Ok(())
    }

    /// Gives what is in flight when the replay is stopped a bounded time to be acknowledged.
    async fn drain(&mut self) {
        let until = Instant::now() + Duration::from_millis(DRAIN_MS_MAX);
        while let Some(oldest) = self.in_flight.front_mut()
            && oldest.failed.is_none()
        {
            tokio::select! {
                biased;
                result = &mut oldest.delivery => match result {
                    Ok(()) => self.acknowledged(),
                    Err(_) => return,
                },
                () = sleep_until(until) => return,
            }
        }
    }

    /// Keeps progress, or forgets it where the recording was played to its end, and tells the final account.
    fn end(&mut self, ended: bool) -> Result<(), Error> {
        self.account.interrupted = !ended;
        let kept = match &self.kept {
            Some(kept) if ended => kept.finish(),
            _ => self.save(),
        };
        self.tell_account();
        kept
    }

    /// Waits until a message may be sent. The first of all starts the clock. A message whose time is past goes at once,
    /// but for the first of an asset: the clock goes back to it, so that assets recorded one after the other in a file
    /// are each played at their pace.
    async fn wait_until_due(&mut self, message: &Message) -> Result<(), Interrupted> {
        let Pace::Times(speed) = self.options.pace else { return Ok(()) };
        let now = Instant::now();
        let clock = self.clock.get_or_insert_with(|| Clock { recorded_ns: message.due_ns, ours: now, assets: HashSet::new() });
        let begins = !clock.assets.contains(&message.key) && clock.assets.insert(message.key.clone());
        let played_ns = (now.duration_since(clock.ours).as_secs_f64() * speed * 1e9) as i64;
        if begins && message.due_ns < clock.recorded_ns.saturating_add(played_ns) {
            (clock.recorded_ns, clock.ours) = (message.due_ns, now);
        }
        let ahead_s = message.due_ns.saturating_sub(clock.recorded_ns).max(0) as f64 / 1e9 / speed;
        let due = Duration::try_from_secs_f64(ahead_s).ok().and_then(|ahead| clock.ours.checked_add(ahead));
        match due {
            Some(due) if due > now => self.resending_during(sleep_until(due)).await,
            Some(_) => Ok(()),
            // Further ahead than clocks reach: it waits to be stopped.
            None => self.resending_during(std::future::pending()).await,
        }
    }

    /// Waits for the delivery at the front to end well; sends its message again where it was given up.
    async fn settle_front(&mut self) -> Result<(), Interrupted> {
        let acknowledged = self.account.acknowledged;
        while self.account.acknowledged == acknowledged && !self.in_flight.is_empty() {
            self.resend().await?;
            self.step(std::pin::pin!(std::future::pending::<()>())).await?;
        }
        Ok(())
    }

    /// Takes the deliveries at the front that have ended already.
    async fn settle_ready(&mut self) -> Result<(), Interrupted> {
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(result) = poll_front(&mut self.in_flight, &mut context) {
            self.settled(result);
            self.resend().await?;
        }
        self.tick()
    }

    /// Sends the message at the front again, if its delivery was given up: at once where the one before it was acknowledged, so
    /// that many that were given up together do not wait one by one.
    async fn resend(&mut self) -> Result<(), Interrupted> {
        while let Some(InFlight { message, failed: Some(error), .. }) = self.in_flight.front() {
            let (message, error) = (message.clone(), error.clone());
            let mut wait_ms = self.resend_wait_ms;
            self.retry(&message, error, &mut wait_ms).await?;
            self.resend_wait_ms = wait_ms;
            let delivery = self.publish(&message).await?;
            if let Some(oldest) = self.in_flight.front_mut() {
                (oldest.delivery, oldest.failed) = (delivery, None);
            }
            self.account.repeated += 1;
        }
        Ok(())
    }

    async fn publish(&mut self, message: &Message) -> Result<P::Delivery, Interrupted> {
        let producer = self.producer;
        let mut wait_ms = RETRY_MS_MIN;
        if self.in_flight.is_empty() {
            self.silent_since = Instant::now();
        }
        loop {
            self.publishing = true;
            let published = self.during(producer.publish(message)).await;
            self.publishing = false;
            match published? {
                Ok(delivery) => return Ok(delivery),
                Err(error) => self.retry(message, error, &mut wait_ms).await?,
            }
        }
    }

    async fn retry(&mut self, message: &Message, error: PublishError, wait_ms: &mut u64) -> Result<(), Interrupted> {
        match error {
            PublishError::Fatal(reason) => {
                Err(Interrupted::Failed(Error::Refused { source_position: message.source.clone(), reason }))
            }
            PublishError::Retry(reason) => {
                self.reason = reason;
                self.publishing = true;
                self.during(sleep(Duration::from_millis(*wait_ms))).await?;
                self.publishing = false;
                *wait_ms = (*wait_ms * 2).clamp(RETRY_MS_MIN, RETRY_MS_MAX);
                Ok(())
            }
        }
    }

    async fn resending_during<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Interrupted> {
        let mut future = std::pin::pin!(future);
        loop {
            match self.step(future.as_mut()).await? {
                Woke::Done(done) => return Ok(done),
                Woke::Settled => self.resend().await?,
            }
        }
    }

    async fn during<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Interrupted> {
        let mut future = std::pin::pin!(future);
        loop {
            if let Woke::Done(done) = self.step(future.as_mut()).await? {
                return Ok(done);
            }
        }
    }

    /// Waits for something or for the delivery at the front, and meanwhile keeps and tells progress, notices a broker
    /// that is away, and stops when told.
    async fn step<F: Future>(&mut self, mut future: Pin<&mut F>) -> Result<Woke<F::Output>, Interrupted> {
        let stop = self.stop;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Interrupted::Stopped),
                result = poll_fn(|context| poll_front(&mut self.in_flight, context)) => {
                    self.settled(result);
                    return Ok(Woke::Settled);
                }
                done = &mut future => return Ok(Woke::Done(done)),
                () = sleep_until(self.next_tick) => self.tick()?,
            }
        }
    }

    fn settled(&mut self, result: Result<(), PublishError>) {
        match (result, self.in_flight.front_mut()) {
            (Ok(()), _) => self.acknowledged(),
            (Err(error), Some(oldest)) => oldest.failed = Some(error),
            (Err(_), None) => {}
        }
    }

    fn acknowledged(&mut self) {
        let Some(oldest) = self.in_flight.pop_front() else { return };
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(oldest.message.payload.len());
        self.account.acknowledged += 1;
        self.account.acknowledged_readings += oldest.message.readings;
        self.account.acknowledged_frames += oldest.message.frames;
        self.silent_since = Instant::now();
        self.resend_wait_ms = 0;
    }

    fn tick(&mut self) -> Result<(), Interrupted> {
        let now = Instant::now();
        if now < self.next_tick {
            return Ok(());
        }
        self.next_tick = now + Duration::from_millis(TICK_MS);
        self.save().map_err(Interrupted::Failed)?;
        self.tell_account();
        let waited = now.duration_since(self.silent_since);
        if (!self.publishing && self.in_flight.is_empty()) || waited < Duration::from_millis(WAITING_AFTER_MS) {
            return Ok(());
        }
        if now >= self.next_waiting.max(self.silent_since + Duration::from_millis(WAITING_AFTER_MS)) {
            self.next_waiting = now + Duration::from_millis(WAITING_AGAIN_MS);
            (self.tell)(Progress::Waiting { waited, reason: &self.reason });
        }
        match self.options.wait_max {
            Some(wait_max) if waited >= wait_max => {
                Err(Interrupted::Failed(Error::Stalled { waited_s: waited.as_secs(), reason: self.reason.clone() }))
            }
            _ => Ok(()),
        }
    }

    fn save(&mut self) -> Result<(), Error> {
        let messages = self.account.resumed_messages + self.account.acknowledged;
        if let Some(kept) = &mut self.kept
            && messages != self.saved
        {
            kept.save(messages)?;
            self.saved = messages;
        }
        Ok(())
    }

    fn tell_account(&mut self) {
        self.account.elapsed_s = self.started.elapsed().as_secs_f64();
        (self.tell)(Progress::Account(&self.account));
    }
}

/// How the delivery at the front ended; pending where there is none, or where its message must first be sent again.
fn poll_front<D: Future<Output = Result<(), PublishError>> + Unpin>(
    in_flight: &mut VecDeque<InFlight<D>>,
    context: &mut Context<'_>,
) -> Poll<Result<(), PublishError>> {
    match in_flight.front_mut() {
        Some(InFlight { delivery, failed: None, .. }) => Pin::new(delivery).poll(context),
        _ => Poll::Pending,
    }
}
