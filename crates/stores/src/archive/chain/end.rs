//! Where a chain ends.

use mantis_pipeline::{Fault, TopicPartition};

use crate::archive::{
    ArchiveStore, LIST_MAX, Listed,
    key::{self, Place},
    object::{self, Manifest},
};

/// The manifest of a chain's last object; `None` where there is none yet.
///
/// # Errors
/// The store cannot be asked, or the object is damaged or not what its key says.
pub async fn last<S: ArchiveStore>(store: &S, cluster_id: &str, partition: &TopicPartition) -> Result<Option<Manifest>, Fault> {
    match last_key(store, cluster_id, partition).await? {
        Some(key) => manifest(store, &key, cluster_id).await.map(Some),
        None => Ok(None),
    }
}

/// The manifest of an object that is there, and is what its key says.
pub(super) async fn manifest<S: ArchiveStore>(store: &S, key: &str, cluster_id: &str) -> Result<Manifest, Fault> {
    let gone = || Fault::retry(format!("the archive's object {key} was listed or in the way, and now it is not there"));
    let bytes = store.read(key).await?.ok_or_else(gone)?;
    let fatal = |what: String| Fault::Fatal { reason: format!("the archive's object {key} cannot be trusted: {what}") };
    let manifest = tokio::task::spawn_blocking(move || object::manifest(&bytes)).await;
    let manifest = manifest.map_err(|error| Fault::retry(format!("the check of {key} was cut off ({error})")))?;
    let manifest = manifest.map_err(|error| fatal(error.to_string()))?;
    let own = key::key(cluster_id, &TopicPartition::new(manifest.topic.as_str(), manifest.partition), manifest.start);
    if own != key || manifest.cluster_id != cluster_id || manifest.end <= manifest.start {
        return Err(fatal(format!(
            "it says that it holds [{}, {}) of {}/{} of cluster {}",
            manifest.start, manifest.end, manifest.topic, manifest.partition, manifest.cluster_id
        )));
    }
    Ok(manifest)
}

/// Finds the last key with few lists: the next page has it for most chains; where it does not, the positions that may hold
/// a key are halved first.
async fn last_key<S: ArchiveStore>(store: &S, cluster_id: &str, partition: &TopicPartition) -> Result<Option<String>, Fault> {
    let prefix = key::prefix(cluster_id, partition);
    let mut last: Option<Place> = None;
    // There is no key behind it.
    let mut free = i64::MAX;
    loop {
        let after = last.as_ref().map(Place::key);
        let page = store.list(&prefix, after.as_deref(), LIST_MAX).await?;
        last = last_place(&page).or(last);
        let (true, Some(place)) = (page.len() == LIST_MAX, &mut last) else { return Ok(last.map(|place| place.key())) };
        while free - place.start > LIST_MAX as i64 {
            let middle = place.start + (free - place.start) / 2;
            let probe = store.list(&prefix, Some(&key::key(cluster_id, partition, middle)), 1).await?;
            match last_place(&probe) {
                Some(found) => {
                    *place = found;
                    break;
                }
                None => free = middle,
            }
        }
    }
}

fn last_place(page: &[Listed]) -> Option<Place> {
    page.iter().rev().find_map(|listed| Place::of(&listed.key))
}
