//! Rows on their way to `mantis.features`.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mantis_kafka::{OutRecord, Producer};
use mantis_pipeline::{Fault, Header, Shutdown};
use mantis_schemas::{Feature, Series, encode, topics};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::traces::{TRACEPARENT, Trace};

/// Rows that wait for their acknowledgement; the partitions wait beyond it.
const ROWS_WAITING_MAX: usize = 20_000;
/// Rows of one record, far below the largest record of the topic.
const ROWS_PER_RECORD_MAX: usize = 500;
/// Rows that are sent together.
const ROWS_PER_SEND_MAX: usize = 10_000;
/// Longest wait for room.
const ROOM_WAIT: Duration = Duration::from_secs(10);
const RETRY_WAIT: Duration = Duration::from_millis(500);

/// A row on its way.
#[derive(Debug)]
pub(super) struct Emission {
    pub(super) series: Arc<Series>,
    pub(super) row: Feature,
    /// The trace context of the last message that changed it.
    pub(super) trace: Option<Trace>,
}

/// Sends rows in the order in which they were given, again and again until each is acknowledged.
#[derive(Debug, Default)]
pub(super) struct Emitter {
    queue: Mutex<Queue>,
    changed: Notify,
    given: Notify,
    /// Rows that were acknowledged, from the start of the process.
    acknowledged: AtomicU64,
}

#[derive(Debug, Default)]
struct Queue {
    rows: VecDeque<Emission>,
    /// Rows that were given, from the start of the process.
    given: u64,
    /// Given and not acknowledged.
    waiting: usize,
    trouble: Option<String>,
}

impl Emitter {
    /// Waits until rows may be given.
    ///
    /// # Errors
    /// The topic took nothing for a while.
    pub(super) async fn room(&self) -> Result<(), Fault> {
        let room = self.until(|queue, _| queue.waiting < ROWS_WAITING_MAX);
        timeout(ROOM_WAIT, room).await.map_err(|_| self.trouble())
    }

    /// True if rows may be given now.
    pub(super) fn has_room(&self) -> bool {
        self.lock().waiting < ROWS_WAITING_MAX
    }

    /// Takes rows; returns the number that [`acknowledged`](Self::acknowledged) waits for.
    pub(super) fn give(&self, rows: Vec<Emission>) -> u64 {
        let mut queue = self.lock();
        queue.given += rows.len() as u64;
        queue.waiting += rows.len();
        queue.rows.extend(rows);
        let given = queue.given;
        drop(queue);
        self.given.notify_one();
        given
    }

    /// Waits until the first `rows` rows were acknowledged.
    ///
    /// # Errors
    /// The topic took nothing for a while.
    pub(super) async fn acknowledged(&self, rows: u64) -> Result<(), Fault> {
        timeout(ROOM_WAIT, self.until(|_, acknowledged| acknowledged >= rows)).await.map_err(|_| self.trouble())
    }

    /// Rows acknowledged so far.
    pub(super) fn rows(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Sends until `stop`.
    pub(super) async fn run(&self, producer: &Producer, stop: Shutdown) {
        loop {
            let rows: Vec<Emission> = {
                let mut queue = self.lock();
                let count = queue.rows.len().min(ROWS_PER_SEND_MAX);
                queue.rows.drain(..count).collect()
            };
            if rows.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.given.notified() => continue,
                }
            }
            let mut records = records(&rows);
            while !records.is_empty() {
                let results = producer.send_all(&records).await;
                let mut error = None;
                let mut left = Vec::new();
                for (record, result) in records.into_iter().zip(results) {
                    if let Err(failed) = result {
                        error = Some(failed.to_string());
                        left.push(record);
                    }
                }
                records = left;
                self.lock().trouble.clone_from(&error);
                if let Some(error) = error {
                    tracing::warn!(error, "features could not be sent and are sent again");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = sleep(RETRY_WAIT) => {}
                    }
                }
            }
            self.lock().waiting -= rows.len();
            self.acknowledged.fetch_add(rows.len() as u64, Ordering::Release);
            self.changed.notify_waiters();
        }
    }

    /// Takes the first `count` rows away as if they had been sent and acknowledged.
    #[cfg(test)]
    pub(super) fn acknowledge(&self, count: usize) -> Vec<Emission> {
        let mut queue = self.lock();
        let count = count.min(queue.rows.len());
        queue.waiting -= count;
        self.acknowledged.fetch_add(count as u64, Ordering::Release);
        queue.rows.drain(..count).collect()
    }

    async fn until(&self, holds: impl Fn(&Queue, u64) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds(&self.lock(), self.rows()) {
                return;
            }
            changed.await;
        }
    }

    fn trouble(&self) -> Fault {
        let why = self.lock().trouble.clone().unwrap_or_else(|| "it is slow".into());
        Fault::retry(format!("the topic {} takes no rows: {why}", topics::FEATURES))
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Rows of one asset go into one record, in their order. The record goes on in the trace of its last row that has one.
fn records(rows: &[Emission]) -> Vec<OutRecord> {
    let mut order: Vec<&Emission> = rows.iter().collect();
    order.sort_by(|a, b| a.series.asset.cmp(&b.series.asset));
    let topic: Arc<str> = topics::FEATURES.into();
    let mut records = Vec::new();
    for of_asset in order.chunk_by(|a, b| a.series.asset == b.series.asset) {
        for some in of_asset.chunks(ROWS_PER_RECORD_MAX) {
            let Some(first) = some.first() else { continue };
            let asset = &first.series.asset;
            let mut payload = Vec::with_capacity(some.len() * 256);
            encode::avro::features(&mut payload, asset, some.iter().map(|emission| (&*emission.series.sensor, &emission.row)));
            let trace = some.iter().rev().find_map(|emission| emission.trace.as_ref());
            let header = |trace: &Trace| Header { key: TRACEPARENT.into(), value: Some(trace.as_bytes().to_vec()) };
            records.push(OutRecord {
                topic: topic.clone(),
                key: Some(asset.as_bytes().to_vec()),
                payload: Some(payload),
                headers: trace.map(header).into_iter().collect(),
                ..OutRecord::default()
            });
        }
    }
    records
}
