//! The files of a recording, merged by time.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use mantis_schemas::{Quality, SampleFormat};

use crate::{
    Error, Format, Mapping, Totals,
    batch::Output,
    progress::Hash,
    raw::Raw,
    source::{self, Source, broken_off},
    table::Table,
    times::steps_ns,
};

/// Readings of one message at most: below the message limit of 1 MiB in JSON, too.
pub(crate) const BATCH_MAX: usize = 16_384;
/// Files open at once; where more overlap in time, the later ones begin when an earlier one has ended.
const OPEN_FILES_MAX: usize = 128;
const DAY_NS: i64 = 86_400_000_000_000;

/// What one message carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Readings of one sensor, in the order of the file.
    Readings {
        /// The asset.
        asset: Arc<str>,
        /// The sensor's name within the asset.
        sensor: Arc<str>,
        /// Source times, ns since the epoch, UTC; at least one.
        times_ns: Vec<i64>,
        /// As many values.
        values: Vec<f64>,
        /// As many qualities, or none: all good.
        qualities: Vec<Quality>,
        /// The file's line of the first reading, from 1.
        line: u64,
    },
    /// A piece of a waveform.
    Frame {
        /// The asset.
        asset: Arc<str>,
        /// The sensor's name within the asset.
        sensor: Arc<str>,
        /// Source time of the first sample, ns since the epoch, UTC.
        start_ns: i64,
        /// Samples per second.
        sample_rate_hz: f64,
        /// Format of the samples.
        format: SampleFormat,
        /// Factor of I16 samples; 1 for the other formats.
        scale: f64,
        /// Little-endian finite samples, at least one.
        samples: Vec<u8>,
        /// Quality of all of them.
        quality: Quality,
        /// The file's line of the first sample, from 1; of raw files the sample's number, from 0.
        line: u64,
    },
}

impl Piece {
    /// When a gateway would have sent it: the time of its last reading, or the end of its frame.
    pub fn due_ns(&self) -> i64 {
        match self {
            Self::Readings { times_ns, .. } => times_ns.last().copied().unwrap_or(0),
            Self::Frame { start_ns, sample_rate_hz, format, samples, .. } => {
                let length = steps_ns((samples.len() / format.width()) as u64, *sample_rate_hz);
                start_ns.saturating_add(i64::try_from(length).unwrap_or(i64::MAX))
            }
        }
    }

    /// Time of its first reading or sample.
    pub fn first_ns(&self) -> i64 {
        match self {
            Self::Readings { times_ns, .. } => times_ns.first().copied().unwrap_or(0),
            Self::Frame { start_ns, .. } => *start_ns,
        }
    }

    /// The file's line, or number of the sample, that it begins with.
    pub fn line(&self) -> u64 {
        match self {
            Self::Readings { line, .. } | Self::Frame { line, .. } => *line,
        }
    }
}

/// A recording: files that are read a bounded piece at a time, merged by time.
///
/// The pieces and their order depend on the files, the mapping, the batch size and the format alone: a replay that
/// was interrupted goes on by counting them.
pub struct Recording {
    files: Vec<Planned>,
    opened: usize,
    /// Files with a piece at hand, the earliest first.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
    open: Vec<Option<Open>>,
    totals: Totals,
    bytes: u64,
    bytes_read: Arc<AtomicU64>,
    pub(crate) batch: usize,
    pub(crate) format: Format,
    /// What names this replay: the mapping and the paths.
    pub(crate) name: u64,
    /// What it replays: the mapping's text and the files' contents.
    pub(crate) parts: Vec<(String, u64)>,
}

struct Planned {
    source: Source,
    mapping: Arc<Mapping>,
    first_ns: i64,
    days: i64,
}

struct Open {
    reader: Reader,
    output: Output,
    ended: bool,
}

enum Reader {
    Table(Box<Table>),
    Raw(Box<Raw>),
    Empty,
    /// It cannot be read from its start on.
    Broken(String),
}

impl Recording {
    /// Finds the files of `paths` (files, or folders with files that fit the mapping's `files`), checks that the mapping
    /// fits each of them, and finds their first times. `batch` readings go into a message, 1 to 16,384.
    ///
    /// # Errors
    /// A file cannot be read, the mapping does not fit it, or there is none.
    pub fn open(mapping: Mapping, paths: &[PathBuf], batch: usize, format: Format) -> Result<Self, Error> {
        let sources = source::find(paths, &mapping.files)?;
        let mut name = Hash::default();
        name.add(mapping.origin.as_bytes());
        for path in paths {
            name.add(path.canonicalize().map_err(Error::io(path))?.as_os_str().as_encoded_bytes());
        }
        Self::of(vec![(mapping, sources)], name.0, batch, format)
    }

    pub(crate) fn of(parts: Vec<(Mapping, Vec<Source>)>, name: u64, batch: usize, format: Format) -> Result<Self, Error> {
        if !(1..=BATCH_MAX).contains(&batch) {
            return Err(Error::Mapping(format!("a message cannot hold {batch} readings: give 1 to {BATCH_MAX}")));
        }
        let mut recording = Self {
            files: Vec::new(),
            opened: 0,
            heads: BinaryHeap::new(),
            open: Vec::new(),
            totals: Totals::default(),
            bytes: 0,
            bytes_read: Arc::default(),
            batch,
            format,
            name,
            parts: Vec::new(),
        };
        for (mapping, sources) in parts {
            mapping.check_format(format)?;
            if mapping.long.is_some() {
                recording.totals.absent_sensors.extend(mapping.sensors.keys().filter(|name| *name != "*").cloned());
            }
            recording.parts.push((format!("the mapping {}", mapping.origin), mapping.hash));
            recording.plan(&Arc::new(mapping), sources)?;
        }
        recording.files.sort_by_key(|file| file.first_ns);
        Ok(recording)
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// A file cannot be read any further.
    pub fn next_piece(&mut self) -> Result<Option<(Arc<str>, Piece)>, Error> {
        while let Some(file) = self.files.get(self.opened) {
            let due = self.heads.peek().is_none_or(|Reverse((head, _))| file.first_ns <= *head);
            if !due || self.heads.len() >= OPEN_FILES_MAX {
                break;
            }
            let reader = open(file, self.bytes_read.clone())?;
            let output = Output::new(file.source.label.clone(), self.batch, self.format == Format::Json);
            self.open.push(Some(Open { reader, output, ended: false }));
            self.opened += 1;
            self.advance(self.opened - 1)?;
        }
        let Some(Reverse((_, number))) = self.heads.pop() else { return Ok(None) };
        let piece = self.open.get_mut(number).and_then(Option::as_mut).and_then(|open| open.output.pieces.pop_front());
        self.advance(number)?;
        let label = self.files.get(number).map(|file| file.source.label.clone());
        Ok(label.zip(piece))
    }

    /// What was read so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Number of files.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes read of all files.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// Checks the files and finds out when each begins.
    fn plan(&mut self, mapping: &Arc<Mapping>, sources: Vec<Source>) -> Result<(), Error> {
        let rolls_over = mapping.time.day_rolls_over;
        let mut before: Option<(PathBuf, i64, i64)> = None;
        for source in sources {
            let (bytes, hash) = Hash::of_file(&source)?;
            self.bytes += bytes;
            self.parts.push((source.label.to_string(), hash));
            let folder = source.path().parent().map(PathBuf::from).unwrap_or_default();
            let previous =
                before.as_ref().filter(|(of, ..)| rolls_over && *of == folder).map(|(_, first_ns, days)| (*first_ns, *days));
            let mut file = Planned { source, mapping: mapping.clone(), first_ns: 0, days: previous.map_or(0, |(_, days)| days) };
            file.first_ns = first_ns(&file)?;
            if previous.is_some_and(|(before_ns, _)| file.first_ns < before_ns.saturating_sub(DAY_NS / 2)) {
                file.days += 1;
                file.first_ns = file.first_ns.saturating_add(DAY_NS);
            }
            // A file without any reading comes last: it is read for its account only, and says nothing of the day.
            if file.first_ns != i64::MAX {
                before = Some((folder, file.first_ns, file.days));
            }
            self.files.push(file);
        }
        Ok(())
    }

    /// Reads a file on until a piece is at hand, or its end.
    fn advance(&mut self, number: usize) -> Result<(), Error> {
        let Some(slot) = self.open.get_mut(number) else { return Ok(()) };
        let Some(open) = slot else { return Ok(()) };
        while open.output.pieces.is_empty() && !open.ended {
            open.ended = !open.reader.next(&mut open.output, &mut self.totals)?;
        }
        match open.output.pieces.front() {
            Some(piece) => self.heads.push(Reverse((piece.due_ns(), number))),
            None => {
                *slot = None;
                self.totals.files += 1;
            }
        }
        Ok(())
    }
}

impl Reader {
    fn next(&mut self, output: &mut Output, totals: &mut Totals) -> Result<bool, Error> {
        match self {
            Self::Table(table) => table.next(output, totals),
            Self::Raw(raw) => raw.next(output, totals),
            Self::Empty => Ok(false),
            Self::Broken(what) => {
                output.refuse(totals, 1, std::mem::take(what));
                Ok(false)
            }
        }
    }
}

fn open(file: &Planned, read: Arc<AtomicU64>) -> Result<Reader, Error> {
    match open_whole(file, read) {
        Err(Error::Io { path, error }) => broken_off(error).map(Reader::Broken).map_err(Error::io(path)),
        opened => opened,
    }
}

fn open_whole(file: &Planned, read: Arc<AtomicU64>) -> Result<Reader, Error> {
    let reader = file.source.open(read)?;
    match (&file.mapping.raw, &file.mapping.frames) {
        (Some(raw), Some(frames)) => {
            Raw::open(reader, &file.source, &file.mapping, (raw, frames)).map(|raw| Reader::Raw(Box::new(raw)))
        }
        _ => Ok(match Table::open(reader, &file.source, &file.mapping, file.days)? {
            Some(table) => Reader::Table(Box::new(table)),
            None => Reader::Empty,
        }),
    }
}

/// Time of the file's first reading; the last of all times where it has none.
fn first_ns(file: &Planned) -> Result<i64, Error> {
    let mut reader = open(file, Arc::default())?;
    let mut output = Output::new(file.source.label.clone(), 1, false);
    let mut totals = Totals::default();
    while output.pieces.is_empty() && reader.next(&mut output, &mut totals)? {}
    Ok(output.pieces.front().map_or(i64::MAX, Piece::first_ns))
}
