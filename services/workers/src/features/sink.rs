//! The end of the features worker's road: rows go into the state, figures come out of it.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use mantis_pipeline::{
    Assigned, Durable, Fault, Moved, Outcome, Part, Reason, Shutdown, Sink, Span, Start, Status, TopicPartition,
};
use mantis_schemas::{FrameColumns, ReadingColumns, SeriesId, SeriesTable, topics};
use mantis_stores::raw::RawColumns;
use tokio::time::{MissedTickBehavior, interval};

use super::{
    FeatureConfig, StateSize,
    decode::FeatureInput,
    emit::{Emission, Emitter},
    frames::FrameWindows,
    owned::{Held, Owned, Progress},
    partition::{Batch, PartitionState, Published},
    sensor::Late,
    state_log::StateLog,
    state_topic::StateTopic,
    traces::Traces,
};

/// How often idle sensors and due snapshots are looked for.
const TICK: Duration = Duration::from_millis(250);
/// A partition that has been silent for so long gets its snapshot early.
const QUIET: Duration = Duration::from_secs(1);
/// Bytes of state that early snapshots may write per second.
const EARLY_BYTES_PER_S: usize = 1 << 20;
/// Provisional rows of one look.
const IDLE_ROWS_MAX: usize = 4_096;

const BEYOND_LATENESS: Reason = Reason {
    code: "too-late",
    detail: std::borrow::Cow::Borrowed(
        "the reading is further behind its sensor's newest one than features.lateness_s: it is in the raw store and in no feature; \
         raise the lateness if gateways send backlogs of this length",
    ),
};
const BEYOND_SAMPLES: Reason = Reason {
    code: "too-late",
    detail: std::borrow::Cow::Borrowed(
        "its sensor has sent more readings since than are kept within features.lateness_s: it is in the raw store and in no feature; \
         raise features.samples_max if late readings of sensors this fast matter",
    ),
};

/// Where the state of the partitions is.
pub(super) struct FeatureSink<L> {
    pub(super) config: FeatureConfig,
    pub(super) series: SeriesTable,
    pub(super) snapshots: StateTopic<L>,
    pub(super) emitter: Arc<Emitter>,
    pub(super) frames: Arc<Mutex<FrameWindows>>,
    pub(super) owned: Arc<Owned>,
    pub(super) status: Arc<Status>,
}

impl<L: StateLog> FeatureSink<L> {
    /// Publishes what is idle and writes the snapshots that are due, until `stop`.
    ///
    /// # Errors
    /// Going on would be wrong.
    pub(super) async fn run(&self, stop: Shutdown) -> Result<(), Fault> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            for held in self.owned.all() {
                match self.look_after(&held).await {
                    Err(fault @ Fault::Fatal { .. }) => return Err(fault),
                    // The status tells of it, and it is tried again.
                    Err(Fault::Retry { .. } | Fault::Credentials { .. }) | Ok(()) => {}
                }
            }
        }
    }

    pub(super) async fn look_after(&self, held: &Held) -> Result<(), Fault> {
        // A partition that is being written to is looked after next time.
        let Ok(mut progress) = held.progress.try_lock() else { return Ok(()) };
        let now = Instant::now();
        // What finds no room is looked for again.
        if let Some(silent_since) = now.checked_sub(self.config.idle).filter(|_| self.emitter.has_room()) {
            let mut published = Vec::new();
            progress.state.publish_idle(&self.config, silent_since, now_ms(), IDLE_ROWS_MAX, &mut published);
            held.note(&progress.state);
            self.emit(&mut progress, published);
        }
        let (silent, since) = (now.duration_since(progress.last_write), now.duration_since(progress.last_snapshot));
        if is_snapshot_due(silent, since, progress.state.size().bytes, self.config.snapshot_interval) {
            let written = self.snapshot(held, &mut progress).await;
            // Also after a failure: the whole state is not written again at once.
            progress.last_snapshot = Instant::now();
            written?;
        }
        Ok(())
    }

    /// Sends rows on, each in the trace of its last message.
    fn emit(&self, progress: &mut Progress, published: Vec<Published>) {
        if !published.is_empty() {
            let traced = |(series, row): Published| Emission { trace: progress.traces.of(row.revision), series, row };
            progress.emitted = self.emitter.give(published.into_iter().map(traced).collect());
        }
    }

    /// Writes a snapshot, if there is news. The partition takes no rows meanwhile, so that it costs no second copy.
    async fn snapshot(&self, held: &Held, progress: &mut Progress) -> Result<(), Fault> {
        if progress.unsettled.is_some() || progress.next <= held.durable() {
            return Ok(());
        }
        let acknowledged = self.emitter.acknowledged(progress.emitted);
        let number = held.partition.partition;
        let ended = self.snapshots.store(number, progress.next, &progress.state, acknowledged).await;
        self.owned.note_snapshot(held, progress.next, now_ms(), &ended, &self.status);
        ended
    }

    async fn load_all(&self, assigned: &[Assigned]) -> Result<Vec<Start>, Fault> {
        let mut starts = Vec::with_capacity(assigned.len());
        for assigned in assigned {
            if &*assigned.partition.topic != topics::READINGS {
                starts.push(Start::Committed);
                continue;
            }
            let held = self.load(assigned).await?;
            starts.push(Start::At(held.durable()));
            self.owned.add(held);
        }
        Ok(starts)
    }

    async fn load(&self, assigned: &Assigned) -> Result<Held, Fault> {
        let number = assigned.partition.partition;
        let mut state = PartitionState::new(number, self.snapshots.partitions);
        let (mut next, mut snapshot_ms) = (assigned.log_start, None);
        match self.snapshots.load(&self.config, number, assigned.committed, |loaded| self.owned.room(loaded)).await? {
            Some(loaded) => {
                let (found, now) = (loaded.manifest.partitions, self.snapshots.partitions);
                if found != now {
                    return Err(Fault::Fatal {
                        reason: format!(
                            "{} had {found} partitions when its state was written and has {now} now: assets have moved between \
                             them, so the state cannot be used. Delete the topic {} to compute all features anew from what the \
                             log still holds",
                            topics::READINGS,
                            topics::FEATURE_STATE
                        ),
                    });
                }
                let offset = loaded.manifest.offset;
                if offset < assigned.log_start {
                    return Err(Fault::Fatal {
                        reason: format!(
                            "the records of {} from {offset} to {} are gone, and the state of the features ends at {offset}: their \
                             windows would be cut in silence. Restore the records, or delete the topic {} to go on from {}; windows \
                             that are stored keep their rows with more samples",
                            assigned.partition,
                            assigned.log_start,
                            topics::FEATURE_STATE,
                            assigned.log_start
                        ),
                    });
                }
                (state, next, snapshot_ms) = (loaded.state, offset, Some(loaded.written_ms));
            }
            None if assigned.log_start > 0 && assigned.committed.is_some_and(|committed| committed > assigned.log_start) => {
                return Err(Fault::Fatal {
                    reason: format!(
                        "there is no state of {} that this version can read, and its records before {} are gone: features computed \
                         from what is left would be cut in silence. Check that the topic {} is there and compacted; delete it and \
                         the offsets of the group {} to begin anew from {}",
                        assigned.partition,
                        assigned.log_start,
                        topics::FEATURE_STATE,
                        super::GROUP,
                        assigned.log_start
                    ),
                });
            }
            None if assigned.committed.is_some_and(|committed| committed > assigned.log_start) => {
                tracing::warn!(partition = %assigned.partition, "there is no state: features are computed anew from the log's start");
            }
            None => {}
        }
        let now = Instant::now();
        let progress =
            Progress { state, next, unsettled: None, emitted: 0, last_write: now, last_snapshot: now, traces: Traces::default() };
        Ok(Held::new(assigned.partition.clone(), progress, snapshot_ms))
    }

    async fn take(&self, span: &Span, readings: &ReadingColumns, part: &Part<'_, FeatureInput>) -> Result<Outcome, Fault> {
        let FeatureInput { offsets, traces, .. } = part.columns;
        let Some(held) = self.owned.find(&span.partition) else {
            return Err(Fault::retry(format!("{} is not held any more", span.partition)));
        };
        let mut progress = held.progress.lock().await;
        if let Some(at) = self.elsewhere(&held, &mut progress, span).await? {
            return Ok(Outcome::Moved(vec![(span.partition.clone(), at)]));
        }
        self.owned.room(StateSize::default())?;
        // Nothing fails behind this line, so no row is taken twice.
        self.emitter.room().await?;
        let mut published = Vec::new();
        let late = {
            let batch = Batch { readings, offsets, rows: part.rows.clone(), names: &self.series.read() };
            progress.state.take(&self.config, &batch, now_ms(), &mut published)
        };
        progress.traces.note(traces);
        self.emit(&mut progress, published);
        progress.last_write = Instant::now();
        let counts = progress.state.counts;
        let before = held.note(&progress.state);
        let duplicates = (counts.duplicates - before.duplicates) as usize;
        let conflicts = (counts.conflicts - before.conflicts) as usize;
        let advanced = part.last && late.is_empty();
        progress.unsettled = (!advanced).then_some(span.next);
        if advanced {
            progress.next = span.next;
        }
        Ok(Outcome::Ended {
            written: part.rows.len() - late.len() - duplicates - conflicts,
            duplicates,
            conflicts,
            rejected: late.into_iter().map(|(row, why)| (row, too_late(why))).collect(),
            advanced,
        })
    }

    /// Where reading has to go on, if not at the span. A batch that went into the state and never ended makes the state
    /// worthless: the snapshot is loaded again.
    async fn elsewhere(&self, held: &Held, progress: &mut Progress, span: &Span) -> Result<Option<i64>, Fault> {
        if progress.unsettled.is_some() {
            // First it goes: it would stand beside the one that is loaded.
            progress.state = PartitionState::new(held.partition.partition, self.snapshots.partitions);
            held.note(&progress.state);
            let durable = held.durable();
            // Without the snapshot that was written everything is read again, or what is gone by now is found missing.
            let log_start = if held.has_snapshot() { 0 } else { durable };
            let partition = span.partition.clone();
            let assigned = Assigned { partition, committed: Some(durable), log_start, log_end: i64::MAX };
            *progress = self.load(&assigned).await?.progress.into_inner();
            held.note(&progress.state);
        }
        Ok((progress.next != span.from).then_some(progress.next))
    }

    async fn take_frames(&self, frames: &FrameColumns, part: &Part<'_, FeatureInput>) -> Result<Outcome, Fault> {
        let FeatureInput { offsets, traces, .. } = part.columns;
        self.emitter.room().await?;
        let published = self.frame_rows(frames, offsets, part.rows.clone()).await?;
        let trace = |offset: i64| Some(traces.iter().find(|(at, _)| *at == offset)?.1.clone());
        let traced = published.into_iter().map(|(series, row)| Emission { trace: trace(row.revision), series, row });
        let emitted = self.emitter.give(traced.collect());
        self.emitter.acknowledged(emitted).await?;
        Ok(Outcome::Ended { written: part.rows.len(), duplicates: 0, conflicts: 0, rejected: Vec::new(), advanced: part.last })
    }

    /// The rows of frames. Spectra take long enough to keep others from their turn, so they are not made on the runtime.
    async fn frame_rows(&self, frames: &FrameColumns, offsets: &[i64], rows: Range<usize>) -> Result<Vec<Published>, Fault> {
        let mut own = FrameColumns::default();
        rows.clone().for_each(|row| own.push(frames.frame(row)));
        let (offsets, series, windows) = (offsets[rows].to_vec(), self.series.clone(), self.frames.clone());
        let work = move || {
            let mut published = Vec::new();
            let mut windows = windows.lock().unwrap_or_else(PoisonError::into_inner);
            // Looked up one by one: whoever decodes adds names meanwhile.
            let name = |id: SeriesId| series.read().get(id.index()).cloned();
            windows.rows(&own, &offsets, 0..own.len(), name, now_ms(), &mut published);
            published
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|error| Fault::retry(format!("the figures of frames were cut off ({error})")))
    }
}

impl<L: StateLog + 'static> Sink for FeatureSink<L> {
    type Columns = FeatureInput;

    async fn start(&self, assigned: &[Assigned]) -> Result<Vec<Start>, Fault> {
        let (known, now) = (self.snapshots.partitions, self.snapshots.partitions_now().await?);
        if known != now {
            return Err(Fault::Fatal {
                reason: format!(
                    "{} has {now} partitions and had {known} when this worker started: assets move between them. Restart it; it \
                     then says what becomes of its state",
                    topics::READINGS
                ),
            });
        }
        let starts = self.load_all(assigned).await;
        if starts.is_err() {
            // All of them are asked for again.
            self.release(&assigned.iter().map(|assigned| assigned.partition.clone()).collect::<Vec<_>>());
        }
        starts
    }

    async fn write(&self, part: Part<'_, FeatureInput>) -> Result<Outcome, Fault> {
        match (&part.columns.rows, part.spans) {
            (RawColumns::Readings(readings), [span]) => self.take(span, readings, &part).await,
            (RawColumns::Frames(frames), _) => self.take_frames(frames, &part).await,
            (RawColumns::Readings(_), spans) => Err(Fault::Fatal {
                reason: format!("a batch covers {} partitions and must cover one: this is a defect of the worker", spans.len()),
            }),
        }
    }

    async fn advance(&self, spans: &[Span]) -> Result<Option<Vec<Moved>>, Fault> {
        for span in spans {
            let Some(held) = self.owned.find(&span.partition) else { continue };
            let mut progress = held.progress.lock().await;
            let settles = progress.unsettled.is_none_or(|end| end == span.next);
            if progress.next == span.from && settles {
                progress.next = span.next;
                progress.unsettled = None;
            } else if progress.next != span.next {
                return Ok(Some(vec![(span.partition.clone(), progress.next)]));
            }
        }
        Ok(None)
    }

    fn durable(&self, partition: &TopicPartition, done: i64) -> Durable {
        Durable::To(self.owned.find(partition).map_or(done, |held| held.durable()))
    }

    fn gap(&self, span: &Span) -> Result<(), Fault> {
        if &*span.partition.topic != topics::READINGS {
            return Ok(());
        }
        Err(Fault::Fatal {
            reason: format!(
                "the records of {} from {} to {} were removed before they could be read: the windows that they are in would be cut in \
                 silence. Restart the worker, it says what can be done; let the topic keep its records for longer",
                span.partition, span.from, span.next
            ),
        })
    }

    async fn flush(&self, partitions: &[TopicPartition]) -> Result<(), Fault> {
        for partition in partitions {
            if let Some(held) = self.owned.find(partition) {
                self.snapshot(&held, &mut *held.progress.lock().await).await?;
            }
        }
        Ok(())
    }

    fn release(&self, partitions: &[TopicPartition]) {
        self.owned.release(partitions, &self.status);
    }
}

/// Whether the state is written: after `interval`, or when its partition falls silent, but a large state not after every pause.
fn is_snapshot_due(silent: Duration, since_last: Duration, state_bytes: usize, interval: Duration) -> bool {
    let early = QUIET + Duration::from_secs_f64(state_bytes as f64 / EARLY_BYTES_PER_S as f64);
    since_last >= interval || silent >= QUIET && since_last >= early
}

fn too_late(why: Late) -> Reason {
    match why {
        Late::Lateness => BEYOND_LATENESS,
        Late::Samples => BEYOND_SAMPLES,
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_state_is_written_when_its_partition_falls_silent_and_a_large_one_no_more_often_than_configured() {
        let [second, half_minute] = [1, 30].map(Duration::from_secs);
        assert!(is_snapshot_due(second, second * 2, 10_000, half_minute));
        assert!(!is_snapshot_due(second / 2, second * 29, 10_000, half_minute), "it is not silent");
        assert!(is_snapshot_due(second / 2, half_minute, 10_000, half_minute));
        // One reading every two seconds, and 50 MB to write.
        let written = (1..=300).filter(|now| now % 2 == 0).fold((0, 0), |(count, last), now| {
            let due = is_snapshot_due(second, second * (now - last), 50_000_000, half_minute);
            if due { (count + 1, now) } else { (count, last) }
        });
        assert_eq!(written.0, 10);
    }
}
