//! A store with and without a ledger.

use std::{ops::Range, sync::Arc, time::Duration};

use mantis_pipeline::{Assigned, Durable, Fault, Moved, Outcome, Part, Reason, Sink, Span, Start, TopicPartition};
use tokio::time::{Instant, sleep};

use super::{Fate, Keeps, Row, Rows, State, World, cluster::Told};

pub struct Store {
    pub world: Arc<World>,
    pub worker: usize,
}

/// What becomes of a call, decided when it begins.
enum Fortune {
    Good,
    Fails(Fault),
    /// It happens, and the caller is told that it did not.
    LandsAndFails,
    Stalls(Duration),
}

impl Store {
    fn fortune(&self) -> Fortune {
        let state = &mut *self.world.state();
        if state.credentials_wrong {
            return Fortune::Fails(Fault::Credentials { reason: "401: the token is not known".to_owned() });
        }
        if state.store_down_until.is_some_and(|until| until > Instant::now()) {
            return Fortune::Fails(Fault::retry("the store is away"));
        }
        let chances = state.chances.clone();
        let stall = Duration::from_millis(state.random.within(500, 6_000));
        let mut happens = |permille| state.random.chance(permille);
        if happens(chances.write_error) {
            Fortune::Fails(Fault::retry("the connection was reset"))
        } else if happens(chances.throttle) {
            Fortune::Fails(Fault::Retry { reason: "429".to_owned(), after: Some(Duration::from_millis(700)) })
        } else if happens(chances.credentials) {
            Fortune::Fails(Fault::Credentials { reason: "401".to_owned() })
        } else if happens(chances.write_ambiguous) {
            Fortune::LandsAndFails
        } else if happens(chances.write_stall) {
            Fortune::Stalls(stall)
        } else {
            Fortune::Good
        }
    }

    /// Runs `change` after the call's fortune; a detached one goes on though the caller is gone.
    async fn call<T: Send + 'static>(&self, change: impl FnOnce(&mut State) -> T + Send + 'static) -> Result<T, Fault> {
        self.world.point(self.worker).await;
        let fortune = self.fortune();
        let wait = match fortune {
            Fortune::Fails(fault) => return Err(fault),
            Fortune::Stalls(wait) => wait,
            Fortune::Good | Fortune::LandsAndFails => Duration::ZERO,
        };
        let detached = {
            let state = &mut *self.world.state();
            let chance = state.chances.write_detached;
            state.random.chance(chance)
        };
        let world = self.world.clone();
        let work = async move {
            if !wait.is_zero() {
                sleep(wait).await;
            }
            change(&mut world.state())
        };
        let result = if detached { tokio::spawn(work).await.unwrap() } else { work.await };
        self.world.point(self.worker).await;
        match fortune {
            Fortune::LandsAndFails => Err(Fault::retry("the answer was lost")),
            _ => Ok(result),
        }
    }
}

/// A write under way, for the oracle.
struct UnderWay<'a> {
    store: &'a Store,
    partitions: Vec<TopicPartition>,
}

impl<'a> UnderWay<'a> {
    fn begin(store: &'a Store, rows: &Range<usize>, spans: &[Span]) -> Self {
        let world = &store.world;
        let state = &mut *world.state();
        let worker = store.worker;
        state.writes.push((Instant::now(), worker, rows.clone()));
        let partitions: Vec<_> = spans.iter().map(|span| span.partition.clone()).collect();
        for name in &partitions {
            if state.workers[worker].writing.contains(name) {
                state.violate(format!("two writes of {name} at a time"));
            }
            let member = state.group.members.get(&worker);
            let untold = member.is_some_and(|member| member.lost_untold.contains(name));
            let owned = member.and_then(|member| member.owned.get(name)).is_some_and(|owned| owned.told != Told::Revoked);
            if !untold && !owned {
                state.violate(format!("I4: worker {worker} begins a write of {name} after its revocation"));
            }
        }
        let here = &mut state.workers[worker];
        here.writing.extend(partitions.iter().cloned());
        here.writes_under_way += 1;
        if here.writes_under_way > world.limits.lanes_max {
            state.violate("more writes at a time than lanes");
        }
        Self { store, partitions }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.store.world.state();
        let here = &mut state.workers[self.store.worker];
        here.writing.retain(|name| !self.partitions.contains(name));
        here.writes_under_way -= 1;
    }
}

impl Sink for Store {
    type Columns = Rows;

    async fn start(&self, assigned: &[Assigned]) -> Result<Vec<Start>, Fault> {
        let chance = self.world.state().chances.start_error;
        if self.world.state().random.chance(chance) {
            return Err(Fault::retry("the store is away"));
        }
        let (assigned, ledger, worker) = (assigned.to_vec(), self.world.keeps != Keeps::Nothing, self.worker);
        self.call(move |state| {
            for assigned in &assigned {
                *state.taken_over.entry((worker, assigned.partition.clone())).or_default() += 1;
                state.asked.insert(assigned.partition.clone(), state.calls);
            }
            let start = |assigned: &Assigned| match ledger {
                true => Start::At(*state.ledger.entry(assigned.partition.clone()).or_insert(assigned.log_start)),
                false => Start::Committed,
            };
            assigned.iter().map(start).collect()
        })
        .await
    }

    async fn write(&self, part: Part<'_, Rows>) -> Result<Outcome, Fault> {
        if self.world.keeps == Keeps::Chain {
            return self.gather(&part).await;
        }
        let _under_way = UnderWay::begin(self, &part.rows, part.spans);
        let (rows, spans, last, first) =
            (part.columns.0[part.rows.clone()].to_vec(), part.spans.to_vec(), part.last, part.rows.start);
        let (keeps, call) = (self.world.keeps, self.world.state().begin_call());
        self.call(move |state| {
            fence(state, keeps, call, &spans)?;
            Ok(write(state, keeps != Keeps::Nothing, &rows, first, &spans, last))
        })
        .await?
    }

    async fn advance(&self, spans: &[Span]) -> Result<Option<Vec<Moved>>, Fault> {
        let (keeps, call) = (self.world.keeps, self.world.state().begin_call());
        match keeps {
            Keeps::Nothing => return Ok(None),
            Keeps::Chain => return Ok(self.extend(spans)),
            Keeps::Ledger | Keeps::FencedLedger => {}
        }
        let spans = spans.to_vec();
        self.call(move |state| {
            fence(state, keeps, call, &spans)?;
            let ahead: Vec<_> = spans.into_iter().filter(|span| state.ledger[&span.partition] != span.next).collect();
            let moved = moved(state, &ahead);
            if moved.is_none() {
                advance(state, &ahead);
            }
            Ok(moved)
        })
        .await?
    }

    fn durable(&self, partition: &TopicPartition, done: i64) -> Durable {
        if self.world.keeps != Keeps::Chain {
            return Durable::To(done);
        }
        let state = &mut *self.world.state();
        if state.random.chance(300) {
            cut(state, self.worker, partition);
        }
        match (state.links.get(&(self.worker, partition.clone())), state.ledger.get(partition)) {
            (Some(link), _) => Durable::To(link.from),
            // The link is gone: what was in it is to be read again, unless somebody else has stored it.
            (None, Some(&ledger)) if ledger != done => {
                state.meet("a chain that moved");
                Durable::Moved(ledger)
            }
            (None, _) => Durable::To(done),
        }
    }

    async fn flush(&self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        self.world.point(self.worker).await;
        if let Fortune::Fails(fault) = self.fortune() {
            return Err(fault);
        }
        let state = &mut *self.world.state();
        partitions.iter().for_each(|partition| cut(state, self.worker, partition));
        Ok(())
    }

    fn release(&self, partitions: &[TopicPartition]) {
        let state = &mut *self.world.state();
        state.links.retain(|(worker, partition), _| *worker != self.worker || !partitions.contains(partition));
        state.taken_over.retain(|(worker, partition), _| *worker != self.worker || !partitions.contains(partition));
    }
}

/// The rows between the end of the chain and what has ended, as one worker holds them.
pub struct Link {
    from: i64,
    next: i64,
    rows: Vec<Row>,
}

impl Store {
    async fn gather(&self, part: &Part<'_, Rows>) -> Result<Outcome, Fault> {
        let _under_way = UnderWay::begin(self, &part.rows, part.spans);
        self.world.point(self.worker).await;
        if let Fortune::Fails(fault) = self.fortune() {
            return Err(fault);
        }
        let state = &mut *self.world.state();
        if let Some(moved) = self.elsewhere(state, part.spans) {
            return Ok(Outcome::Moved(moved));
        }
        let rows = &part.columns.0[part.rows.clone()];
        if rows.iter().any(|row| row.fate == Fate::Poison) {
            return Ok(Outcome::Refused(Reason::new("store-refused", "400: something is wrong with it")));
        }
        let (mut written, mut rejected) = (0, Vec::new());
        for (number, row) in rows.iter().enumerate() {
            if row.fate == Fate::Rejected {
                rejected.push((part.rows.start + number, Reason::new("store-rejected", "the value is out of range")));
                continue;
            }
            written += 1;
            let at = state.partition_of(row.key);
            if let Some(link) = state.links.get_mut(&(self.worker, at)) {
                link.rows.push(*row);
            }
        }
        let advanced = part.last && rejected.is_empty();
        if advanced {
            extend(state, self.worker, part.spans);
        }
        Ok(Outcome::Ended { written, duplicates: 0, conflicts: 0, rejected, advanced })
    }

    fn extend(&self, spans: &[Span]) -> Option<Vec<Moved>> {
        let state = &mut *self.world.state();
        let moved = self.elsewhere(state, spans);
        if moved.is_none() {
            extend(state, self.worker, spans);
        }
        moved
    }

    /// Where the links of the spans end, if not where the spans begin. A link that is gone ends where the chain does.
    fn elsewhere(&self, state: &mut State, spans: &[Span]) -> Option<Vec<Moved>> {
        let positions: Vec<_> = spans
            .iter()
            .map(|span| {
                let ledger = state.ledger[&span.partition];
                let fresh = || Link { from: ledger, next: ledger, rows: Vec::new() };
                let link = state.links.entry((self.worker, span.partition.clone())).or_insert_with(fresh);
                (span.partition.clone(), link.next, span.from)
            })
            .collect();
        let moved = positions.iter().any(|(_, next, from)| next != from);
        moved.then(|| positions.into_iter().filter(|(_, next, from)| next != from).map(|(name, next, _)| (name, next)).collect())
    }
}

fn extend(state: &mut State, worker: usize, spans: &[Span]) {
    for span in spans {
        if let Some(link) = state.links.get_mut(&(worker, span.partition.clone())) {
            link.next = span.next;
        }
    }
}

/// Adds the link to the chain, unless another worker added one at its place: then it is nothing.
fn cut(state: &mut State, worker: usize, partition: &TopicPartition) {
    let Some(link) = state.links.remove(&(worker, partition.clone())) else { return };
    if state.ledger[partition] != link.from {
        state.meet("a link that came too late");
        return;
    }
    state.rows_applied += link.rows.len() as u64;
    for row in link.rows {
        state.store.insert(row.key, row.value);
    }
    state.ledger.insert(partition.clone(), link.next);
    state.check_durable(partition, link.next);
    state.links.insert((worker, partition.clone()), Link { from: link.next, next: link.next, rows: Vec::new() });
}

impl State {
    fn begin_call(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// Keys carry the number of their partition.
    fn partition_of(&self, key: u64) -> TopicPartition {
        self.logs.keys().nth((key >> 32) as usize).unwrap().clone()
    }
}

/// Keeps out calls that began before the partition was asked for.
fn fence(state: &State, keeps: Keeps, call: u64, spans: &[Span]) -> Result<(), Fault> {
    let late = |span: &Span| state.asked.get(&span.partition).is_some_and(|before| call <= *before);
    match keeps == Keeps::FencedLedger && spans.iter().any(late) {
        true => Err(Fault::retry("the partition was asked for since the call began")),
        false => Ok(()),
    }
}

fn write(state: &mut State, ledger: bool, rows: &[Row], first: usize, spans: &[Span], last: bool) -> Outcome {
    if ledger && let Some(moved) = moved(state, spans) {
        state.meet("a ledger that moved");
        return Outcome::Moved(moved);
    }
    if rows.iter().any(|row| row.fate == Fate::Poison) {
        state.meet("a refused part");
        return Outcome::Refused(Reason::new("store-refused", "400: something is wrong with it"));
    }
    let (mut written, mut duplicates, mut conflicts, mut rejected) = (0, 0, 0, Vec::new());
    for (number, row) in rows.iter().enumerate() {
        if row.fate == Fate::Rejected {
            rejected.push((first + number, Reason::new("store-rejected", "the value is out of range")));
            continue;
        }
        state.rows_applied += 1;
        match state.store.insert(row.key, row.value) {
            None => written += 1,
            Some(before) if before == row.value => duplicates += 1,
            Some(_) => conflicts += 1,
        }
    }
    let advanced = ledger && last && rejected.is_empty();
    if advanced {
        advance(state, spans);
    }
    Outcome::Ended { written, duplicates, conflicts, rejected, advanced }
}

fn moved(state: &State, spans: &[Span]) -> Option<Vec<Moved>> {
    let moved: Vec<_> = spans
        .iter()
        .map(|span| (span.partition.clone(), state.ledger[&span.partition], span.from))
        .filter(|(_, at, from)| at != from)
        .collect();
    (!moved.is_empty()).then(|| moved.into_iter().map(|(name, at, _)| (name, at)).collect())
}

fn advance(state: &mut State, spans: &[Span]) {
    for span in spans {
        state.ledger.insert(span.partition.clone(), span.next);
        state.check_durable(&span.partition, span.next);
    }
}
