//! Fills a cache from the stores.

use std::collections::HashMap;

use mantis_pipeline::{Fault, TopicPartition};
use mantis_schemas::topics;
use mantis_stores::{
    ReadingReader,
    cache::memory::MemoryCache,
    features::{AnyFeatureReader, FeatureOpenError, FeaturePlace, FeatureReader},
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
    feature_store: &FeaturePlace,
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
        let is_server = matches!(store, AnyRawReader::Influx(_));
        note(unless_away(filled.await, is_server)?, topics::READINGS);
    }
    if let Some(store) = feature_reader(feature_store)? {
        let filled = async {
            let ledger = store.ledger(cluster_id, timescale::GROUP).await?;
            features(cache, &store).await.map(|()| ledger)
        };
        let is_server = matches!(store, AnyFeatureReader::Timescale(_));
        note(unless_away(filled.await, is_server)?, topics::FEATURES);
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

/// A server that is away must not keep the cache from what comes.
fn unless_away<T: Default>(filled: Result<T, Fault>, is_server: bool) -> Result<T, Fault> {
    match filled {
        Err(fault) if is_server => {
            tracing::warn!(%fault, "the cache is not filled from this store");
            Ok(T::default())
        }
        filled => filled,
    }
}

fn feature_reader(place: &FeaturePlace) -> Result<Option<AnyFeatureReader>, WorkerError> {
    match place.open() {
        Err(FeatureOpenError::Sqlite(error)) => Ok(there(Err(error))?),
        opened => Ok(Some(opened?)),
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
