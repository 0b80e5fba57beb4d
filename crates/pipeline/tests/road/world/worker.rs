//! Workers: started, cut off, shut down.

use std::{sync::Arc, time::Duration};

use mantis_pipeline::{DeadLetters, Shutdown, Sink, Source, Status, Stopped, run};
use tokio::{sync::Notify, task::JoinHandle};

use super::{Batch, Consumer, Letters, RowDecoder, Rows, Store, WorkerState, World};

/// The ends that a worker is put together from.
pub trait Ends: Copy + Send + 'static {
    fn source(self, consumer: Consumer) -> impl Source<Batch = Batch> + 'static;
    fn sink(self, store: Store) -> impl Sink<Columns = Rows>;
    fn letters(self, letters: Letters) -> impl DeadLetters;
}

/// Ends that do what they should.
#[derive(Clone, Copy)]
pub struct Plain;

impl Ends for Plain {
    fn source(self, consumer: Consumer) -> impl Source<Batch = Batch> + 'static {
        consumer
    }

    fn sink(self, store: Store) -> impl Sink<Columns = Rows> {
        store
    }

    fn letters(self, letters: Letters) -> impl DeadLetters {
        letters
    }
}

/// A running worker.
pub struct Worker {
    pub number: usize,
    pub status: Arc<Status>,
    world: Arc<World>,
    shutdown: Shutdown,
    crash: Arc<Notify>,
    task: JoinHandle<Option<Result<(), Stopped>>>,
}

impl Worker {
    pub fn start(world: &Arc<World>, ends: impl Ends) -> Self {
        let (status, crash, shutdown) = (Arc::new(Status::default()), Arc::new(Notify::new()), Shutdown::new());
        let number = {
            let mut state = world.state();
            state.workers.push(WorkerState {
                held_bytes: 0,
                held_bytes_peak: 0,
                writing: Vec::new(),
                writes_under_way: 0,
                status: status.clone(),
                crash: crash.clone(),
            });
            state.workers.len() - 1
        };
        world.join(number);
        let end = || (world.clone(), number);
        let (to, from, aside) = (end(), end(), end());
        let source = ends.source(Consumer { world: from.0, worker: from.1 });
        let sink = Arc::new(ends.sink(Store { world: to.0, worker: to.1 }));
        let letters = Arc::new(ends.letters(Letters { world: aside.0, worker: aside.1 }));
        let mut limits = world.limits.clone();
        limits.retry.seed ^= number as u64;
        let road = run(source, RowDecoder, sink, letters, limits, status.clone(), shutdown.clone());
        let crashed = crash.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                biased;
                () = crashed.notified() => None,
                ended = road => Some(ended),
            }
        });
        Self { number, status, world: world.clone(), shutdown, crash, task }
    }

    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Cuts it off where it is. The group learns of it later.
    pub async fn crash(self) {
        self.crash.notify_one();
        self.ended().await.ok();
    }

    /// Shuts it down, and sees that it keeps to its bound.
    pub async fn stop(self) -> Result<(), String> {
        self.shutdown.cancel();
        let bound = Duration::from_millis(self.world.limits.shutdown_wait_ms + self.world.limits.release_wait_ms + 10_000);
        tokio::time::timeout(bound, self.ended())
            .await
            .unwrap_or_else(|_| Err("a shutdown took longer than its bound".to_owned()))
    }

    /// Waits for its end by itself.
    pub async fn ended(self) -> Result<(), String> {
        match self.task.await {
            Ok(None | Some(Ok(()))) => Ok(()),
            Ok(Some(Err(stopped))) => Err(format!("worker {} stopped: {stopped}", self.number)),
            Err(error) => Err(format!("worker {} panicked: {error}", self.number)),
        }
    }
}
