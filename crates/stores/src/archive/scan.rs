//! Reading an archive in order: its objects, and the rows of a partition.

use std::{collections::VecDeque, ops::Range};

use mantis_pipeline::{Fault, TopicPartition};
use mantis_schemas::SeriesInterner;

use super::{
    ArchiveStore, LIST_MAX, Listed,
    columns::ArchiveRows,
    key::{self, Place},
    object::{self, Manifest, ObjectError},
};

/// Bytes of an object's end that hold its footer: one of a few row groups takes some thousand.
const FOOTER_BYTES: usize = 64 << 10;

/// An archive that could not be read on.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] Fault),
    /// An object cannot be used.
    #[error("{key}: {error}")]
    Object {
        /// The object's key.
        key: String,
        /// Why.
        error: ObjectError,
    },
    /// Positions of the range are in no object.
    #[error("positions [{from}, {to}) of {partition} are in no object of the archive")]
    Hole {
        /// The partition.
        partition: TopicPartition,
        /// First missing position.
        from: i64,
        /// The position behind the last missing one.
        to: i64,
    },
}

/// The objects under a prefix, in order of key, page by page.
#[derive(Debug)]
pub struct Objects<'a, S> {
    store: &'a S,
    prefix: String,
    page: VecDeque<Listed>,
    after: Option<String>,
    last_page: bool,
}

impl<'a, S: ArchiveStore> Objects<'a, S> {
    /// Those whose keys begin with `prefix`.
    pub fn under(store: &'a S, prefix: impl Into<String>) -> Self {
        Self { store, prefix: prefix.into(), page: VecDeque::new(), after: None, last_page: false }
    }

    /// The next one.
    ///
    /// # Errors
    /// The store could not be asked.
    pub async fn next(&mut self) -> Result<Option<Listed>, Fault> {
        self.fill().await?;
        Ok(self.page.pop_front())
    }

    /// The next one, left where it is.
    async fn peek(&mut self) -> Result<Option<&Listed>, Fault> {
        self.fill().await?;
        Ok(self.page.front())
    }

    async fn fill(&mut self) -> Result<(), Fault> {
        if self.page.is_empty() && !self.last_page {
            let page = self.store.list(&self.prefix, self.after.as_deref(), LIST_MAX).await?;
            self.last_page = page.len() < LIST_MAX;
            self.after = page.last().map(|listed| listed.key.clone()).or(self.after.take());
            self.page = page.into();
        }
        Ok(())
    }
}

/// The rows of a range of one partition in order of the log, an object at a time.
#[derive(Debug)]
pub struct Rows<'a, S> {
    objects: Objects<'a, S>,
    partition: TopicPartition,
    range: Range<i64>,
    /// Where the object before ended.
    at: Option<i64>,
}

impl<'a, S: ArchiveStore> Rows<'a, S> {
    /// The rows of positions in `range`, as far as the chain has them.
    pub fn of(store: &'a S, cluster_id: &str, partition: TopicPartition, range: Range<i64>) -> Self {
        let objects = Objects::under(store, key::prefix(cluster_id, &partition));
        Self { objects, partition, range, at: None }
    }

    /// The next object's manifest and its rows in the range; `series` gives ids to their names. `None` at the end of the
    /// range or of the chain.
    ///
    /// # Errors
    /// The store could not be asked, an object cannot be used, or one is missing.
    pub async fn next(&mut self, series: &mut SeriesInterner) -> Result<Option<(Manifest, ArchiveRows)>, ScanError> {
        loop {
            let Some(listed) = self.objects.next().await? else { return Ok(None) };
            let Some(place) = Place::of(&listed.key) else { continue };
            if place.start >= self.range.end {
                return Ok(None);
            }
            let next = self.objects.peek().await?.and_then(|next| Place::of(&next.key));
            if next.is_some_and(|next| next.start <= self.range.start) {
                continue;
            }
            if let Some(at) = self.at.filter(|at| *at != place.start) {
                let partition = self.partition.clone();
                return Err(ScanError::Hole { partition, from: at, to: place.start });
            }
            let (manifest, mut rows) = read(self.objects.store, &listed.key, series).await?;
            self.at = Some(manifest.end);
            rows.retain(&self.range);
            return Ok(Some((manifest, rows)));
        }
    }
}

/// What an object says of itself, unchecked: of most objects only the end is read.
///
/// # Errors
/// The store could not be asked, or the object cannot be used or is gone.
pub async fn manifest<S: ArchiveStore>(store: &S, key: &str) -> Result<Manifest, ScanError> {
    let end = store.read_end(key, FOOTER_BYTES).await?.ok_or_else(|| gone(key))?;
    if let Some(manifest) = object::peek(&end) {
        return Ok(manifest);
    }
    let bytes = store.read(key).await?.ok_or_else(|| gone(key))?;
    object::manifest(&bytes).map_err(|error| ScanError::Object { key: key.to_owned(), error })
}

/// One object, checked.
///
/// # Errors
/// The store could not be asked, or the object cannot be used or is gone.
pub async fn read<S: ArchiveStore>(
    store: &S,
    key: &str,
    series: &mut SeriesInterner,
) -> Result<(Manifest, ArchiveRows), ScanError> {
    let bytes = store.read(key).await?.ok_or_else(|| gone(key))?;
    object::rows(&bytes, series).map_err(|error| ScanError::Object { key: key.to_owned(), error })
}

fn gone(key: &str) -> Fault {
    Fault::retry(format!("the archive has no object {key} (any more)"))
}
