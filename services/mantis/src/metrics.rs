//! The workers' counters in Prometheus' text format, with those of the process.

use std::sync::Mutex;

use mantis_workers::features::{Counts, StateAccount, StateSize};
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

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
    feature_sensors: IntGauge,
    feature_windows: IntGauge,
    feature_samples: IntGauge,
    feature_bytes: IntGauge,
    feature_bytes_max: IntGauge,
    snapshots: IntCounterVec,
    snapshot_offset: IntGaugeVec,
    snapshot_time: IntGaugeVec,
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
        let level = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            prometheus::Result::Ok(gauge)
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
            feature_sensors: level("mantis_feature_sensors", "Sensors in the state of the features worker.")?,
            feature_windows: level(
                "mantis_feature_open_windows",
                "Windows without a final row, and those that are kept as moments.",
            )?,
            feature_samples: level("mantis_feature_samples", "Samples in the state of the features worker.")?,
            feature_bytes: level("mantis_feature_state_bytes", "Bytes that the state of the features worker takes.")?,
            feature_bytes_max: level(
                "mantis_feature_state_bytes_max",
                "Bytes at which the features worker takes no more readings (features.state_bytes_max).",
            )?,
            snapshots: counter(
                "mantis_feature_snapshots_total",
                "Snapshots of the state of a partition, by how they ended.",
                &["result"],
            )?,
            snapshot_offset: gauge(
                "mantis_feature_snapshot_offset",
                "Offset of the readings that the newest snapshot reaches to.",
                &["partition"],
            )?,
            snapshot_time: gauge(
                "mantis_feature_snapshot_timestamp_seconds",
                "When the newest snapshot was written, seconds since the epoch.",
                &["partition"],
            )?,
            registry,
            scrape: Mutex::default(),
        };
        #[cfg(target_os = "linux")]
        metrics.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    /// All metrics now, as text.
    pub fn text(&self, workers: &[Watched], features: &Counts, state: &StateAccount) -> String {
        let _one_at_a_time = self.scrape.lock();
        self.rows.reset();
        self.dead_letters.reset();
        self.gaps.reset();
        self.late.reset();
        self.late.inc_by(features.late);
        self.misplaced.reset();
        self.misplaced.inc_by(features.misplaced);
        self.fill_state(state);
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

    fn fill_state(&self, state: &StateAccount) {
        let StateSize { sensors, open_windows, samples, bytes } = state.size;
        for (gauge, value) in [
            (&self.feature_sensors, sensors),
            (&self.feature_windows, open_windows),
            (&self.feature_samples, samples),
            (&self.feature_bytes, bytes),
            (&self.feature_bytes_max, state.bytes_max),
        ] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.snapshots.reset();
        self.snapshots.with_label_values(&["written"]).inc_by(state.snapshots_written);
        self.snapshots.with_label_values(&["failed"]).inc_by(state.snapshots_failed);
        self.snapshot_offset.reset();
        self.snapshot_time.reset();
        for snapshot in &state.snapshots {
            let partition = [&*snapshot.partition.to_string()];
            self.snapshot_offset.with_label_values(&partition).set(snapshot.offset);
            self.snapshot_time.with_label_values(&partition).set(snapshot.written_ms / 1_000);
        }
    }
}
