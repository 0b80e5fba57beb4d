//! The archive as the road's sink: rows are gathered per partition and cut into the objects of its chain.
//!
//! What it guarantees: each position of a partition is in exactly one object, whoever else writes to the archive. A worker
//! starts where the chain ends. It creates an object at the chain's end and never overwrites one: if another's is there, its
//! records are compared by digest with those that were read, and the chain goes on behind it; if they are others, the worker
//! stops. The group's offset waits for the chain ([`Sink::durable`]).
//!
//! A batch must be of one partition: run the road with [`LANES_MAX`].

mod buffer;
mod config;
mod cut;
mod end;
mod link;
mod met;

pub use config::ChainConfig;
pub use end::last;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use mantis_pipeline::{Assigned, Columns, Durable, Fault, Moved, Outcome, Part, Shutdown, Sink, Span, Start, TopicPartition};
use mantis_schemas::SeriesTable;
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use self::link::Link;
use super::{ArchiveStore, columns::ArchiveColumns};

/// Lanes of a road with this sink: more than any partition's number, so that each partition has a lane of its own.
pub const LANES_MAX: usize = 1 << 20;

/// The archive's sink. Cheap to clone; clones share what is held.
#[derive(Debug)]
pub struct Chain<S> {
    shared: Arc<Shared<S>>,
}

impl<S> Clone for Chain<S> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

#[derive(Debug)]
struct Shared<S> {
    store: S,
    series: SeriesTable,
    config: ChainConfig,
    links: Mutex<HashMap<TopicPartition, Link>>,
    epochs: AtomicU64,
    /// One per object that may be made at a time: each costs about what its rows do.
    writes: Semaphore,
}

impl<S: ArchiveStore> Chain<S> {
    /// A sink that writes to `store`; `series` are the names behind the ids of the rows that will be written.
    pub fn new(store: S, series: SeriesTable, config: ChainConfig) -> Self {
        let writes = Semaphore::new(config.writes_max.max(1));
        let shared = Shared { store, series, config, links: Mutex::default(), epochs: AtomicU64::new(1), writes };
        Self { shared: Arc::new(shared) }
    }

    /// Cuts what has waited for too long and tries again what failed, until `shutdown`. Run it beside the road.
    ///
    /// # Errors
    /// [`Fault::Fatal`]: going on could make the chain wrong.
    pub async fn run(&self, shutdown: Shutdown) -> Result<(), Fault> {
        let mut turns = interval(config::TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = turns.tick() => {}
            }
            let age = self.shared.config.age();
            let due: Vec<_> =
                self.shared.links().iter().filter_map(|(name, link)| Some((name.clone(), link.due(age)?))).collect();
            if let Err(fault @ Fault::Fatal { .. }) = self.cut_all(due).await {
                return Err(fault);
            }
        }
    }

    /// Bytes of rows that are held and not durable yet.
    pub fn held_bytes(&self) -> usize {
        self.shared.links().values().map(Link::bytes).sum()
    }

    /// Makes durable what is held below the given positions. All are tried; the worst fault is told.
    async fn cut_all(&self, due: Vec<(TopicPartition, i64)>) -> Result<(), Fault> {
        let mut cuts = JoinSet::new();
        for (partition, to) in due {
            let shared = Arc::clone(&self.shared);
            cuts.spawn(async move { shared.cut_to(&partition, to).await });
        }
        let mut ended = Ok(());
        while let Some(cut) = cuts.join_next().await {
            let cut = cut.unwrap_or_else(|error| Err(Fault::retry(format!("an object's making was cut off ({error})"))));
            if !matches!(ended, Err(Fault::Fatal { .. })) {
                ended = cut.and(ended);
            }
        }
        ended
    }

    /// Takes rows and positions of one partition in.
    async fn take(&self, columns: Option<&ArchiveColumns>, span: &Span) -> Result<Option<Moved>, Fault> {
        self.shared.make_room(&span.partition).await?;
        let full = {
            let mut links = self.shared.links();
            let link = links.get_mut(&span.partition).ok_or_else(|| not_owned(&span.partition))?;
            if span.from > link.next() {
                return Ok(Some((span.partition.clone(), link.next())));
            }
            link.take(columns, span)?;
            link.is_full(&self.shared.config).then(|| link.next()).filter(|_| link.is_idle())
        };
        if let Some(to) = full {
            let (shared, partition) = (Arc::clone(&self.shared), span.partition.clone());
            // Beside the road. What becomes of it is kept with the link, and the partition's next write asks.
            tokio::spawn(async move { shared.cut_once(&partition, to).await });
        }
        self.shared.hold_bound().await?;
        Ok(None)
    }
}

impl<S: ArchiveStore> Sink for Chain<S> {
    type Columns = ArchiveColumns;

    /// Where the chains end; the log's start where there is none.
    async fn start(&self, assigned: &[Assigned]) -> Result<Vec<Start>, Fault> {
        let mut ends = Vec::with_capacity(assigned.len());
        for Assigned { partition, log_start, .. } in assigned {
            let last = last(&self.shared.store, &self.shared.config.cluster_id, partition).await?;
            ends.push(last.map_or(*log_start, |manifest| manifest.end));
        }
        let mut links = self.shared.links();
        for (Assigned { partition, .. }, end) in assigned.iter().zip(&ends) {
            let epoch = self.shared.epochs.fetch_add(1, Ordering::Relaxed);
            links.insert(partition.clone(), Link::new(partition, epoch, *end));
        }
        Ok(ends.into_iter().map(Start::At).collect())
    }

    async fn write(&self, part: Part<'_, ArchiveColumns>) -> Result<Outcome, Fault> {
        let rows = part.columns.rows();
        let (true, [span]) = (part.last && part.rows == (0..rows), part.spans) else {
            return Err(Fault::Fatal {
                reason: format!(
                    "the archive was given rows {:?} of {rows} from {} partitions: it takes whole batches of one partition; this is \
                     a defect",
                    part.rows,
                    part.spans.len()
                ),
            });
        };
        Ok(match self.take(Some(part.columns), span).await? {
            None => Outcome::Ended { written: rows, duplicates: 0, conflicts: 0, rejected: Vec::new(), advanced: true },
            Some(moved) => Outcome::Moved(vec![moved]),
        })
    }

    async fn advance(&self, spans: &[Span]) -> Result<Option<Vec<Moved>>, Fault> {
        let mut moved = Vec::new();
        for span in spans {
            moved.extend(self.take(None, span).await?);
        }
        Ok((!moved.is_empty()).then_some(moved))
    }

    fn durable(&self, partition: &TopicPartition, done: i64) -> Durable {
        Durable::To(self.shared.links().get(partition).map_or(done, |link| link.end().min(done)))
    }

    async fn flush(&self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        let held = |links: &HashMap<TopicPartition, Link>, name: &TopicPartition| links.get(name).map(Link::next);
        let due = {
            let links = self.shared.links();
            partitions.iter().filter_map(|name| Some((name.clone(), held(&links, name)?))).collect()
        };
        self.cut_all(due).await
    }

    fn release(&self, partitions: &[TopicPartition]) {
        let mut links = self.shared.links();
        partitions.iter().for_each(|partition| drop(links.remove(partition)));
    }
}

impl<S> Shared<S> {
    fn links(&self) -> MutexGuard<'_, HashMap<TopicPartition, Link>> {
        self.links.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn not_owned(partition: &TopicPartition) -> Fault {
    Fault::retry(format!("{partition} was given up: its next owner archives it"))
}
