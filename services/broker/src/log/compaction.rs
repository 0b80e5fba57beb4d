//! Compaction: of what lies below the active segment, only the last record of each key stays.
//!
//! A run reads the segments that were never cleaned into a table (key -> last offset) as far as the table's bound lets it, and
//! writes every segment up to there anew without the records that the table shows to be superseded; then the same from where
//! it stopped. Records keep their offsets and their bytes: a batch that loses some records is written uncompressed with the
//! others, a batch that loses none is copied as it is, and what cannot be read is kept. A record without key is kept.
//!
//! A tombstone (a key without value) goes when its segment was cleaned before, at least `delete.retention.ms` ago: nothing
//! older of its key is left then, and consumers had that time to see it.
//!
//! Cleaned segments that are small and hold no more tombstones of interest are joined, so that their number stays bounded.
//!
//! A crash at any point leaves either the old segments or the new one: the new file is complete and synced before a rename to
//! a name that says which offsets it replaces, and opening the log finishes what the rename promised.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{
    BatchHeader, LogError,
    checkpoint::{self, Importance},
    records::{records, uncompressed},
    recovery::{CLEANED, SWAP, SWAP_INDEX, finish_swaps, remove, rename, swap_path},
    segment::{Segment, log_path},
    walk::Walk,
};

/// Smallest bound of the key table that makes sense; smaller ones are raised to it.
pub const TABLE_BYTES_MIN: usize = 1 << 16;
/// What an entry of the key table takes beside the key's bytes.
const ENTRY_BYTES: usize = 64;

/// A compaction that has been planned and can run without the log's lock.
#[derive(Debug)]
pub struct Compaction {
    dir: PathBuf,
    groups: Vec<Vec<Segment>>,
    now_ms: i64,
    delete_retention_ms: i64,
}

/// Cleaned segments in temporary files, to be installed with [`super::PartitionLog::install`].
#[derive(Debug)]
pub struct Compacted {
    pub(super) replaced: Vec<Replaced>,
}

/// Adjacent segments, and the one that takes their place.
#[derive(Debug)]
pub(super) struct Replaced {
    pub(super) old: Vec<Segment>,
    pub(super) new: Segment,
    file: PathBuf,
}

/// Segments that become one; `file` is where its batches are after the last pass, if there was one.
struct Group {
    old: Vec<Segment>,
    new: Segment,
    file: Option<PathBuf>,
    drops_tombstones: bool,
}

/// The last offset of each key among the records in `..end_offset` of the segments that were never cleaned.
#[derive(Default)]
struct KeyTable {
    last_offsets: HashMap<Box<[u8]>, i64>,
    bytes: usize,
    end_offset: i64,
}

impl Compaction {
    /// Plans the cleaning of `sealed`, all segments below the active one; `None` if there is nothing to do.
    pub(super) fn plan(
        dir: &Path,
        sealed: &[Segment],
        segment_bytes: u64,
        now_ms: i64,
        delete_retention_ms: i64,
    ) -> Option<Compaction> {
        let total: u64 = sealed.iter().map(|segment| segment.bytes).sum();
        let dirty: u64 = sealed.iter().filter(|segment| segment.cleaned_ms == 0).map(|segment| segment.bytes).sum();
        let expired = |segment: &Segment| has_expired_tombstones(segment, now_ms, delete_retention_ms);
        // At least half of it new (Kafka's min.cleanable.dirty.ratio), so that old bytes are not rewritten for a few new ones.
        let is_due = (dirty > 0 && dirty * 2 >= total) || sealed.iter().any(expired);
        if !is_due {
            return None;
        }
        let mut groups: Vec<Vec<Segment>> = Vec::new();
        for segment in sealed {
            let joins = |segment: &Segment| segment.cleaned_ms != 0 && (!segment.has_tombstones || expired(segment));
            match groups.last_mut() {
                Some(group)
                    if joins(segment)
                        && group.iter().all(joins)
                        && group.iter().map(|member| member.bytes).sum::<u64>() + segment.bytes <= segment_bytes
                        && group.first().is_some_and(|first| segment.next_offset - first.base_offset <= i64::from(i32::MAX)) =>
                {
                    group.push(segment.clone());
                }
                _ => groups.push(vec![segment.clone()]),
            }
        }
        Some(Compaction { dir: dir.to_owned(), groups, now_ms, delete_retention_ms })
    }

    /// Cleans into temporary files, with a key table of at most `table_bytes_max` bytes. Blocks. After an error (a full disk,
    /// a batch that is corrupt) nothing is left behind, and the log is as it was.
    pub fn run(self, table_bytes_max: usize) -> Result<Compacted, LogError> {
        let mut groups: Vec<Group> = self.groups.iter().map(|old| self.group(old)).collect();
        self.passes(&mut groups, table_bytes_max.max(TABLE_BYTES_MIN)).inspect_err(|_| self.discard(&groups))?;
        let mut replaced = Vec::with_capacity(groups.len());
        for group in groups {
            let Some(file) = &group.file else { continue };
            if group.is_unchanged() {
                remove(file)?;
            } else {
                replaced.push(Replaced { file: file.clone(), old: group.old, new: group.new });
            }
        }
        Ok(Compacted { replaced })
    }

    fn passes(&self, groups: &mut [Group], table_bytes_max: usize) -> Result<(), LogError> {
        let mut from_offset = 0;
        loop {
            let (table, is_complete) = self.key_table(groups, from_offset, table_bytes_max)?;
            for group in groups.iter_mut() {
                if table.end_offset > group.new.base_offset || is_complete {
                    self.clean(group, &table, is_complete)?;
                }
            }
            if is_complete {
                return Ok(());
            }
            from_offset = table.end_offset;
        }
    }

    fn discard(&self, groups: &[Group]) {
        for group in groups {
            for file in group.file.iter().chain([&group.temporary(&self.dir)]) {
                discard(file);
            }
        }
    }

    fn group(&self, old: &[Segment]) -> Group {
        let expired = |segment: &Segment| has_expired_tombstones(segment, self.now_ms, self.delete_retention_ms);
        let mut new = Segment::new(0, self.now_ms);
        if let (Some(first), Some(last)) = (old.first(), old.last()) {
            new = Segment::new(first.base_offset, first.created_ms);
            new.next_offset = last.next_offset;
        }
        new.cleaned_ms =
            old.iter().map(|segment| segment.cleaned_ms).max().filter(|&cleaned| cleaned != 0).unwrap_or(self.now_ms);
        Group { old: old.to_vec(), new, file: None, drops_tombstones: old.iter().any(expired) }
    }

    /// Reads keys from `from_offset` on, until the table is full or (`true`) the segments end.
    fn key_table(&self, groups: &[Group], from_offset: i64, bytes_max: usize) -> Result<(KeyTable, bool), LogError> {
        let mut table = KeyTable { end_offset: from_offset, ..KeyTable::default() };
        let dirty = groups.iter().flat_map(|group| &group.old).filter(|segment| segment.cleaned_ms == 0);
        for segment in dirty.filter(|segment| segment.next_offset > from_offset) {
            let path = log_path(&self.dir, segment.base_offset);
            let mut is_full = false;
            for_each_batch(&path, segment.bytes, |header, batch| {
                if is_full || header.next_offset() <= from_offset {
                    return Ok(());
                }
                let bytes = uncompressed(header, batch);
                let Ok(records) = bytes.as_ref().map_err(|_| ()).and_then(|bytes| records(header, bytes).map_err(|_| ())) else {
                    return Ok(());
                };
                for record in records.iter().filter(|record| record.offset >= from_offset) {
                    let Some(key) = record.key else { continue };
                    // One entry always fits, so that every pass gets on.
                    if let Some(last_offset) = table.last_offsets.get_mut(key) {
                        *last_offset = record.offset;
                    } else if !table.last_offsets.is_empty() && table.bytes + key.len() + ENTRY_BYTES > bytes_max {
                        is_full = true;
                        return Ok(());
                    } else {
                        table.bytes += key.len() + ENTRY_BYTES;
                        table.last_offsets.insert(key.into(), record.offset);
                    }
                    table.end_offset = record.offset + 1;
                }
                Ok(())
            })?;
            if is_full {
                return Ok((table, false));
            }
            table.end_offset = segment.next_offset;
        }
        Ok((table, true))
    }

    /// Writes the group's batches anew without what `table` shows to be superseded.
    fn clean(&self, group: &mut Group, table: &KeyTable, is_last_pass: bool) -> Result<(), LogError> {
        let target = group.temporary(&self.dir);
        let sources = match &group.file {
            Some(file) => vec![(file.clone(), group.new.bytes)],
            None => group.old.iter().map(|old| (log_path(&self.dir, old.base_offset), old.bytes)).collect(),
        };
        let mut new = Segment::new(group.new.base_offset, group.new.created_ms);
        let file = File::create(&target).map_err(LogError::io("create", &target))?;
        let mut writer = BufWriter::new(file);
        let mut has_tombstones = false;
        for (path, bytes) in &sources {
            for_each_batch(path, *bytes, |header, batch| {
                let mut keeps = |record: &super::records::Record<'_>| {
                    let Some(key) = record.key else { return true };
                    let is_superseded = table.last_offsets.get(key).is_some_and(|&last| last > record.offset);
                    let is_tombstone = !record.has_value;
                    let is_over = is_tombstone && group.drops_tombstones;
                    let keeps = !is_superseded && !is_over;
                    has_tombstones |= keeps && is_tombstone;
                    keeps
                };
                let Some(kept) = cleaned_batch(header, batch, &mut keeps) else { return Ok(()) };
                let Some(kept_header) = BatchHeader::parse(&kept) else { return Ok(()) };
                writer.write_all(&kept)?;
                new.push(&kept_header);
                Ok(())
            })?;
        }
        let file = writer.into_inner().map_err(|error| LogError::io("write", &target)(error.into_error()))?;
        new.next_offset = group.new.next_offset;
        new.cleaned_ms = group.new.cleaned_ms;
        new.has_tombstones = has_tombstones;
        new.is_sealed = true;
        if is_last_pass {
            file.sync_all().map_err(LogError::io("sync", &target))?;
        }
        if let Some(before) = group.file.replace(target) {
            remove(&before)?;
        }
        group.new = new;
        Ok(())
    }
}

impl Group {
    /// Whether it was clean before and nothing was found to drop.
    fn is_unchanged(&self) -> bool {
        matches!(self.old.as_slice(), [old] if old.cleaned_ms != 0
            && old.bytes == self.new.bytes
            && old.has_tombstones == self.new.has_tombstones)
    }

    /// A name for the next pass that is not the one of the last.
    fn temporary(&self, dir: &Path) -> PathBuf {
        let even = swap_path(dir, self.new.base_offset, self.new.next_offset, CLEANED);
        if self.file.as_ref() == Some(&even) { even.with_extension(format!("odd.{CLEANED}")) } else { even }
    }
}

impl Replaced {
    /// Puts the new segment into the place of the old ones.
    pub(super) fn install(&self, dir: &Path) -> Result<(), LogError> {
        let (base, next) = (self.new.base_offset, self.new.next_offset);
        // The index first, under a name that nobody reads yet: the rename of the batches is what decides.
        self.new.save_as(&swap_path(dir, base, next, SWAP_INDEX), Importance::Durable)?;
        rename(&self.file, &swap_path(dir, base, next, SWAP))?;
        checkpoint::sync_dir(dir)?;
        finish_swaps(dir)
    }

    /// Removes the temporary file.
    pub(super) fn discard(&self) {
        discard(&self.file);
    }
}

fn discard(file: &Path) {
    if let Err(error) = remove(file) {
        tracing::warn!(%error, "a temporary file of compaction stays until the log is opened again");
    }
}

fn has_expired_tombstones(segment: &Segment, now_ms: i64, delete_retention_ms: i64) -> bool {
    segment.cleaned_ms != 0 && segment.has_tombstones && now_ms.saturating_sub(segment.cleaned_ms) >= delete_retention_ms
}

/// The batch with only those records that `keeps` says; `None` if none is left.
fn cleaned_batch(
    header: &BatchHeader,
    batch: &[u8],
    keeps: &mut impl FnMut(&super::records::Record<'_>) -> bool,
) -> Option<Vec<u8>> {
    let Ok(bytes) = uncompressed(header, batch) else { return Some(batch.to_vec()) };
    let Ok(all) = records(header, &bytes) else { return Some(batch.to_vec()) };
    let kept: Vec<_> = all.iter().filter(|record| keeps(record)).collect();
    if kept.is_empty() {
        return None;
    }
    if kept.len() == all.len() {
        return Some(batch.to_vec());
    }
    let kept: Vec<_> = kept.iter().map(|record| record.encoded).collect();
    Some(header.rewritten(&kept).unwrap_or_else(|| batch.to_vec()))
}

/// Calls `visit` with every batch in the first `bytes` of the file at `path`; one batch is held in memory at a time.
fn for_each_batch(path: &Path, bytes: u64, mut visit: impl FnMut(&BatchHeader, &[u8]) -> io::Result<()>) -> Result<(), LogError> {
    let file = File::open(path).map_err(LogError::io("open", path))?;
    let mut walk = Walk::new(&file, path, 0, bytes);
    let mut batch = Vec::new();
    while let Some((position, header)) = walk.next()? {
        batch.resize(header.batch_bytes, 0);
        file.read_exact_at(&mut batch, position).map_err(LogError::io("read", path))?;
        if !super::batch::crc_matches(&batch, &header) {
            let what = "a record batch's checksum does not match".to_owned();
            return Err(LogError::Corrupt { path: path.to_owned(), position, what });
        }
        visit(&header, &batch).map_err(LogError::io("compact", path))?;
    }
    Ok(())
}
