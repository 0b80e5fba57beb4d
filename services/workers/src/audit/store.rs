//! The stores that are held to account row by row, and what their workers write into them.

use std::{future::Future, ops::Range};

use mantis_pipeline::Fault;
use mantis_schemas::{Series, topics};
use mantis_stores::{
    ReadingReader,
    features::FeatureReader,
    raw::{RawReader, StoredFrame},
};

use crate::{raw, sensors::SensorRegistry, timescale};

/// A store of readings and frames, with the worker that writes it.
pub trait AuditedStore: Send + Sync {
    /// What reads the store.
    type Reader: ReadingReader;

    /// The worker's name.
    const NAME: &'static str;
    /// Its consumer group.
    const GROUP: &'static str;
    /// The topics whose rows it writes here.
    const TOPICS: &'static [&'static str];

    /// Reads its readings.
    fn reader(&self) -> &Self::Reader;

    /// The sensors of which it writes slow readings and nothing else; `None` where it writes every row.
    fn registered(&self) -> Option<&SensorRegistry>;

    /// Frames of a series in order of start, at most `limit`.
    fn frames(
        &self,
        series: &Series,
        start_ns: Range<i64>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<StoredFrame>, Fault>> + Send;
}

/// The raw store: every reading and frame.
#[derive(Debug)]
pub struct RawRows<'a, R>(pub &'a R);

impl<R: RawReader> AuditedStore for RawRows<'_, R> {
    type Reader = R;

    const NAME: &'static str = "raw";
    const GROUP: &'static str = raw::GROUP;
    const TOPICS: &'static [&'static str] = &raw::TOPICS;

    fn reader(&self) -> &R {
        self.0
    }

    fn registered(&self) -> Option<&SensorRegistry> {
        None
    }

    async fn frames(&self, series: &Series, start_ns: Range<i64>, limit: usize) -> Result<Vec<StoredFrame>, Fault> {
        self.0.frames(series, start_ns, limit).await
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
    type Reader = R;

    const NAME: &'static str = "timescale";
    const GROUP: &'static str = timescale::GROUP;
    const TOPICS: &'static [&'static str] = &[topics::READINGS];

    fn reader(&self) -> &R {
        self.store
    }

    fn registered(&self) -> Option<&SensorRegistry> {
        Some(self.sensors)
    }

    async fn frames(&self, _: &Series, _: Range<i64>, _: usize) -> Result<Vec<StoredFrame>, Fault> {
        Ok(Vec::new())
    }
}
