//! What the archive takes and gives back: rows with their positions, and the records that could not be decoded.

use std::ops::Range;

use mantis_pipeline::{Columns, Header, Record};
use mantis_schemas::{FeatureColumns, FrameColumns, ReadingColumns, topics};

/// Bytes of a row's position.
const POSITION_BYTES: usize = 12;
/// Bytes of a record's mark.
const MARK_BYTES: usize = size_of::<Mark>();

/// The kind of rows that a topic holds; an archived object has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Scalar readings.
    Readings,
    /// Waveform frames.
    Frames,
    /// Condition features.
    Features,
    /// Machine states, counts, alarms, work orders.
    Events,
    /// Records as they are: dead letters.
    Records,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Readings, Self::Frames, Self::Features, Self::Events, Self::Records];

    /// The kind of a topic's rows; records as they are where the topic is none of ours.
    pub fn of_topic(topic: &str) -> Self {
        match topic {
            topics::READINGS => Self::Readings,
            topics::WAVEFORMS => Self::Frames,
            topics::FEATURES => Self::Features,
            topics::EVENTS => Self::Events,
            _ => Self::Records,
        }
    }

    /// Its name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Readings => "readings",
            Self::Frames => "frames",
            Self::Features => "features",
            Self::Events => "events",
            Self::Records => "records",
        }
    }
}

/// A decoded event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// The asset.
    pub asset: Box<str>,
    /// When it happened, ns since the epoch, UTC.
    pub time_ns: i64,
    /// Its kind, such as `machine_state`.
    pub kind: Box<str>,
    /// The whole event in the contract's JSON form.
    pub json: Box<str>,
}

impl EventRow {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.asset.len() + self.kind.len() + self.json.len()
    }
}

/// Decoded events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventColumns {
    rows: Vec<EventRow>,
    bytes: usize,
}

impl EventColumns {
    /// The events.
    pub fn rows(&self) -> &[EventRow] {
        &self.rows
    }

    /// Appends an event.
    pub fn push(&mut self, row: EventRow) {
        self.bytes += row.bytes();
        self.rows.push(row);
    }

    fn truncate(&mut self, rows: usize) {
        self.bytes -= self.rows.drain(rows.min(self.rows.len())..).map(|row| row.bytes()).sum::<usize>();
    }
}

/// A record that was kept as it is, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Original {
    /// Its timestamp in ms since the epoch, where it has one.
    pub timestamp_ms: Option<i64>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<Header>,
    /// Stable code of the reason.
    pub code: String,
    /// Why it is kept: the sentence, with the refused rows where only some were refused.
    pub reason: String,
}

impl Original {
    fn bytes(&self) -> usize {
        let bytes = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|h| size_of::<Header>() + h.key.len() + bytes(&h.value)).sum();
        size_of::<Self>() + bytes(&self.key) + bytes(&self.payload) + headers + self.code.len() + self.reason.len()
    }
}

/// Decoded rows of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// Scalar readings.
    Readings(ReadingColumns),
    /// Waveform frames.
    Frames(FrameColumns),
    /// Condition features.
    Features(FeatureColumns),
    /// Events.
    Events(EventColumns),
    /// None: every record is kept as it is.
    Records,
}

impl Decoded {
    /// No rows of a kind.
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Readings => Self::Readings(ReadingColumns::default()),
            Kind::Frames => Self::Frames(FrameColumns::default()),
            Kind::Features => Self::Features(FeatureColumns::default()),
            Kind::Events => Self::Events(EventColumns::default()),
            Kind::Records => Self::Records,
        }
    }

    /// The kind of its rows.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Readings(_) => Kind::Readings,
            Self::Frames(_) => Kind::Frames,
            Self::Features(_) => Kind::Features,
            Self::Events(_) => Kind::Events,
            Self::Records => Kind::Records,
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Self::Readings(readings) => readings.len(),
            Self::Frames(frames) => frames.len(),
            Self::Features(features) => features.len(),
            Self::Events(events) => events.rows.len(),
            Self::Records => 0,
        }
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps the first `rows` rows.
    pub fn truncate(&mut self, rows: usize) {
        match self {
            Self::Readings(readings) => readings.truncate(rows),
            Self::Frames(frames) => frames.truncate(rows),
            Self::Features(features) => features.truncate(rows),
            Self::Events(events) => events.truncate(rows),
            Self::Records => {}
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Readings(readings) => readings.len() * 29,
            Self::Frames(frames) => frames.len() * 64 + frames.samples.len(),
            Self::Features(features) => features.bytes(),
            Self::Events(events) => events.bytes,
            Self::Records => 0,
        }
    }

    /// Appends `rows` of `other`, which is of the same kind.
    pub(super) fn extend(&mut self, other: &Self, rows: Range<usize>) {
        match (self, other) {
            (Self::Readings(into), Self::Readings(from)) => {
                into.series.extend_from_slice(from.series.get(rows.clone()).unwrap_or_default());
                into.time_ns.extend_from_slice(from.time_ns.get(rows.clone()).unwrap_or_default());
                into.value.extend_from_slice(from.value.get(rows.clone()).unwrap_or_default());
                into.quality.extend_from_slice(from.quality.get(rows.clone()).unwrap_or_default());
                into.arrival_ms.extend_from_slice(from.arrival_ms.get(rows).unwrap_or_default());
            }
            (Self::Frames(into), Self::Frames(from)) => rows.for_each(|row| into.push(from.frame(row))),
            (Self::Features(into), Self::Features(from)) => {
                let (series, features) = (from.series.get(rows.clone()), from.rows.get(rows));
                let (series, features) = (series.unwrap_or_default(), features.unwrap_or_default());
                series.iter().zip(features).for_each(|(series, row)| into.push(*series, row.clone()));
            }
            (Self::Events(into), Self::Events(from)) => {
                from.rows.get(rows).unwrap_or_default().iter().for_each(|row| into.push(row.clone()));
            }
            _ => {}
        }
    }
}

/// Rows in order of the log, each with its position: decoded ones and records that were kept as they are.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchiveRows {
    /// The offset of the record that each row came from.
    pub offset: Vec<i64>,
    /// The row's index in its record as the sender wrote it, or [`Self::ORIGINAL`].
    pub row: Vec<i32>,
    /// The decoded rows, in the order of those that are not [`Self::ORIGINAL`].
    pub decoded: Decoded,
    /// The kept records, in the order of those that are [`Self::ORIGINAL`]. A record of which some rows were refused is
    /// here whole, behind its good rows.
    pub originals: Vec<Original>,
    original_bytes: usize,
}

impl ArchiveRows {
    /// In place of a row's index: the whole record, as it is.
    pub const ORIGINAL: i32 = -1;

    /// No rows of a kind.
    pub fn new(kind: Kind) -> Self {
        Self { offset: Vec::new(), row: Vec::new(), decoded: Decoded::new(kind), originals: Vec::new(), original_bytes: 0 }
    }

    /// Number of rows, kept records counted.
    pub fn len(&self) -> usize {
        self.offset.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.offset.is_empty()
    }

    /// Notes the position of a row that was appended to [`decoded`](Self::decoded).
    pub fn placed(&mut self, offset: i64, row: i32) {
        self.offset.push(offset);
        self.row.push(row);
    }

    /// Appends a record as it is.
    pub fn keep(&mut self, offset: i64, original: Original) {
        self.original_bytes += original.bytes();
        self.placed(offset, Self::ORIGINAL);
        self.originals.push(original);
    }

    /// Bytes that the rows take.
    pub fn bytes(&self) -> usize {
        self.len() * POSITION_BYTES + self.decoded.bytes() + self.original_bytes
    }

    /// Keeps the first `rows` rows.
    pub fn truncate(&mut self, rows: usize) {
        let gone = self.originals_in(rows.min(self.len())..self.len());
        let originals = self.originals.len() - gone;
        self.original_bytes -= self.originals.drain(originals..).map(|original| original.bytes()).sum::<usize>();
        self.offset.truncate(rows);
        self.row.truncate(rows);
        self.decoded.truncate(self.offset.len() - originals);
    }

    /// Keeps the rows of positions in `range`; rows must be in order of the log.
    pub fn retain(&mut self, range: &Range<i64>) {
        self.truncate(self.offset.partition_point(|offset| *offset < range.end));
        let first = self.offset.partition_point(|offset| *offset < range.start);
        if first > 0 {
            let mut rest = Self::new(self.decoded.kind());
            rest.extend(self, first);
            *self = rest;
        }
    }

    /// Appends the rows of `other`, which is of the same kind, from its row `from` on.
    fn extend(&mut self, other: &Self, from: usize) {
        let from = from.min(other.len());
        let originals = other.originals.len() - other.originals_in(from..other.len());
        self.decoded.extend(&other.decoded, from - originals..other.decoded.len());
        self.offset.extend_from_slice(other.offset.get(from..).unwrap_or_default());
        self.row.extend_from_slice(other.row.get(from..).unwrap_or_default());
        for original in other.originals.get(originals..).unwrap_or_default() {
            self.original_bytes += original.bytes();
            self.originals.push(original.clone());
        }
    }

    fn originals_in(&self, rows: Range<usize>) -> usize {
        self.row.get(rows).unwrap_or_default().iter().filter(|row| **row == Self::ORIGINAL).count()
    }
}

/// A record that rows came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its position.
    pub offset: i64,
    /// CRC-32C over its timestamp, key and value, each of these with its length or its absence.
    pub crc32c: u32,
    /// Its first row.
    first_row: usize,
}

impl Mark {
    /// The mark of a record, without rows.
    pub fn of(record: &Record<'_>) -> Self {
        let crc = crc32c::crc32c(&record.timestamp_ms.unwrap_or(-1).to_le_bytes());
        let crc32c = [record.key, record.payload].into_iter().fold(crc, |crc, bytes| {
            let length = bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX));
            crc32c::crc32c_append(crc32c::crc32c_append(crc, &length.to_le_bytes()), bytes.unwrap_or_default())
        });
        Self { offset: record.offset, crc32c, first_row: 0 }
    }
}

/// What the archive's decoder writes and its sink takes: every record has at least one row, a kept record if nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct ArchiveColumns {
    /// The rows.
    pub rows: ArchiveRows,
    marks: Vec<Mark>,
}

impl ArchiveColumns {
    /// No rows of a kind.
    pub fn new(kind: Kind) -> Self {
        Self { rows: ArchiveRows::new(kind), marks: Vec::new() }
    }

    /// Begins a record: the rows that follow are its own.
    pub fn begin(&mut self, record: &Record<'_>) {
        self.marks.push(Mark { first_row: self.rows.len(), ..Mark::of(record) });
    }

    /// The records, in order of offset.
    pub fn marks(&self) -> &[Mark] {
        &self.marks
    }

    /// Appends the records of `other`, which is of the same kind, from offset `from` on.
    pub fn extend(&mut self, other: &Self, from: i64) {
        let first = other.marks.partition_point(|mark| mark.offset < from);
        let Some(marks) = other.marks.get(first..).filter(|marks| !marks.is_empty()) else { return };
        let first_row = marks.first().map_or(0, |mark| mark.first_row);
        let here = self.rows.len();
        self.rows.extend(&other.rows, first_row);
        self.marks.extend(marks.iter().map(|mark| Mark { first_row: here + (mark.first_row - first_row), ..*mark }));
    }
}

impl Columns for ArchiveColumns {
    fn rows(&self) -> usize {
        self.rows.len()
    }

    fn truncate(&mut self, rows: usize) {
        self.rows.truncate(rows);
        let marks = self.marks.partition_point(|mark| mark.first_row < rows);
        self.marks.truncate(marks);
    }

    fn bytes(&self) -> usize {
        self.rows.bytes() + self.marks.len() * MARK_BYTES
    }
}
