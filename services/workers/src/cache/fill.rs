//! Fills a cache from the stores.

use std::{collections::HashMap, path::Path};

use mantis_pipeline::{Fault, TopicPartition};
use mantis_schemas::topics;
use mantis_stores::{
    ReadingReader,
    cache::memory::MemoryCache,
    features::{FeatureReader, sqlite::SqliteFeatureReader},
    raw::{AnyRawReader, RawOpenError, RawPlace, RawReader, sqlite::OpenError},
};

use crate::{WorkerError, raw, timescale};

/// Rows that are read and held at a time.
const PAGE_ROWS: usize = 1_000;

/// The newest reading of each series and the newest feature of each of its windows; returns up to where the stores had come
/// before. A store that is not there yet has none.
pub(super) async fn from_stores(
    cache: &MemoryCache,
    raw_store: &RawPlace,
    feature_store: &Path,
    cluster_id: &str,
) -> Result<HashMap<TopicPartition, i64>, WorkerError> {
    let mut positions = HashMap::new();
    let mut note = |ledger: Vec<(String, i32, i64)>, topic: &str| {
        let of_topic = ledger.into_iter().filter(|(found, ..)| found == topic);
        positions.extend(of_topic.map(|(topic, partition, next)| (TopicPartition::new(topic, partition), next)));
    };
    if let Some(store) = raw_reader(raw_store)? {
        let filled = async {
            let ledger = store.ledger(cluster_id, raw::GROUP).await?;
            readings(cache, &store).await.map(|()| ledger)
        };
        match (filled.await, &store) {
            (Ok(ledger), _) => note(ledger, topics::READINGS),
            // A server that is away must not keep the cache from what comes.
            (Err(fault), AnyRawReader::Influx(_)) => tracing::warn!(%fault, "the cache is not filled from the raw store"),
            (Err(fault), AnyRawReader::Sqlite(_)) => return Err(fault.into()),
        }
    }
    if let Some(store) = there(SqliteFeatureReader::open(feature_store))? {
        note(store.ledger(cluster_id, timescale::GROUP).await?, topics::FEATURES);
        features(cache, &store).await?;
    }
    Ok(positions)
}

async fn readings(cache: &MemoryCache, store: &impl RawReader) -> Result<(), Fault> {
    let mut after = None;
    loop {
        let page = store.newest_readings(after.as_ref(), PAGE_ROWS).await?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(last.clone());
        cache.seed_readings(page);
    }
}

async fn features(cache: &MemoryCache, store: &impl FeatureReader) -> Result<(), Fault> {
    let mut after = None;
    loop {
        let behind = after.as_ref().map(|(series, window_ns)| (series, *window_ns));
        let page = store.newest_features(behind, PAGE_ROWS).await?;
        let Some((series, last)) = page.last() else { return Ok(()) };
        after = Some((series.clone(), last.window_ns));
        cache.seed_features(page);
    }
}

fn raw_reader(place: &RawPlace) -> Result<Option<AnyRawReader>, WorkerError> {
    match place.reader() {
        Err(RawOpenError::Sqlite(error)) => Ok(there(Err(error))?),
        opened => Ok(opened?),
    }
}

fn there<T>(opened: Result<T, OpenError>) -> Result<Option<T>, OpenError> {
    match opened {
        Ok(store) => Ok(Some(store)),
        Err(OpenError::Absent { .. }) => Ok(None),
        // Its own worker brings it up to date, and may not have come to it yet.
        Err(error @ OpenError::Older { .. }) => {
            tracing::warn!(%error, "the cache is not filled from this store");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
