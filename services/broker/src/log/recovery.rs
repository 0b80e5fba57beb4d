//! What happens when a log is opened: which bytes are kept, which are cut, and when it refuses.
//!
//! - A segment that was rolled or closed was synced first, and its index says so. Such bytes are not read again.
//! - What was appended after that (only the last segment can have such a tail) is read with its checksums. At the first batch
//!   that is not whole and good there are three cases:
//!   1. Nothing valid follows: a torn tail. A batch is acknowledged only when everything before it is synced too, so the
//!      tail was never acknowledged. It is cut, with a warning.
//!   2. Valid batches follow, and in the damaged span there is a whole page of zeros: after a power cut a page that was never
//!      written reads as zeros while later pages may have reached the disk. No sync had returned for it, so nothing behind
//!      it was acknowledged either. It is cut, but the bytes are kept in a file beside it, because they hold records.
//!   3. Valid batches follow and the span is not empty: something changed bytes that were written. Cutting there would drop
//!      records that may have been acknowledged, so the partition does not open; a person decides.
//! - Damage below the recovery point, a segment that is shorter than it was, and a missing segment are always errors.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use super::{
    LogError, Recovery, checkpoint,
    checkpoint::{Fields, Importance},
    segment::{Segment, SegmentFile, index_path, log_path},
    walk::Window,
};

/// Unit in which a file system writes, and in which unwritten bytes read as zeros.
const PAGE_BYTES: u64 = 4096;
/// Most bytes whose checksums are tried in search of a valid batch behind a damaged one; beyond it damage is assumed.
const SEARCH_BYTES_MAX: u64 = 8 << 30;

const START: &str = "log-start.checkpoint";
const START_MAGIC: [u8; 8] = *b"MANTSTA1";
/// A cleaned segment that is being written.
pub(super) const CLEANED: &str = "cleaned";
/// A cleaned segment that is complete and takes the place of those whose offsets it names.
pub(super) const SWAP: &str = "swap";
/// The index that belongs to a swap.
pub(super) const SWAP_INDEX: &str = "swapindex";
const CUT: &str = "cut";

/// What recovery found.
#[derive(Debug)]
pub(super) struct Recovered {
    /// At least one; the last is the active one.
    pub(super) segments: Vec<Segment>,
    pub(super) start_offset: i64,
    pub(super) active: SegmentFile,
    pub(super) report: Recovery,
}

/// Brings the files in `dir` into a state in which everything is whole and durable, or says why not.
pub(super) fn recover(dir: &Path, now_ms: i64) -> Result<Recovered, LogError> {
    create_dir(dir)?;
    finish_swaps(dir)?;
    for (path, extension) in files(dir)? {
        if [CLEANED, SWAP_INDEX, checkpoint::TEMPORARY].contains(&extension.as_str()) {
            remove(&path)?;
        }
    }
    let (start_offset, is_new) = match load_start(dir)? {
        Some(start) => (start, false),
        None => (0, true),
    };
    let bases = remove_below(dir, segment_bases(dir)?, start_offset)?;
    let Some((&last, sealed)) = bases.split_last() else {
        if !is_new {
            return Err(LogError::MissingSegment { dir: dir.to_owned(), from: start_offset, to: start_offset });
        }
        let active = create_segment(dir, start_offset)?;
        let segments = vec![Segment::new(start_offset, now_ms)];
        return Ok(Recovered { segments, start_offset, active, report: Recovery::default() });
    };
    let missing = |from, to| LogError::MissingSegment { dir: dir.to_owned(), from, to };
    let mut report = Recovery::default();
    let mut segments: Vec<Segment> = Vec::with_capacity(bases.len());
    for (&base, &next) in sealed.iter().zip(bases.iter().skip(1)) {
        segments.push(open_sealed(dir, base, next, now_ms, &mut report)?);
    }
    let (active_segment, active) = open_active(dir, last, now_ms, &mut report)?;
    segments.push(active_segment);
    match segments.first() {
        Some(first) if first.base_offset > start_offset => return Err(missing(start_offset, first.base_offset)),
        _ => {}
    }
    for (segment, next) in segments.iter().zip(segments.iter().skip(1)) {
        if segment.next_offset != next.base_offset {
            return Err(missing(segment.next_offset, next.base_offset));
        }
    }
    Ok(Recovered { segments, start_offset, active, report })
}

/// Makes a new, empty segment file that survives a power cut.
pub(super) fn create_segment(dir: &Path, base_offset: i64) -> Result<SegmentFile, LogError> {
    let path = log_path(dir, base_offset);
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).map_err(LogError::io("create", &path))?;
    if let Err(error) = checkpoint::sync_dir(dir) {
        // Left behind, it would be in the way of the next try.
        remove(&path)?;
        return Err(error);
    }
    Ok(SegmentFile::new(path, file))
}

/// Notes durably where the log starts; only then may segments below it be removed.
pub(super) fn save_start(dir: &Path, start_offset: i64) -> Result<(), LogError> {
    checkpoint::write(&dir.join(START), START_MAGIC, &start_offset.to_le_bytes(), Importance::Durable)
}

fn load_start(dir: &Path) -> Result<Option<i64>, LogError> {
    let path = dir.join(START);
    let Some(payload) = checkpoint::read(&path, START_MAGIC)? else { return Ok(None) };
    let start = Fields(&payload).i64().filter(|&start| start >= 0);
    start.map(Some).ok_or_else(|| LogError::Corrupt { path, position: 12, what: "there is no offset in it".to_owned() })
}

/// Puts the cleaned segments in the place of those they were made from; each step may be repeated after a crash.
pub(super) fn finish_swaps(dir: &Path) -> Result<(), LogError> {
    let mut changed = false;
    for (path, extension) in files(dir)? {
        let Some((base, next)) = swap_range(&path).filter(|_| extension == SWAP) else { continue };
        for inner in segment_bases(dir)?.into_iter().filter(|inner| (base + 1..next).contains(inner)) {
            remove(&log_path(dir, inner))?;
            remove(&index_path(dir, inner))?;
        }
        // No old index may meet the new batches; without one they are read again.
        let index = path.with_extension(SWAP_INDEX);
        if index.exists() {
            rename(&index, &index_path(dir, base))?;
        } else {
            remove(&index_path(dir, base))?;
        }
        checkpoint::sync_dir(dir)?;
        rename(&path, &log_path(dir, base))?;
        changed = true;
    }
    if changed { checkpoint::sync_dir(dir) } else { Ok(()) }
}

/// Where a swap for `base..next` is kept.
pub(super) fn swap_path(dir: &Path, base: i64, next: i64, extension: &str) -> PathBuf {
    dir.join(format!("{base:020}-{next:020}.{extension}"))
}

fn swap_range(path: &Path) -> Option<(i64, i64)> {
    let (base, next) = path.file_stem()?.to_str()?.split_once('-')?;
    Some((base.parse().ok()?, next.parse().ok()?))
}

/// Removes segments that lie wholly below the log's start: a crash came between moving the start and removing them.
fn remove_below(dir: &Path, bases: BTreeSet<i64>, start_offset: i64) -> Result<Vec<i64>, LogError> {
    let mut kept: Vec<i64> = bases.into_iter().collect();
    while kept.get(1).is_some_and(|&next| next <= start_offset) {
        let base = kept.remove(0);
        remove(&log_path(dir, base))?;
        remove(&index_path(dir, base))?;
    }
    Ok(kept)
}

fn open_sealed(dir: &Path, base: i64, next: i64, now_ms: i64, report: &mut Recovery) -> Result<Segment, LogError> {
    let path = log_path(dir, base);
    let file = File::open(&path).map_err(LogError::io("open", &path))?;
    let length = file.metadata().map_err(LogError::io("read", &path))?.len();
    if let Some(segment) = Segment::load(dir, base) {
        if segment.bytes == length {
            return Ok(segment);
        }
        return Err(corrupt(&path, segment.bytes.min(length), format!("it is {length} bytes long, not {}", segment.bytes)));
    }
    let mut segment = Segment::new(base, now_ms);
    if let Some(position) = scan(&file, &path, &mut segment, length, Gaps::Allowed)? {
        return Err(corrupt(&path, position, "a record batch is damaged, and later segments follow".to_owned()));
    }
    report.scanned_bytes += length;
    if segment.next_offset > next {
        return Err(corrupt(&path, length, format!("it reaches into the next segment, which starts at offset {next}")));
    }
    // Compaction may have removed the last records; the name of the next file says where the segment ended.
    segment.next_offset = next;
    segment.is_sealed = true;
    segment.save(dir)?;
    Ok(segment)
}

fn open_active(dir: &Path, base: i64, now_ms: i64, report: &mut Recovery) -> Result<(Segment, SegmentFile), LogError> {
    let path = log_path(dir, base);
    let file = OpenOptions::new().read(true).write(true).open(&path).map_err(LogError::io("open", &path))?;
    let length = file.metadata().map_err(LogError::io("read", &path))?.len();
    let mut segment = Segment::load(dir, base).unwrap_or_else(|| Segment::new(base, now_ms));
    if segment.is_sealed {
        let end = segment.next_offset;
        return Err(LogError::MissingSegment { dir: dir.to_owned(), from: end, to: end });
    }
    if segment.bytes > length {
        return Err(corrupt(
            &path,
            length,
            format!("it was {} bytes long when it was closed: durable bytes are gone", segment.bytes),
        ));
    }
    report.scanned_bytes += length - segment.bytes;
    if let Some(position) = scan(&file, &path, &mut segment, length, Gaps::Refused)? {
        cut_tail(&file, &path, position, length, segment.next_offset)?;
        report.cut_bytes += length - position;
    }
    let active = SegmentFile::new(path, file);
    if report.scanned_bytes > 0 {
        active.sync()?;
    }
    Ok((segment, active))
}

/// Whether offsets may be missing between batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gaps {
    /// Compaction leaves them.
    Allowed,
    /// The active segment has none; the checksum does not cover the base offset, so this is what guards it.
    Refused,
}

/// Reads batches with their checksums from the end of what `segment` knows on; returns where the first bad one starts.
fn scan(file: &File, path: &Path, segment: &mut Segment, length: u64, gaps: Gaps) -> Result<Option<u64>, LogError> {
    let mut window = Window::for_scan(file);
    while segment.bytes < length {
        let header = window.checked(segment.bytes, length).map_err(LogError::io("read", path))?;
        match header {
            Some(header)
                if header.base_offset == segment.next_offset
                    || (gaps == Gaps::Allowed && header.base_offset > segment.next_offset) =>
            {
                segment.push(&header);
            }
            _ => return Ok(Some(segment.bytes)),
        }
    }
    Ok(None)
}

fn cut_tail(file: &File, path: &Path, position: u64, length: u64, next_offset: i64) -> Result<(), LogError> {
    let cut_bytes = length - position;
    match find_valid(file, position + 1, length, next_offset).map_err(LogError::io("read", path))? {
        None => tracing::warn!(path = %path.display(), position, cut_bytes, "cut a torn tail"),
        Some(valid) if has_zero_page(file, position, valid).map_err(LogError::io("read", path))? => {
            let kept = path.with_extension(CUT);
            keep(file, position, length, &kept).map_err(LogError::io("write", &kept))?;
            tracing::warn!(path = %path.display(), position, cut_bytes, kept = %kept.display(),
                "cut a tail behind a page that never reached the disk; it was never acknowledged, its bytes are kept");
        }
        Some(valid) => {
            return Err(corrupt(path, position, format!("a record batch is damaged, but a good one follows at byte {valid}")));
        }
    }
    file.set_len(position).and_then(|()| file.sync_all()).map_err(LogError::io("cut", path))
}

/// Where the first valid batch at or behind `from` starts, whatever lies between.
fn find_valid(file: &File, from: u64, length: u64, next_offset: i64) -> io::Result<Option<u64>> {
    let mut window = Window::for_scan(file);
    let mut candidates = Window::for_scan(file);
    let mut searched = 0;
    let mut at = from;
    while at < length {
        let chunk = window.bytes(at, u64::MAX, length)?;
        if chunk.len() < super::HEADER_BYTES {
            return Ok(None);
        }
        let step = chunk.len() - super::HEADER_BYTES + 1;
        for (index, head) in chunk.windows(super::HEADER_BYTES).enumerate() {
            if head.get(16) != Some(&2) {
                continue;
            }
            let position = at + index as u64;
            let plausible = super::BatchHeader::parse(head).filter(|header| {
                (next_offset..next_offset.saturating_add(i64::from(i32::MAX))).contains(&header.base_offset)
                    && header.batch_bytes as u64 <= length - position
            });
            let Some(header) = plausible else { continue };
            searched += header.batch_bytes as u64;
            if searched > SEARCH_BYTES_MAX || candidates.checked(position, length)?.is_some() {
                return Ok(Some(position));
            }
        }
        at += step as u64;
    }
    Ok(None)
}

fn has_zero_page(file: &File, from: u64, to: u64) -> io::Result<bool> {
    let mut window = Window::for_scan(file);
    let mut page = from.next_multiple_of(PAGE_BYTES);
    while page + PAGE_BYTES <= to {
        if window.bytes(page, PAGE_BYTES, to)?.iter().all(|&byte| byte == 0) {
            return Ok(true);
        }
        page += PAGE_BYTES;
    }
    Ok(false)
}

fn keep(file: &File, from: u64, to: u64, kept: &Path) -> io::Result<()> {
    let mut target = File::create(kept)?;
    let mut window = Window::for_scan(file);
    let mut at = from;
    while at < to {
        let chunk = window.bytes(at, to - at, to)?;
        io::Write::write_all(&mut target, chunk)?;
        at += chunk.len() as u64;
    }
    target.sync_all()
}

/// Makes the folder and those above it, each durably.
fn create_dir(dir: &Path) -> Result<(), LogError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dir(parent)?;
    fs::create_dir(dir).map_err(LogError::io("create", dir))?;
    checkpoint::sync_dir(parent)
}

fn segment_bases(dir: &Path) -> Result<BTreeSet<i64>, LogError> {
    let logs = files(dir)?.into_iter().filter(|(_, extension)| extension == "log");
    Ok(logs.filter_map(|(path, _)| path.file_stem()?.to_str()?.parse().ok()).collect())
}

fn files(dir: &Path) -> Result<Vec<(PathBuf, String)>, LogError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).map_err(LogError::io("list", dir))? {
        let path = entry.map_err(LogError::io("list", dir))?.path();
        if let Some(extension) = path.extension().and_then(OsStr::to_str).map(str::to_owned) {
            files.push((path, extension));
        }
    }
    Ok(files)
}

/// Removes a file that may be gone already.
pub(super) fn remove(path: &Path) -> Result<(), LogError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(LogError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Renames; durable after the folder is synced.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), LogError> {
    fs::rename(from, to).map_err(LogError::io("rename", from))
}

fn corrupt(path: &Path, position: u64, what: String) -> LogError {
    LogError::Corrupt { path: path.to_owned(), position, what }
}
