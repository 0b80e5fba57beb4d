//! Looks for letters, from either end of the dead-letter topics.

use mantis_pipeline::{RecordBatch, TopicPartition};

use super::{
    DeadLetterLog, Filter, Found, Place,
    index::{Index, Met, Order},
    log::{Range, ranges},
};
use crate::{ClientConfig, Error, MessageBatch, Reader, dead_letter};

/// Offsets that are read at once on the way back; what is held of them is in [`super::record`].
const STEP_OFFSETS_MAX: usize = 10_000;

/// The oldest records of which `filter` wants letters, the oldest first, out of at most `letters_max` letters for the reason
/// that it asks for. Where none of those is wanted, the search goes on behind them.
///
/// # Errors
/// The dead-letter topics cannot be read.
pub async fn oldest(client: &ClientConfig, filter: &Filter, letters_max: usize) -> Result<Found, Error> {
    let mut from = filter.from.clone();
    loop {
        let found = oldest_from(client, filter, from.as_ref(), letters_max.max(1)).await?;
        if found.more_from.is_none() || !found.records.is_empty() {
            return Ok(found);
        }
        from = found.more_from;
    }
}

async fn oldest_from(client: &ClientConfig, filter: &Filter, from: Option<&Place>, letters_max: usize) -> Result<Found, Error> {
    let mut index = Index::new(Order::OldestFirst, filter, letters_max);
    let mut more_from: Option<Place> = None;
    let mut log = DeadLetterLog::new(client, ranges(client, filter, from).await?);
    while let Some(batch) = log.next().await? {
        // To the end of a partition, where the marks of its letters are.
        if more_from.as_ref().is_some_and(|more| more.partition != *batch.partition()) {
            break;
        }
        for (place, met) in met(&batch, filter) {
            if !index.add(met) {
                more_from.get_or_insert(place);
            }
        }
    }
    Ok(index.found(more_from))
}

/// The newest records of which `filter` wants letters, the newest first, out of at most `letters_max` letters that it wants and
/// as many others and marks. Where none of those is wanted although there are older ones, the oldest are found instead: what
/// is empty was looked at as a whole.
///
/// # Errors
/// The dead-letter topics cannot be read.
pub async fn newest(client: &ClientConfig, filter: &Filter, letters_max: usize) -> Result<Found, Error> {
    let letters_max = letters_max.max(1);
    let found = newest_back(client, filter, letters_max).await?;
    if found.more_from.is_none() || !found.records.is_empty() {
        return Ok(found);
    }
    let mut found = oldest(client, &Filter { from: None, ..filter.clone() }, letters_max).await?;
    if found.more_from.is_none() {
        found.records.reverse();
        found.order = Order::NewestFirst;
    }
    Ok(found)
}

async fn newest_back(client: &ClientConfig, filter: &Filter, letters_max: usize) -> Result<Found, Error> {
    let mut left = ranges(client, filter, None).await?;
    let first = left.first().map(|range| Place { partition: range.partition.clone(), offset: range.from });
    left.retain(|range| range.from < range.to);
    let mut index = Index::new(Order::NewestFirst, filter, letters_max);
    // Partitions take turns, and each has had one before the index can be full.
    let step = letters_max.checked_div(left.len()).unwrap_or(1).clamp(1, STEP_OFFSETS_MAX) as i64;
    while !left.is_empty() {
        for range in &mut left {
            let from = range.from.max(range.to - step);
            for met in step_back(client, &range.partition, from, range.to, filter).await?.into_iter().rev() {
                if !index.add(met) {
                    return Ok(index.found(first));
                }
            }
            range.to = from;
        }
        left.retain(|Range { from, to, .. }| from < to);
    }
    Ok(index.found(None))
}

async fn step_back(
    client: &ClientConfig,
    partition: &TopicPartition,
    from: i64,
    to: i64,
    filter: &Filter,
) -> Result<Vec<Met>, Error> {
    let mut all = Vec::new();
    let mut reader = Reader::open(client, partition.clone(), from, to)?;
    while let Some(batch) = reader.next().await? {
        all.extend(met(&batch, filter).map(|(_, met)| met));
    }
    Ok(all)
}

/// The letters and marks of a batch, with their places.
fn met<'a>(batch: &'a MessageBatch, filter: &'a Filter) -> impl Iterator<Item = (Place, Met)> + 'a {
    (0..batch.len()).filter_map(move |index| {
        let (record, origin) = (batch.record(index), dead_letter::origin(&batch.headers(index))?);
        let place = Place { partition: batch.partition().clone(), offset: record.offset };
        Some((place.clone(), Met::new(&origin, place, &record, filter)?))
    })
}
