//! A member of a consumer group as the road's source.
//!
//! Rebalances: an assignment is answered at once with nothing, so that a store that is away keeps nobody waiting; a
//! partition is read from [`start`](Source::start) on. A revocation is answered by [`release`](Source::release): until
//! then the group waits, the partitions are still owned and can be committed.

mod owned;

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use mantis_pipeline::{Assigned, Event, RecordBatch, Source, SourceError, Span, TopicPartition};
use tokio::{
    sync::oneshot,
    task,
    time::{Instant, sleep_until, timeout_at},
};

use self::owned::{Owned, State};
use crate::{
    ClientConfig, ConsumerConfig, Error, MessageBatch,
    error::{Code, damage},
    positions,
    raw::{Client, Message, Queue, Rebalance, RebalanceKind},
};

/// Messages taken at once: what is handed out as one batch at most, and what is kept when its partition is paused.
const TAKEN_MESSAGES_MAX: usize = 4_096;
/// Longest wait for librdkafka's main thread to take a seek.
const SEEK_WAIT_MS: i32 = 5_000;
const COMMIT_WAIT_MS: u32 = 30_000;
const POSITIONS_WAIT_MS: u32 = 10_000;
const CLOSE_WAIT_MS: u64 = 5_000;
/// How often a partition whose position is beyond the log's end, or damaged, is looked at again.
const LOST_RECHECK_MS: u64 = 10_000;
/// Errors kept until they are asked for; more of the same say no more.
const ERRORS_MAX: usize = 16;

/// A member of a consumer group. Give it to a road, or drive it as a [`Source`].
pub struct Consumer {
    // In this order: batches and queues go before the client.
    ready: VecDeque<Ready>,
    taken: Vec<Message>,
    committing: Option<Queue>,
    queue: Queue,
    client: Arc<Client>,
    group: Arc<str>,
    owned: Owned,
    events: VecDeque<Event<MessageBatch>>,
    errors: VecDeque<SourceError>,
    leaving: Option<Leaving>,
    asking: Option<oneshot::Receiver<Answer>>,
    poll_interval: Duration,
}

/// What waits to be handed out, in order.
enum Ready {
    Records(MessageBatch),
    Gap(Span),
    Unreadable(TopicPartition, String),
}

/// A revocation that the group waits to be answered.
#[derive(Default)]
struct Leaving {
    partitions: Vec<TopicPartition>,
    /// Those of them that were reported and not yet released.
    waits: Vec<TopicPartition>,
}

type Answer = Result<Vec<(u64, Assigned)>, Error>;

impl Consumer {
    /// Joins the group. Needs a tokio runtime; does not wait for the brokers.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub fn new(client: &ClientConfig, config: &ConsumerConfig) -> Result<Self, Error> {
        let client = Client::consumer(&config.settings(client)?)?;
        let queue = Queue::of_consumer(&client)?;
        client.subscribe(&config.topics)?;
        Ok(Self {
            ready: VecDeque::new(),
            taken: Vec::new(),
            committing: None,
            queue,
            client,
            group: config.group.as_str().into(),
            owned: Owned::default(),
            events: VecDeque::new(),
            errors: VecDeque::new(),
            leaving: None,
            asking: None,
            poll_interval: Duration::from_millis(u64::from(config.poll_interval_ms.max(1_000)) / 3),
        })
    }

    /// Takes what librdkafka has. False if that was nothing.
    fn poll(&mut self) -> bool {
        let mut taken = std::mem::take(&mut self.taken);
        self.queue.consume(&mut taken, TAKEN_MESSAGES_MAX);
        let rebalances = self.client.rebalances();
        let something = !taken.is_empty() || !rebalances.is_empty();
        let mut messages = taken.drain(..);
        while let Some(first) = messages.as_slice().first() {
            let of_run = |next: &&Message| next.same_partition(first) && !next.code().is_error();
            // Counted first, so that a batch is one allocation.
            let count = messages.as_slice().iter().take_while(of_run).count();
            let run: Vec<Message> = messages.by_ref().take(count).collect();
            if !run.is_empty() {
                self.take(run);
            } else if let Some(error) = messages.next() {
                self.failed(&error);
            }
        }
        drop(messages);
        self.taken = taken;
        for rebalance in rebalances {
            self.rebalance(rebalance);
        }
        something
    }

    /// Takes messages of one partition in, without those that it had already.
    fn take(&mut self, mut run: Vec<Message>) {
        let Some(owned) = self.owned.get_mut(run[0].topic(), run[0].partition()) else { return };
        if owned.state != State::Reading || owned.leaves {
            return;
        }
        let repeated = run.partition_point(|message| message.offset() < owned.position);
        run.drain(..repeated);
        let Some(last) = run.last() else { return };
        owned.position = last.offset() + 1;
        let batch = MessageBatch::new(owned.name.clone(), run, Arc::clone(&self.client));
        self.ready.push_back(Ready::Records(batch));
    }

    /// Takes an error in the place of a message.
    fn failed(&mut self, message: &Message) {
        let code = message.code();
        match code {
            Code::PARTITION_EOF => {}
            Code::AUTO_OFFSET_RESET | Code::OFFSET_OUT_OF_RANGE | Code::LOG_TRUNCATION => {
                let Some(owned) = self.owned.get_mut(message.topic(), message.partition()) else { return };
                tracing::info!(partition = %owned.name, position = owned.position, reason = message.error_text(), "the position is not in the log");
                if owned.state == State::Reading {
                    owned.state = State::Lost(Instant::now());
                }
            }
            code if code.is_damage() => {
                let Some(owned) = self.owned.get_mut(message.topic(), message.partition()) else { return };
                if owned.state == State::Reading && !owned.leaves {
                    // librdkafka goes on behind a batch whose checksum is wrong: what comes of there is dropped until the batch
                    // can be read, or is no longer in the log.
                    owned.state = State::Lost(Instant::now() + Duration::from_millis(LOST_RECHECK_MS));
                    let reason = format!("{} ({})", damage(&owned.name, owned.position), message.error_text());
                    self.ready.push_back(Ready::Unreadable(owned.name.clone(), reason));
                }
            }
            _ => {
                let (text, topic) = (message.error_text(), message.topic());
                let error = match topic {
                    "" => Error::with_reason(code, text),
                    _ => Error::with_reason(code, format_args!("{topic}/{}: {text}", message.partition())),
                };
                self.note(error);
            }
        }
    }

    fn note(&mut self, error: Error) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push_back(error.into());
        }
    }

    fn rebalance(&mut self, rebalance: Rebalance) {
        tracing::debug!(group = %self.group, ?rebalance, "rebalance");
        match rebalance.kind {
            RebalanceKind::Assign => self.assigned(&rebalance.partitions),
            RebalanceKind::Revoke | RebalanceKind::Lost => self.revoked(&rebalance),
        }
    }

    fn assigned(&mut self, partitions: &[(String, i32)]) {
        let answered = if self.client.is_cooperative() { self.client.incremental_assign(&[]) } else { self.client.assign(&[]) };
        if let Err(error) = answered {
            self.note(error);
        }
        for (topic, partition) in partitions {
            self.owned.insert(topic, *partition);
        }
        if self.owned.is_empty() {
            self.events.push_back(Event::Assigned(Vec::new()));
        }
    }

    fn revoked(&mut self, rebalance: &Rebalance) {
        let lost = rebalance.kind == RebalanceKind::Lost;
        // librdkafka waits for the answer before it reports more; if it should not, all of it is answered together.
        let Leaving { mut partitions, waits: earlier } = self.leaving.take().unwrap_or_default();
        let mut waits = Vec::new();
        for (topic, partition) in &rebalance.partitions {
            let Some(owned) = self.owned.get_mut(topic, *partition) else { continue };
            if owned.leaves {
                owned.lost |= lost;
                continue;
            }
            owned.leaves = true;
            owned.lost = lost;
            partitions.push(owned.name.clone());
            if owned.state != State::Found {
                waits.push(owned.name.clone());
            }
        }
        self.discard(&partitions);
        if !waits.is_empty() {
            self.events.push_back(if lost { Event::Lost(waits.clone()) } else { Event::Revoked(waits.clone()) });
        }
        waits.extend(earlier);
        self.leaving = Some(Leaving { partitions, waits });
        self.leave();
    }

    /// Drops what was read ahead of the partitions.
    fn discard(&mut self, partitions: &[TopicPartition]) {
        self.ready.retain(|ready| !partitions.contains(ready.partition()));
    }

    /// Answers the revocation, once everything of it is released.
    fn leave(&mut self) {
        let Some(leaving) = self.leaving.take_if(|leaving| leaving.waits.is_empty()) else { return };
        let (mut read, mut paused) = (Vec::new(), Vec::new());
        for name in &leaving.partitions {
            let Some(owned) = self.owned.remove(name) else { continue };
            if owned.is_assigned() {
                read.push(name.clone());
            }
            if owned.paused {
                paused.push(name.clone());
            }
        }
        let answered =
            if self.client.is_cooperative() { self.client.incremental_unassign(&read) } else { self.client.unassign() };
        // librdkafka would remember the pause until the partition comes back.
        let resumed = if paused.is_empty() { Ok(()) } else { self.client.resume(&paused) };
        for error in [answered, resumed].into_iter().filter_map(Result::err) {
            self.note(error);
        }
    }

    /// Asks for the positions of partitions that wait for them, beside the caller.
    fn ask(&mut self) {
        let now = Instant::now();
        let wants = |state| match state {
            State::Found => true,
            State::Lost(at) => at <= now,
            State::Reported | State::Reading => false,
        };
        let asked: Vec<_> = self
            .owned
            .iter()
            .filter(|owned| wants(owned.state) && !owned.leaves)
            .map(|owned| (owned.epoch, owned.name.clone()))
            .collect();
        if asked.is_empty() || self.asking.is_some() {
            return;
        }
        let (answer, asking) = oneshot::channel();
        let (client, group) = (Arc::clone(&self.client), Arc::clone(&self.group));
        task::spawn(async move {
            // Nobody listens any more once the consumer is gone.
            let _ = answer.send(positions(&client, &group, asked).await);
        });
        self.asking = Some(asking);
    }

    fn answered(&mut self, answer: Answer) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.note(error),
        };
        let mut reported = Vec::new();
        for (epoch, assigned) in answer {
            let TopicPartition { topic, partition } = &assigned.partition;
            let Some(owned) = self.owned.get_mut(topic, *partition) else { continue };
            if owned.epoch != epoch || owned.leaves {
                continue;
            }
            match owned.state {
                State::Found => {
                    owned.state = State::Reported;
                    reported.push(assigned);
                }
                State::Lost(_) => self.found(&assigned),
                State::Reported | State::Reading => {}
            }
        }
        if !reported.is_empty() {
            self.events.push_back(Event::Assigned(reported));
        }
    }

    /// Goes on where the log is, for a partition whose position was not in it.
    fn found(&mut self, log: &Assigned) {
        let Assigned { partition: name, log_start, log_end, .. } = log;
        let Some(owned) = self.owned.get_mut(&name.topic, name.partition) else { return };
        let position = owned.position;
        if position > *log_end {
            owned.state = State::Lost(Instant::now() + Duration::from_millis(LOST_RECHECK_MS));
            self.note(Error::Unavailable(format!(
                "{name} is not read: the position is {position} but the log ends at {log_end}; the topic was made again or lost its end. \
                 Restore it, or reset the position if these are other records"
            )));
            return;
        }
        let from = position.max(*log_start);
        match self.restart(name, from) {
            Ok(()) if from > position => {
                self.ready.push_back(Ready::Gap(Span { partition: name.clone(), from: position, next: from }));
            }
            Ok(()) => {}
            Err(error) => {
                if let Some(owned) = self.owned.get_mut(&name.topic, name.partition) {
                    owned.position = position;
                    owned.state = State::Lost(Instant::now());
                }
                self.note(error);
            }
        }
    }

    /// Reads a partition from `offset` on, whatever librdkafka did with it before.
    fn restart(&mut self, name: &TopicPartition, offset: i64) -> Result<(), Error> {
        let Some(owned) = self.owned.get_mut(&name.topic, name.partition) else { return Ok(()) };
        let was_assigned = owned.is_assigned();
        (owned.state, owned.position) = (State::Reading, offset);
        if !self.client.is_cooperative() {
            return self.client.assign(&self.owned.positions());
        }
        if was_assigned {
            self.client.incremental_unassign(std::slice::from_ref(name))?;
        }
        self.client.incremental_assign(&[(name.clone(), offset)])
    }

    /// The first thing of a partition that is not paused.
    fn take_ready(&mut self) -> Option<Event<MessageBatch>> {
        let paused = |ready: &Ready| self.owned.get(ready.partition()).is_some_and(|owned| owned.paused);
        let index = self.ready.iter().position(|ready| !paused(ready))?;
        Some(match self.ready.remove(index)? {
            Ready::Records(batch) => Event::Records(batch),
            Ready::Gap(span) => Event::Gap(span),
            Ready::Unreadable(partition, reason) => Event::Unreadable(partition, reason),
        })
    }

    /// Waits for something to do: cancel safe.
    async fn idle(&mut self) {
        let recheck = self.owned.iter().filter_map(|owned| match owned.state {
            State::Lost(at) if self.asking.is_none() => Some(at),
            _ => None,
        });
        let wake = recheck.chain([Instant::now() + self.poll_interval]).min().unwrap_or_else(Instant::now);
        let Some(asking) = &mut self.asking else {
            tokio::select! {
                () = self.queue.wait() => {}
                () = sleep_until(wake) => {}
            }
            return;
        };
        tokio::select! {
            () = self.queue.wait() => {}
            answer = asking => {
                self.asking = None;
                self.answered(answer.unwrap_or_else(|_| Err(Error::Unavailable("the positions were not found out; they are asked for again".into()))));
            }
            () = sleep_until(wake) => {}
        }
    }

    /// The result of the commit under way, if there is one.
    async fn committed(&mut self) -> Result<(), Error> {
        let Some(replies) = &self.committing else { return Ok(()) };
        let what = format!("group {}: cannot commit", self.group);
        let reply = positions::reply(replies, COMMIT_WAIT_MS, &what).await;
        self.committing = None;
        match reply?.entries() {
            Ok(entries) => match entries.iter().find(|entry| entry.code.is_error()) {
                Some(entry) => Err(Error::from_code(
                    entry.code,
                    format_args!("{what} {}/{} at {}", entry.topic, entry.partition, entry.offset),
                )),
                None => Ok(()),
            },
            Err(Code::NO_OFFSET) => Ok(()),
            Err(code) => Err(Error::from_code(code, what)),
        }
    }

    /// Ends the membership as far as it goes until `deadline`.
    async fn leave_group(&mut self, deadline: Instant) -> Result<(), Error> {
        if let Ok(Err(error)) = timeout_at(deadline, self.committed()).await {
            tracing::warn!(%error, "the last commit failed; its records are read again");
        }
        self.ready.clear();
        self.release_all();
        self.client.start_close(&self.queue)?;
        while !self.client.is_closed() && Instant::now() < deadline {
            if !self.poll() {
                // The end itself wakes nobody.
                let _ = timeout_at(deadline.min(Instant::now() + Duration::from_millis(20)), self.queue.wait()).await;
            }
            self.ready.clear();
            self.release_all();
        }
        Ok(())
    }

    fn release_all(&mut self) {
        if let Some(leaving) = &mut self.leaving {
            leaving.waits.clear();
        }
        self.leave();
    }
}

/// Committed offset and log of each partition.
async fn positions(client: &Arc<Client>, group: &str, asked: Vec<(u64, TopicPartition)>) -> Answer {
    let names: Vec<_> = asked.iter().map(|(_, name)| name.clone()).collect();
    let handle = client.into();
    let (ends, committed) = tokio::try_join!(
        positions::ends(&handle, &names, POSITIONS_WAIT_MS),
        positions::committed(&handle, group, Some(&names), POSITIONS_WAIT_MS)
    )?;
    let with_positions = |(epoch, partition): (u64, TopicPartition)| {
        let (log_start, log_end) = ends.get(&partition).copied()?;
        let committed = committed.get(&partition).copied();
        Some((epoch, Assigned { partition, committed, log_start, log_end }))
    };
    Ok(asked.into_iter().filter_map(with_positions).collect())
}

impl Source for Consumer {
    type Batch = MessageBatch;

    async fn next(&mut self) -> Result<Event<MessageBatch>, SourceError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if let Some(error) = self.errors.pop_front() {
                return Err(error);
            }
            if let Some(error) = self.client.errors().take() {
                return Err(error.into());
            }
            if let Some(Ok(answer)) = self.asking.as_mut().map(oneshot::Receiver::try_recv) {
                self.asking = None;
                self.answered(answer);
                continue;
            }
            self.ask();
            if let Some(event) = self.take_ready() {
                return Ok(event);
            }
            if !self.poll() {
                self.idle().await;
            }
        }
    }

    async fn start(&mut self, at: &[(TopicPartition, i64)]) -> Result<(), SourceError> {
        let cooperative = self.client.is_cooperative();
        let mut started = Vec::new();
        for (name, offset) in at {
            match self.owned.get_mut(&name.topic, name.partition) {
                // It was revoked meanwhile, and the event about it is on its way.
                None => {}
                Some(owned) if owned.leaves => {}
                Some(owned) if owned.is_assigned() => self.seek(name, *offset).await?,
                Some(owned) => {
                    (owned.state, owned.position) = (State::Reading, *offset);
                    started.push((name.clone(), *offset));
                }
            }
        }
        if started.is_empty() {
            return Ok(());
        }
        let begun =
            if cooperative { self.client.incremental_assign(&started) } else { self.client.assign(&self.owned.positions()) };
        if begun.is_err() {
            for (name, _) in &started {
                if let Some(owned) = self.owned.get_mut(&name.topic, name.partition) {
                    owned.state = State::Reported;
                }
            }
        }
        Ok(begun?)
    }

    async fn release(&mut self, partitions: &[TopicPartition]) -> Result<(), SourceError> {
        if let Err(error) = self.committed().await {
            tracing::warn!(%error, "a commit under way failed; its records are read again");
        }
        self.discard(partitions);
        if let Some(leaving) = &mut self.leaving {
            leaving.waits.retain(|name| !partitions.contains(name));
        }
        for name in partitions {
            if let Some(owned) = self.owned.get_mut(&name.topic, name.partition).filter(|owned| owned.leaves) {
                owned.lost = true;
            }
        }
        self.leave();
        Ok(())
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), SourceError> {
        // One at a time: what was cancelled must not be overtaken.
        if let Err(error) = self.committed().await {
            tracing::warn!(%error, "an earlier commit failed");
        }
        let owned = |name: &TopicPartition| self.owned.get(name).is_some_and(|owned| !owned.lost);
        let offsets: Vec<_> = offsets.iter().filter(|(name, _)| owned(name)).cloned().collect();
        if offsets.is_empty() {
            return Ok(());
        }
        let replies = Queue::replies((&self.client).into());
        self.client.commit(&offsets, &replies)?;
        self.committing = Some(replies);
        Ok(self.committed().await?)
    }

    async fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), SourceError> {
        self.discard(std::slice::from_ref(partition));
        let Some(owned) = self.owned.get_mut(&partition.topic, partition.partition).filter(|owned| !owned.leaves) else {
            return Ok(());
        };
        if owned.state != State::Reading {
            return Ok(self.restart(partition, offset)?);
        }
        owned.position = offset;
        if self.client.seek(partition, offset, SEEK_WAIT_MS)?.is_error() {
            // It was not being read: its start is still under way, or librdkafka stopped it.
            self.restart(partition, offset)?;
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), SourceError> {
        Ok(self.set_paused(partitions, true)?)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), SourceError> {
        Ok(self.set_paused(partitions, false)?)
    }

    async fn close(mut self) {
        let deadline = Instant::now() + Duration::from_millis(CLOSE_WAIT_MS);
        if let Err(error) = self.leave_group(deadline).await {
            tracing::warn!(%error, "left without saying so; the group notices by the session timeout");
        }
        // Ending the client joins its threads.
        let _ = timeout_at(deadline.max(Instant::now() + Duration::from_secs(1)), task::spawn_blocking(move || drop(self))).await;
    }
}

impl Consumer {
    fn set_paused(&mut self, partitions: &[TopicPartition], paused: bool) -> Result<(), Error> {
        let mut changed = Vec::new();
        for name in partitions {
            if let Some(owned) =
                self.owned.get_mut(&name.topic, name.partition).filter(|owned| owned.paused != paused && !owned.leaves)
            {
                owned.paused = paused;
                changed.push(name.clone());
            }
        }
        match (changed.is_empty(), paused) {
            (true, _) => Ok(()),
            (false, true) => self.client.pause(&changed),
            (false, false) => self.client.resume(&changed),
        }
    }
}

impl Ready {
    fn partition(&self) -> &TopicPartition {
        match self {
            Self::Records(batch) => batch.partition(),
            Self::Gap(span) => &span.partition,
            Self::Unreadable(partition, _) => partition,
        }
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("group", &self.group).field("owned", &self.owned).finish_non_exhaustive()
    }
}
