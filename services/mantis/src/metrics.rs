//! The workers' counters in Prometheus' text format, with those of the process.

use std::sync::Mutex;

use mantis_workers::features::Counts;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::report::Watched;

/// The registry of this process; filled anew from the workers' own counters at each scrape.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    rows: IntCounterVec,
    dead_letters: IntCounterVec,
    gaps: IntCounterVec,
    late: IntCounter,
    misplaced: IntCounter,
    held_bytes: IntGaugeVec,
    state: IntGaugeVec,
    // Filling and reading is one step: two scrapes at once must not count twice.
    scrape: Mutex<()>,
}

impl Metrics {
    /// An empty registry.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            prometheus::Result::Ok(vec)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            prometheus::Result::Ok(vec)
        };
        let alone = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            prometheus::Result::Ok(counter)
        };
        let metrics = Self {
            rows: counter("mantis_records_processed_total", "Rows that ended, by how.", &["stage", "topic", "result"])?,
            dead_letters: counter("mantis_dlq_records_total", "Records sent to the dead letters.", &["stage", "topic"])?,
            gaps: counter(
                "mantis_gap_offsets_total",
                "Offsets removed from the log before they were read.",
                &["stage", "topic"],
            )?,
            late: alone("mantis_late_records_total", "Readings that came too late for any window.")?,
            misplaced: alone(
                "mantis_misplaced_readings_total",
                "Readings on another partition than their asset's key says: set partitioner=murmur2_random.",
            )?,
            held_bytes: gauge("mantis_held_bytes", "Bytes of records and rows under way.", &["stage"])?,
            state: gauge("mantis_worker_state", "1 for the state that the worker is in.", &["stage", "state"])?,
            registry,
            scrape: Mutex::default(),
        };
        #[cfg(target_os = "linux")]
        metrics.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    /// All metrics now, as text.
    pub fn text(&self, workers: &[Watched], features: &Counts) -> String {
        let _one_at_a_time = self.scrape.lock();
        self.rows.reset();
        self.dead_letters.reset();
        self.gaps.reset();
        self.late.reset();
        self.late.inc_by(features.late);
        self.misplaced.reset();
        self.misplaced.inc_by(features.misplaced);
        for worker in workers {
            let snapshot = worker.status.snapshot();
            self.held_bytes.with_label_values(&[worker.name]).set(i64::try_from(snapshot.held_bytes).unwrap_or(i64::MAX));
            for state in ["running", "retrying", "paused", "stopped"] {
                self.state.with_label_values(&[worker.name, state]).set((worker.state(&snapshot).name() == state).into());
            }
            for (topic, t) in &snapshot.topics {
                let rejected = t.partitions.values().map(|p| p.rows_rejected).sum();
                let results =
                    [("written", t.written), ("duplicate", t.duplicates), ("conflict", t.conflicts), ("rejected", rejected)];
                for (result, count) in results {
                    self.rows.with_label_values(&[worker.name, topic, result]).inc_by(count);
                }
                self.dead_letters
                    .with_label_values(&[worker.name, topic])
                    .inc_by(t.partitions.values().map(|p| p.dead_letters).sum());
                self.gaps.with_label_values(&[worker.name, topic]).inc_by(t.partitions.values().map(|p| p.gap_offsets).sum());
            }
        }
        let mut text = Vec::new();
        // Writing to memory does not fail; an empty page would be seen as a failed scrape.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}
