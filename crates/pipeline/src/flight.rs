//! One batch on its way: dead letters of what was refused, the write, dead letters of what the store refused, the ledger.

use std::{ops::Range, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::sleep,
};

use crate::{
    Columns, DeadLetter, DeadLetters, Fault, Moved, Outcome, Part, Reason, RecordBatch, Retry, Sink, State, Status,
    backoff::Backoff, batch::Batch, lane::Leave, stopped::Stopped,
};

/// What every flight of a road needs.
#[derive(Debug)]
pub(crate) struct Ends<S, D> {
    pub(crate) sink: Arc<S>,
    pub(crate) dead_letters: Arc<D>,
    /// One per write that may be under way.
    pub(crate) writes: Semaphore,
    pub(crate) letters_bytes_max: usize,
    pub(crate) retry: Retry,
    pub(crate) status: Arc<Status>,
}

/// Rows by how they ended in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) written: u64,
    pub(crate) duplicates: u64,
    pub(crate) conflicts: u64,
}

/// How a flight ended.
#[derive(Debug)]
pub(crate) enum Landing {
    /// Every row of the batch ended.
    Done(Stored),
    /// The store's ledger was elsewhere.
    Moved(Vec<Moved>),
    /// It had to leave before the batch ended.
    GivenUp,
    /// The worker has to stop.
    Stopped(Stopped),
}

/// Takes a batch through all its steps, as often as it takes.
pub(crate) async fn fly<S, D, B>(
    ends: Arc<Ends<S, D>>,
    place: Arc<str>,
    stream: u64,
    mut batch: Batch<S::Columns, B>,
    leave: watch::Receiver<Leave>,
) -> (Batch<S::Columns, B>, Landing)
where
    S: Sink,
    D: DeadLetters,
    B: RecordBatch,
{
    let backoff = Backoff::new(&ends.retry, stream);
    let mut flight = Flight { ends: &ends, place: &place, leave, backoff, troubled: false };
    let landing = flight.run(&mut batch).await.unwrap_or_else(|landing| landing);
    flight.recovered();
    (batch, landing)
}

struct Flight<'a, S, D> {
    ends: &'a Ends<S, D>,
    place: &'a str,
    leave: watch::Receiver<Leave>,
    backoff: Backoff,
    troubled: bool,
}

impl<'a, S: Sink, D: DeadLetters> Flight<'a, S, D> {
    async fn run<B: RecordBatch>(&mut self, batch: &mut Batch<S::Columns, B>) -> Result<Landing, Landing> {
        self.send(batch.refused_letters()).await?;
        let Written { stored, rejected, advanced } = self.write(batch).await?;
        self.send(batch.rejected_letters(&rejected)).await?;
        if !advanced {
            self.advance(batch).await?;
        }
        batch.count_rejected(&rejected);
        Ok(Landing::Done(stored))
    }

    /// Writes all rows. What is refused as a whole is halved until it is written or a single row, which is then rejected:
    /// `k` bad rows among `n` cost at most `2 k log2(n) + 1` writes.
    async fn write<B: RecordBatch>(&mut self, batch: &Batch<S::Columns, B>) -> Result<Written, Landing> {
        let mut written = Written::default();
        let mut parts = Vec::new();
        if !batch.columns.is_empty() {
            parts.push(0..batch.columns.rows());
        }
        while let Some(rows) = parts.pop() {
            let last = parts.is_empty() && written.rejected.is_empty();
            match self.write_part(batch, rows.clone(), last).await? {
                Outcome::Ended { written: new, duplicates, conflicts, rejected, advanced } => {
                    if !adds_up(&rows, new + duplicates + conflicts, &rejected) || (advanced && !(last && rejected.is_empty())) {
                        return Err(self.broken("its account of a write does not fit the rows of that write"));
                    }
                    written.stored.written += new as u64;
                    written.stored.duplicates += duplicates as u64;
                    written.stored.conflicts += conflicts as u64;
                    written.rejected.extend(rejected);
                    written.advanced = advanced;
                }
                Outcome::Refused(reason) if rows.len() == 1 => written.rejected.push((rows.start, reason)),
                Outcome::Refused(_) => {
                    let middle = rows.start + rows.len() / 2;
                    parts.push(middle..rows.end);
                    parts.push(rows.start..middle);
                }
                Outcome::Moved(moved) => return Err(self.moved(batch, moved)),
            }
        }
        Ok(written)
    }

    async fn write_part<B: RecordBatch>(
        &mut self,
        batch: &Batch<S::Columns, B>,
        rows: Range<usize>,
        last: bool,
    ) -> Result<Outcome, Landing> {
        loop {
            let turn = self.turn(Leave::Stay).await?;
            let part = Part { columns: &batch.columns, rows: rows.clone(), spans: batch.spans(), last };
            let result = self.ends.sink.write(part).await;
            drop(turn);
            match result {
                Ok(outcome) => {
                    self.recovered();
                    return Ok(outcome);
                }
                Err(fault) => self.failed(fault, Stopped::Sink).await?,
            }
        }
    }

    async fn advance<B: RecordBatch>(&mut self, batch: &Batch<S::Columns, B>) -> Result<(), Landing> {
        loop {
            let turn = self.turn(Leave::Finish).await?;
            let result = self.ends.sink.advance(batch.spans()).await;
            drop(turn);
            match result {
                Ok(None) => {
                    self.recovered();
                    return Ok(());
                }
                Ok(Some(moved)) => return Err(self.moved(batch, moved)),
                Err(fault) => self.failed(fault, Stopped::Sink).await?,
            }
        }
    }

    /// Sends letters, some at a time: they are copies, and a batch may consist of nothing else.
    async fn send(&mut self, letters: impl Iterator<Item = DeadLetter> + Send) -> Result<(), Landing> {
        let mut some = Vec::new();
        let mut bytes = 0;
        let mut letters = letters.peekable();
        while let Some(letter) = letters.next() {
            bytes += letter_bytes(&letter);
            some.push(letter);
            let fits = |next: &DeadLetter| bytes + letter_bytes(next) <= self.ends.letters_bytes_max;
            if !letters.peek().is_some_and(fits) {
                self.send_some(&some).await?;
                some.clear();
                bytes = 0;
            }
        }
        Ok(())
    }

    async fn send_some(&mut self, letters: &[DeadLetter]) -> Result<(), Landing> {
        loop {
            if *self.leave.borrow() > Leave::Finish {
                return Err(Landing::GivenUp);
            }
            match self.ends.dead_letters.send(letters).await {
                Ok(()) => {
                    self.recovered();
                    return Ok(());
                }
                Err(fault) => self.failed(fault, Stopped::DeadLetters).await?,
            }
        }
    }

    /// Waits until a write may be begun; gives up when the batch has to leave more urgently than `most`.
    async fn turn(&mut self, most: Leave) -> Result<SemaphorePermit<'a>, Landing> {
        let ends = self.ends;
        let permit = tokio::select! {
            biased;
            _ = self.leave.wait_for(|leave| *leave > most) => return Err(Landing::GivenUp),
            permit = ends.writes.acquire() => permit,
        };
        permit.map_err(|_| Landing::GivenUp)
    }

    /// Waits as the retry policy says; gives up when there is no time to wait.
    async fn failed(&mut self, fault: Fault, stopped: fn(String) -> Stopped) -> Result<(), Landing> {
        let wait: Duration = match self.backoff.after(&fault) {
            Some(wait) => wait,
            None => return Err(Landing::Stopped(stopped(fault.to_string()))),
        };
        let state = if matches!(fault, Fault::Credentials { .. }) { State::Paused } else { State::Retrying };
        self.ends.status.failed(self.place, state, &fault.to_string());
        self.troubled = true;
        tokio::select! {
            biased;
            _ = self.leave.wait_for(|leave| *leave > Leave::Stay) => Err(Landing::GivenUp),
            () = sleep(wait) => Ok(()),
        }
    }

    fn recovered(&mut self) {
        self.backoff.reset();
        if std::mem::take(&mut self.troubled) {
            self.ends.status.recovered(self.place);
        }
    }

    fn moved<B: RecordBatch>(&self, batch: &Batch<S::Columns, B>, moved: Vec<Moved>) -> Landing {
        let elsewhere =
            |(partition, at): &Moved| batch.spans().iter().any(|span| span.partition == *partition && span.from != *at);
        if moved.iter().any(elsewhere) {
            Landing::Moved(moved)
        } else {
            self.broken("it says that its ledger moved, but not away from where the batch starts")
        }
    }

    fn broken(&self, what: &str) -> Landing {
        Landing::Stopped(Stopped::Sink(format!("the store breaks its contract at {}: {what}; report it as a defect", self.place)))
    }
}

#[derive(Debug, Default)]
struct Written {
    stored: Stored,
    /// By index into the columns, ascending.
    rejected: Vec<(usize, Reason)>,
    advanced: bool,
}

fn adds_up(rows: &Range<usize>, stored: usize, rejected: &[(usize, Reason)]) -> bool {
    stored + rejected.len() == rows.len()
        && rejected.iter().all(|(row, _)| rows.contains(row))
        && rejected.is_sorted_by(|(a, _), (b, _)| a < b)
}

/// About what a letter takes.
fn letter_bytes(letter: &DeadLetter) -> usize {
    let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let headers: usize = letter.headers.iter().map(|header| header.key.len() + bytes(&header.value)).sum();
    let rows: usize = letter.rows.iter().map(|reject| size_of_val(reject) + reject.reason.detail.len()).sum();
    bytes(&letter.key) + bytes(&letter.payload) + headers + rows
}
