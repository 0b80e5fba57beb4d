//! One refused record with all that was written down of it.

use mantis_pipeline::{Header, RecordBatch};

use super::{Filter, GROUPS_MAX, Place, Refusal, search};
use crate::{
    ClientConfig, Error, Reader,
    dead_letter::{self, Origin},
};

/// A refused record, whole.
#[derive(Clone, Debug)]
pub struct Whole {
    /// The record's own position.
    pub position: Place,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub payload: Option<Vec<u8>>,
    /// Its own headers, without those of its letters.
    pub headers: Vec<Header>,
    /// What the letter of each group says, the newest first. At least one.
    pub letters: Vec<WholeRefusal>,
}

/// The refusal of a record by one group, with every row.
#[derive(Clone, Debug)]
pub struct WholeRefusal {
    /// Where the record was read and why it was refused.
    pub origin: Origin,
    /// When the letter was written, ms since the epoch.
    pub written_ms: Option<i64>,
    /// When the record was sent to its topic again for this letter, ms since the epoch.
    pub replayed_ms: Option<i64>,
}

/// The record at `position`, as `topic/partition/offset`, if it has a dead letter.
///
/// # Errors
/// The dead-letter topics cannot be read.
pub async fn whole(client: &ClientConfig, position: &str) -> Result<Option<Whole>, Error> {
    let filter = Filter { position: Some(position.to_owned()), all: true, ..Filter::default() };
    let found = search::oldest(client, &filter, GROUPS_MAX).await?;
    let Some(record) = found.records.into_iter().next() else { return Ok(None) };
    let mut whole: Option<Whole> = None;
    for Refusal { place: Place { partition, offset }, written_ms, replayed_ms, .. } in record.refusals {
        let Some(batch) = Reader::open(client, partition, offset, offset + 1)?.next().await? else { continue };
        let (letter, headers) = (batch.record(0), batch.headers(0));
        let Some(origin) = dead_letter::origin(&headers) else { continue };
        let whole = whole.get_or_insert_with(|| Whole {
            position: record.position.clone(),
            key: letter.key.map(<[u8]>::to_vec),
            payload: letter.payload.map(<[u8]>::to_vec),
            headers: dead_letter::headers_of_record(&headers).to_vec(),
            letters: Vec::new(),
        });
        whole.letters.push(WholeRefusal { origin, written_ms, replayed_ms });
    }
    Ok(whole)
}
