//! The book of an audit: every row that the log brought and every row that the store holds, matched by identity.
//!
//! Entries are spread over bucket files by the hash of their identity, so that memory is one bucket's, not the log's.

use std::{
    fs::File,
    hash::BuildHasher,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
};

use foldhash::fast::FixedState;
use mantis_schemas::{Frame, Quality, SeriesId};

const BUCKETS: usize = 256;
const ENTRY_BYTES: usize = 38;
const HASHER: FixedState = FixedState::with_seed(0x6d61_6e74_6973);

/// What kind of row an identity belongs to: a reading and a frame of one sensor may share a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A scalar reading.
    Reading,
    /// A waveform frame.
    Frame,
}

/// Where an entry comes from, and what it obliges the store to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// In the log below the audited position, and not refused: the store must have it.
    Required,
    /// In the log, but refused into the dead letters, or behind the audited position: the store may have it.
    Allowed,
    /// In the store.
    Stored,
}

/// A row of the log or of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The series, numbered by the audit.
    pub(super) series: SeriesId,
    /// Reading or frame.
    pub(super) kind: Kind,
    /// Source time, ns since the epoch.
    pub(super) time_ns: i64,
    /// Where the entry comes from.
    pub(super) side: Side,
    /// The partition, numbered by the audit; 0 for the store.
    pub(super) partition: u32,
    /// Position in the partition; 0 for the store.
    pub(super) offset: i64,
    /// Row within the record; 0 for the store.
    pub(super) row: u32,
    /// Hash of everything but the identity and the arrival time.
    pub(super) hash: u64,
}

/// Hash of a reading's content.
pub(super) fn hash_reading(value: f64, quality: Quality) -> u64 {
    HASHER.hash_one((value.to_bits(), quality as u8))
}

/// Hash of a frame's content.
pub(super) fn hash_frame(frame: &Frame<'_>) -> u64 {
    HASHER.hash_one((
        frame.sample_rate_hz.to_bits(),
        frame.format as u8,
        frame.scale.to_bits(),
        frame.quality as u8,
        frame.samples,
    ))
}

/// How the two sides of the book agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Matched {
    /// Identities that the store must have and has, with the right content.
    pub stored: u64,
    /// Required rows that repeat the row before of the same identity.
    pub duplicates: u64,
    /// Required rows that replaced the row before of the same identity with another content.
    pub conflicts: u64,
    /// Identities that the store had to have and deleted by its own retention.
    pub trimmed: u64,
    /// Identities that the store must have and does not.
    pub missing: u64,
    /// Identities that the store has with a content that no row of the log explains.
    pub different: u64,
    /// Identities that the store has and no row of the log explains.
    pub unexplained: u64,
    /// Identities that the store gave more than once.
    pub stored_twice: u64,
}

/// Something that does not agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Discrepancy {
    /// What is wrong.
    pub(super) what: Wrong,
    /// The log's last row of the identity, or the store's where the log has none.
    pub(super) entry: Entry,
}

/// What is wrong with an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// The store does not have it.
    Missing,
    /// The store has other content.
    Different,
    /// The log does not have it.
    Unexplained,
    /// The store gave it more than once.
    StoredTwice,
    /// Two rows of the log disagree; the last by offset won. Not an error, but worth a name.
    Conflict,
}

/// Collects entries, then matches them.
#[derive(Debug)]
pub(super) struct Book {
    buckets: Vec<BufWriter<File>>,
}

impl Book {
    /// An empty book in unnamed temporary files.
    pub(super) fn new() -> io::Result<Self> {
        let buckets = (0..BUCKETS).map(|_| Ok(BufWriter::new(tempfile::tempfile()?))).collect::<io::Result<_>>()?;
        Ok(Self { buckets })
    }

    /// Adds an entry.
    pub(super) fn add(&mut self, entry: &Entry) -> io::Result<()> {
        let identity = HASHER.hash_one((entry.series.0, entry.kind as u8, entry.time_ns));
        self.buckets[identity as usize % BUCKETS].write_all(&encode(entry))
    }

    /// Matches both sides; `discrepancy` is told of each that does not agree, in no order. What the store no longer has
    /// of the times before `retained_from_ns` was deleted by its retention.
    pub(super) fn close(self, retained_from_ns: Option<i64>, mut discrepancy: impl FnMut(Discrepancy)) -> io::Result<Matched> {
        let mut matched = Matched::default();
        let mut entries = Vec::new();
        for bucket in self.buckets {
            let mut file = bucket.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.seek(SeekFrom::Start(0))?;
            read_all(file, &mut entries)?;
            entries.sort_unstable_by_key(|e| (e.series, e.kind, e.time_ns, e.side == Side::Stored, e.partition, e.offset, e.row));
            for identity in entries.chunk_by(|a, b| (a.series, a.kind, a.time_ns) == (b.series, b.kind, b.time_ns)) {
                match_identity(identity, retained_from_ns, &mut matched, &mut discrepancy);
            }
        }
        Ok(matched)
    }
}

/// `entries`: the log's rows of one identity in order of (partition, offset, row), then the store's.
fn match_identity(
    entries: &[Entry],
    retained_from_ns: Option<i64>,
    matched: &mut Matched,
    discrepancy: &mut impl FnMut(Discrepancy),
) {
    let log_rows = entries.partition_point(|e| e.side != Side::Stored);
    let (log, stored) = entries.split_at(log_rows);
    if stored.len() > 1 {
        matched.stored_twice += 1;
        discrepancy(Discrepancy { what: Wrong::StoredTwice, entry: stored[0] });
    }
    let mut last_required: Option<&Entry> = None;
    for row in log.iter().filter(|e| e.side == Side::Required) {
        match last_required {
            Some(before) if before.hash == row.hash => matched.duplicates += 1,
            Some(_) => {
                matched.conflicts += 1;
                discrepancy(Discrepancy { what: Wrong::Conflict, entry: *row });
            }
            None => {}
        }
        last_required = Some(row);
    }
    match (last_required, stored.first()) {
        (Some(row), None) if retained_from_ns.is_some_and(|from| row.time_ns < from) => matched.trimmed += 1,
        (Some(row), None) => {
            matched.missing += 1;
            discrepancy(Discrepancy { what: Wrong::Missing, entry: *row });
        }
        (Some(row), Some(found)) => {
            if may_hold(log, found.hash) {
                matched.stored += 1;
            } else {
                matched.different += 1;
                discrepancy(Discrepancy { what: Wrong::Different, entry: *row });
            }
        }
        (None, Some(found)) if !may_hold(log, found.hash) => {
            matched.unexplained += 1;
            discrepancy(Discrepancy { what: Wrong::Unexplained, entry: *found });
        }
        (None, _) => {}
    }
}

/// The store may hold the last required row of any partition (there is no order between partitions), or an allowed one.
fn may_hold(log: &[Entry], hash: u64) -> bool {
    log.chunk_by(|a, b| a.partition == b.partition).any(|rows| {
        rows.iter().rev().find(|e| e.side == Side::Required).is_some_and(|last| last.hash == hash)
            || rows.iter().any(|e| e.side == Side::Allowed && e.hash == hash)
    })
}

fn encode(entry: &Entry) -> [u8; ENTRY_BYTES] {
    let mut bytes = [0; ENTRY_BYTES];
    bytes[0..4].copy_from_slice(&entry.series.0.to_le_bytes());
    bytes[4] = entry.kind as u8;
    bytes[5] = entry.side as u8;
    bytes[6..14].copy_from_slice(&entry.time_ns.to_le_bytes());
    bytes[14..18].copy_from_slice(&entry.partition.to_le_bytes());
    bytes[18..26].copy_from_slice(&entry.offset.to_le_bytes());
    bytes[26..30].copy_from_slice(&entry.row.to_le_bytes());
    bytes[30..38].copy_from_slice(&entry.hash.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; ENTRY_BYTES]) -> Entry {
    fn take<const N: usize>(bytes: &[u8; ENTRY_BYTES], at: usize) -> [u8; N] {
        let mut out = [0; N];
        out.copy_from_slice(&bytes[at..at + N]);
        out
    }
    Entry {
        series: SeriesId(u32::from_le_bytes(take(bytes, 0))),
        kind: if bytes[4] == Kind::Reading as u8 { Kind::Reading } else { Kind::Frame },
        side: match bytes[5] {
            0 => Side::Required,
            1 => Side::Allowed,
            _ => Side::Stored,
        },
        time_ns: i64::from_le_bytes(take(bytes, 6)),
        partition: u32::from_le_bytes(take(bytes, 14)),
        offset: i64::from_le_bytes(take(bytes, 18)),
        row: u32::from_le_bytes(take(bytes, 26)),
        hash: u64::from_le_bytes(take(bytes, 30)),
    }
}

fn read_all(file: File, entries: &mut Vec<Entry>) -> io::Result<()> {
    entries.clear();
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut bytes = [0; ENTRY_BYTES];
    loop {
        match reader.read_exact(&mut bytes) {
            Ok(()) => entries.push(decode(&bytes)),
            Err(end) if end.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(side: Side, partition: u32, offset: i64, value: f64) -> Entry {
        Entry {
            series: SeriesId(1),
            kind: Kind::Reading,
            time_ns: -5,
            side,
            partition,
            offset,
            row: 3,
            hash: hash_reading(value, Quality::Good),
        }
    }

    fn check(entries: &[Entry]) -> (Matched, Vec<Wrong>) {
        let mut book = Book::new().unwrap();
        for entry in entries {
            book.add(entry).unwrap();
        }
        let mut wrong = Vec::new();
        let matched = book.close(None, |d| wrong.push(d.what)).unwrap();
        (matched, wrong)
    }

    #[test]
    fn an_entry_survives_its_bucket_file() {
        let entry = row(Side::Allowed, 7, i64::MAX, -0.0);
        assert_eq!(decode(&encode(&entry)), entry);
    }

    #[test]
    fn a_row_in_log_and_store_adds_up() {
        let (matched, wrong) = check(&[row(Side::Required, 0, 1, 2.0), row(Side::Stored, 0, 0, 2.0)]);
        assert_eq!(matched, Matched { stored: 1, ..Matched::default() });
        assert_eq!(wrong, []);
    }

    #[test]
    fn a_row_that_the_store_lost_is_missing() {
        let (matched, wrong) = check(&[row(Side::Required, 0, 1, 2.0)]);
        assert_eq!((matched.missing, wrong), (1, vec![Wrong::Missing]));
    }

    #[test]
    fn a_changed_value_and_an_invented_row_are_found() {
        let (matched, wrong) = check(&[row(Side::Required, 0, 1, 2.0), row(Side::Stored, 0, 0, 2.5)]);
        assert_eq!((matched.different, wrong), (1, vec![Wrong::Different]));
        let (matched, wrong) = check(&[row(Side::Stored, 0, 0, 2.5)]);
        assert_eq!((matched.unexplained, wrong), (1, vec![Wrong::Unexplained]));
    }

    #[test]
    fn zero_and_minus_zero_are_different_values() {
        let (matched, _) = check(&[row(Side::Required, 0, 1, 0.0), row(Side::Stored, 0, 0, -0.0)]);
        assert_eq!(matched.different, 1);
    }

    #[test]
    fn the_last_row_of_a_conflict_must_be_the_stored_one() {
        let log = [row(Side::Required, 0, 1, 1.0), row(Side::Required, 0, 2, 1.0), row(Side::Required, 0, 9, 3.0)];
        let (matched, _) = check(&[log[0], log[1], log[2], row(Side::Stored, 0, 0, 3.0)]);
        assert_eq!(matched, Matched { stored: 1, duplicates: 1, conflicts: 1, ..Matched::default() });
        let (matched, _) = check(&[log[0], log[1], log[2], row(Side::Stored, 0, 0, 1.0)]);
        assert_eq!(matched.different, 1);
    }

    #[test]
    fn between_partitions_either_last_row_may_win() {
        for winner in [1.0, 2.0] {
            let (matched, _) =
                check(&[row(Side::Required, 0, 5, 1.0), row(Side::Required, 1, 4, 2.0), row(Side::Stored, 0, 0, winner)]);
            assert_eq!((matched.stored, matched.conflicts), (1, 1));
        }
    }

    #[test]
    fn rows_behind_the_audited_position_and_refused_rows_may_be_stored_or_not() {
        assert_eq!(check(&[row(Side::Allowed, 0, 8, 1.0)]).0, Matched::default());
        assert_eq!(check(&[row(Side::Allowed, 0, 8, 1.0), row(Side::Stored, 0, 0, 1.0)]).0, Matched::default());
        let (matched, _) = check(&[row(Side::Required, 0, 5, 1.0), row(Side::Allowed, 0, 8, 2.0), row(Side::Stored, 0, 0, 2.0)]);
        assert_eq!(matched.stored, 1);
    }
}
