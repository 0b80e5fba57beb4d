//! The stores that are held to account row by row, and what their workers write into them.

use std::{future::Future, ops::Range};

use mantis_pipeline::Fault;
use mantis_schemas::{Series, topics};
use mantis_stores::{
    features::FeatureReader,
    raw::{RawReader, StoredFrame, StoredReading},
};

use crate::{raw, sensors::SensorRegistry, timescale};

/// A store of readings and frames, with the worker that writes it. Pages and times are those of [`RawReader`].
pub trait AuditedStore: Send + Sync {
    /// The worker's name.
    const NAME: &'static str;
    /// Its consumer group.
    const GROUP: &'static str;
    /// The topics whose rows it writes here.
    const TOPICS: &'static [&'static str];

    /// The sensors of which it writes slow readings and nothing else; `None` where it writes every row.
    fn registered(&self) -> Option<&SensorRegistry>;

    /// All series that may have rows.
    fn series(&self) -> impl Future<Output = Result<Vec<Series>, Fault>> + Send;

    /// Readings of a series in order of time, at most `limit`.
    fn readings(
        &self,
        series: &Series,
        time_ns: Range<i64>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredReading>, Fault>> + Send;

    /// Frames of a series in order of start, at most `limit`.
    fn frames(
        &self,
        series: &Series,
        start_ns: Range<i64>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredFrame>, Fault>> + Send;

    /// The worker's ledger on a cluster: (topic, partition, next offset).
    fn ledger(&self, cluster_id: &str) -> impl Future<Output = Result<Vec<(String, i32, i64)>, Fault>> + Send;

    /// Source time from which a retention keeps rows, if one has deleted any.
    fn retained_from(&self) -> impl Future<Output = Result<Option<i64>, Fault>> + Send;
}

/// The raw store: every reading and frame.
#[derive(Debug)]
pub struct RawRows<'a, R>(pub &'a R);

impl<R: RawReader> AuditedStore for RawRows<'_, R> {
    const NAME: &'static str = "raw";
    const GROUP: &'static str = raw::GROUP;
    const TOPICS: &'static [&'static str] = &raw::TOPICS;

    fn registered(&self) -> Option<&SensorRegistry> {
        None
    }

    async fn series(&self) -> Result<Vec<Series>, Fault> {
        self.0.series().await
    }

    async fn readings(&self, series: &Series, time_ns: Range<i64>, limit: usize) -> Result<Vec<StoredReading>, Fault> {
        self.0.readings(series, time_ns, limit).await
    }

    async fn frames(&self, series: &Series, start_ns: Range<i64>, limit: usize) -> Result<Vec<StoredFrame>, Fault> {
        self.0.frames(series, start_ns, limit).await
    }

    async fn ledger(&self, cluster_id: &str) -> Result<Vec<(String, i32, i64)>, Fault> {
        self.0.ledger(cluster_id, Self::GROUP).await
    }

    async fn retained_from(&self) -> Result<Option<i64>, Fault> {
        self.0.retained_from().await
    }
}

/// The readings of the feature store: those of registered sensors that are slow enough for it. Its features are computed
/// again by the audit of features.
#[derive(Debug)]
pub struct SlowReadings<'a, R> {
    /// The store.
    pub store: &'a R,
    /// What is declared of sensors.
    pub sensors: &'a SensorRegistry,
}

impl<R: FeatureReader> AuditedStore for SlowReadings<'_, R> {
    const NAME: &'static str = "timescale";
    const GROUP: &'static str = timescale::GROUP;
    const TOPICS: &'static [&'static str] = &[topics::READINGS];

    fn registered(&self) -> Option<&SensorRegistry> {
        Some(self.sensors)
    }

    async fn series(&self) -> Result<Vec<Series>, Fault> {
        self.store.series().await
    }

    async fn readings(&self, series: &Series, time_ns: Range<i64>, limit: usize) -> Result<Vec<StoredReading>, Fault> {
        self.store.readings(series, time_ns, limit).await
    }

    async fn frames(&self, _: &Series, _: Range<i64>, _: usize) -> Result<Vec<StoredFrame>, Fault> {
        Ok(Vec::new())
    }

    async fn ledger(&self, cluster_id: &str) -> Result<Vec<(String, i32, i64)>, Fault> {
        self.store.ledger(cluster_id, Self::GROUP).await
    }

    async fn retained_from(&self) -> Result<Option<i64>, Fault> {
        self.store.retained_from().await
    }
}
