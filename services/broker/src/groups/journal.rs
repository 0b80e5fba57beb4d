//! Committed offsets and registered groups, kept in one append-only file.
//!
//! A record is `length u32 | crc32c u32 | JSON`, little endian; its JSON is the list of changes of one request. It counts
//! once it is synced, and requests that arrive during a sync share the next one. On opening, the file is read to the first
//! record that is not whole; the rest is a torn tail, which nobody was told of. When the file has grown to a multiple of
//! what is alive, a new one with only that takes its place.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Error, disk};

/// The file is rewritten when it is larger than this and larger than [`REWRITE_FACTOR`] times what was alive.
const REWRITE_BYTES_MIN: u64 = 1 << 20;
const REWRITE_FACTOR: u64 = 4;
/// Changes in one record of a rewritten file.
const CHANGES_PER_RECORD: usize = 1_000;
const FILE: &str = "groups.journal";

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// A group committed an offset.
    Commit { group: String, topic: String, partition: i32, offset: Committed },
    /// A commit is taken back: deleted by request, or with its topic.
    Forget { group: String, topic: String, partition: i32 },
    /// A group's members subscribe to these topics.
    Register { group: String, topics: BTreeSet<String>, time_ms: i64 },
    /// A group is gone.
    Remove { group: String },
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: String,
    pub(crate) time_ms: i64,
}

/// What is known of a group beyond a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// By topic and partition.
    pub(crate) offsets: BTreeMap<String, BTreeMap<i32, Committed>>,
    /// Topics that its members subscribed to last.
    pub(crate) topics: BTreeSet<String>,
    /// The last commit or registration.
    pub(crate) time_ms: i64,
}

/// All groups by name.
pub(crate) type Groups = HashMap<String, Kept>;

/// The open file.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Size of the file when it was last written as a whole.
    alive_bytes: u64,
    /// A write or sync failed: what is in the file is not known, so it is written anew.
    broken: bool,
}

impl Journal {
    /// Opens the file in `dir`, reads it and cuts a torn tail. Blocks.
    pub(crate) fn open(dir: &Path) -> Result<(Journal, Groups), Error> {
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let path = dir.join(FILE);
        let mut options = File::options();
        let file = options.create(true).truncate(false).read(true).append(true).open(&path).map_err(Error::io("open", &path))?;
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        let mut groups = Groups::new();
        let mut end = 0;
        while let Some((changes, next)) = record_at(&bytes, end) {
            changes.into_iter().for_each(|change| change.apply(&mut groups));
            end = next;
        }
        if end < bytes.len() {
            tracing::warn!(path = %path.display(), cut_bytes = bytes.len() - end, "cut a torn tail of the groups' journal");
            file.set_len(end as u64).and_then(|()| file.sync_all()).map_err(Error::io("cut", &path))?;
        }
        disk::sync_parent(&path)?;
        let alive_bytes = groups.values().map(|kept| 200 * kept.offsets.values().map(|o| o.len() as u64).sum::<u64>()).sum();
        Ok((Journal { path, file, bytes: end as u64, alive_bytes, broken: false }, groups))
    }

    /// Writes a record for each list of changes and syncs once. `before` gives what was written so far. Blocks.
    pub(crate) fn append(&mut self, lists: &[&[Change]], before: impl FnOnce() -> Groups) -> io::Result<()> {
        if self.broken || self.bytes > REWRITE_BYTES_MIN.max(self.alive_bytes.saturating_mul(REWRITE_FACTOR)) {
            self.rewrite(&before())?;
        }
        let mut buffer = Vec::new();
        for changes in lists {
            push_record(&mut buffer, changes)?;
        }
        self.broken = true;
        self.file.write_all(&buffer)?;
        self.file.sync_data()?;
        self.broken = false;
        self.bytes += buffer.len() as u64;
        Ok(())
    }

    fn rewrite(&mut self, groups: &Groups) -> io::Result<()> {
        let mut buffer = Vec::new();
        let changes: Vec<_> = groups.iter().flat_map(|(group, kept)| kept.changes(group)).collect();
        for changes in changes.chunks(CHANGES_PER_RECORD) {
            push_record(&mut buffer, changes)?;
        }
        disk::replace(&self.path, &buffer).map_err(io::Error::other)?;
        self.file = File::options().append(true).open(&self.path)?;
        self.bytes = buffer.len() as u64;
        self.alive_bytes = self.bytes;
        self.broken = false;
        Ok(())
    }
}

impl Change {
    /// Applies it to `groups`.
    pub(crate) fn apply(self, groups: &mut Groups) {
        match self {
            Change::Commit { group, topic, partition, offset } => {
                let kept = groups.entry(group).or_default();
                kept.time_ms = kept.time_ms.max(offset.time_ms);
                kept.offsets.entry(topic).or_default().insert(partition, offset);
            }
            Change::Forget { group, topic, partition } => {
                let Some(kept) = groups.get_mut(&group) else { return };
                if let Some(partitions) = kept.offsets.get_mut(&topic) {
                    partitions.remove(&partition);
                    if partitions.is_empty() {
                        kept.offsets.remove(&topic);
                    }
                }
            }
            Change::Register { group, topics, time_ms } => {
                let kept = groups.entry(group).or_default();
                kept.topics = topics;
                kept.time_ms = kept.time_ms.max(time_ms);
            }
            Change::Remove { group } => drop(groups.remove(&group)),
        }
    }
}

impl Kept {
    /// The offset that the group has committed in a partition.
    pub(crate) fn committed(&self, topic: &str, partition: i32) -> Option<&Committed> {
        self.offsets.get(topic)?.get(&partition)
    }

    /// The changes that make it from nothing.
    fn changes(&self, group: &str) -> Vec<Change> {
        let mut changes = vec![Change::Register { group: group.into(), topics: self.topics.clone(), time_ms: self.time_ms }];
        for (topic, partitions) in &self.offsets {
            changes.extend(partitions.iter().map(|(partition, offset)| Change::Commit {
                group: group.into(),
                topic: topic.clone(),
                partition: *partition,
                offset: offset.clone(),
            }));
        }
        changes
    }
}

fn push_record(buffer: &mut Vec<u8>, changes: &[Change]) -> io::Result<()> {
    let json = serde_json::to_vec(changes)?;
    let length = u32::try_from(json.len()).map_err(io::Error::other)?;
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&crc32c::crc32c(&json).to_le_bytes());
    buffer.extend_from_slice(&json);
    Ok(())
}

/// The record that begins at `start`, if it is whole, and where the next one begins.
fn record_at(bytes: &[u8], start: usize) -> Option<(Vec<Change>, usize)> {
    let rest = bytes.get(start..)?;
    let (length, rest) = rest.split_first_chunk()?;
    let (crc, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let json = rest.get(..length)?;
    if crc32c::crc32c(json) != u32::from_le_bytes(*crc) {
        return None;
    }
    let next = start.checked_add(length)?.checked_add(2 * size_of::<u32>())?;
    Some((serde_json::from_slice(json).ok()?, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(group: &str, partition: i32, offset: i64) -> Change {
        let offset = Committed { offset, leader_epoch: 0, metadata: String::new(), time_ms: offset };
        Change::Commit { group: group.into(), topic: "t".into(), partition, offset }
    }

    fn offset(groups: &Groups, group: &str, partition: i32) -> Option<i64> {
        groups.get(group)?.committed("t", partition).map(|committed| committed.offset)
    }

    #[test]
    fn a_torn_tail_is_cut_wherever_it_is_torn_and_what_was_synced_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let (mut journal, groups) = Journal::open(dir.path()).unwrap();
        journal.append(&[&[commit("g", 0, 7)]], || groups.clone()).unwrap();
        let whole = fs::metadata(&path).unwrap().len();
        journal.append(&[&[commit("g", 0, 8), commit("g", 1, 9)]], || groups.clone()).unwrap();
        let bytes = fs::read(&path).unwrap();
        for end in usize::try_from(whole).unwrap()..bytes.len() {
            fs::write(&path, &bytes[..end]).unwrap();
            let (_, groups) = Journal::open(dir.path()).unwrap();
            assert_eq!((offset(&groups, "g", 0), offset(&groups, "g", 1)), (Some(7), None), "torn at {end}");
            assert_eq!(fs::metadata(&path).unwrap().len(), whole);
        }
    }

    #[test]
    fn the_file_stays_small_however_often_a_group_commits_and_reads_back_the_last_commits() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, mut groups) = Journal::open(dir.path()).unwrap();
        let long = "x".repeat(64 << 10);
        for round in 0..200 {
            let offset = Committed { offset: round, leader_epoch: 3, metadata: long.clone(), time_ms: 1 };
            let change = Change::Commit { group: "g".into(), topic: "t".into(), partition: 0, offset };
            journal.append(&[std::slice::from_ref(&change)], || groups.clone()).unwrap();
            change.apply(&mut groups);
        }
        assert!(fs::metadata(dir.path().join(FILE)).unwrap().len() < 2 * REWRITE_BYTES_MIN);
        drop(journal);
        assert_eq!(Journal::open(dir.path()).unwrap().1, groups);
        assert_eq!(offset(&groups, "g", 0), Some(199));
    }

    #[test]
    fn what_is_forgotten_or_removed_is_gone_after_reopening_too() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, groups) = Journal::open(dir.path()).unwrap();
        let forget = Change::Forget { group: "g".into(), topic: "t".into(), partition: 0 };
        let remove = Change::Remove { group: "h".into() };
        journal
            .append(&[&[commit("g", 0, 1), commit("g", 1, 2), commit("h", 0, 3)], &[forget, remove]], || groups.clone())
            .unwrap();
        let (_, groups) = Journal::open(dir.path()).unwrap();
        assert_eq!((offset(&groups, "g", 0), offset(&groups, "g", 1), offset(&groups, "h", 0)), (None, Some(2), None));
    }
}
