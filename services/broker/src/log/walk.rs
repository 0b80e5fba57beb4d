//! Going through the batches of a segment's file.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use super::{
    BatchHeader, HEADER_BYTES, LogError,
    batch::{ATTRIBUTES_AT, magic},
};

/// What one read of a walk over headers takes in: about one index interval.
const WALK_WINDOW_BYTES: usize = 16 << 10;
/// What one read of a scan with checksums takes in.
const SCAN_WINDOW_BYTES: usize = 256 << 10;

/// Reads the headers of the batches in `position..limit` one by one; both are batch boundaries.
#[derive(Debug)]
pub(super) struct Walk<'f> {
    window: Window<'f>,
    path: &'f Path,
    position: u64,
    limit: u64,
}

impl<'f> Walk<'f> {
    pub(super) fn new(file: &'f File, path: &'f Path, position: u64, limit: u64) -> Walk<'f> {
        Walk { window: Window::new(file, WALK_WINDOW_BYTES), path, position, limit }
    }

    /// The next batch: where it starts, and its header. `None` at the limit.
    pub(super) fn next(&mut self) -> Result<Option<(u64, BatchHeader)>, LogError> {
        if self.position >= self.limit {
            return Ok(None);
        }
        let position = self.position;
        let header = self.window.header(position, self.limit).map_err(LogError::io("read", self.path))?;
        let header = header.ok_or_else(|| LogError::Corrupt {
            path: self.path.to_owned(),
            position,
            what: "there is no whole record batch".to_owned(),
        })?;
        self.position += header.batch_bytes as u64;
        Ok(Some((position, header)))
    }
}

/// A window over a file, moved as needed, so that small steps do not cost a system call each.
#[derive(Debug)]
pub(super) struct Window<'f> {
    file: &'f File,
    buffer: Vec<u8>,
    at: u64,
    size: usize,
}

impl<'f> Window<'f> {
    fn new(file: &'f File, size: usize) -> Window<'f> {
        Window { file, buffer: Vec::new(), at: 0, size }
    }

    /// A window for reading everything, checksums included.
    pub(super) fn for_scan(file: &'f File) -> Window<'f> {
        Window::new(file, SCAN_WINDOW_BYTES)
    }

    /// At most `length` bytes from `position` on, fewer at the limit and never more than the window.
    pub(super) fn bytes(&mut self, position: u64, length: u64, limit: u64) -> io::Result<&[u8]> {
        let length = usize::try_from(length.min(limit.saturating_sub(position))).unwrap_or(usize::MAX).min(self.size);
        let held = position.checked_sub(self.at).and_then(|from| usize::try_from(from).ok());
        let from = match held.filter(|from| from.saturating_add(length) <= self.buffer.len()) {
            Some(from) => from,
            None => {
                let room = usize::try_from(limit.saturating_sub(position)).unwrap_or(usize::MAX).min(self.size);
                self.buffer.resize(room, 0);
                self.at = position;
                if let Err(error) = self.file.read_exact_at(&mut self.buffer, position) {
                    self.buffer.clear();
                    return Err(error);
                }
                0
            }
        };
        Ok(self.buffer.get(from..from + length).unwrap_or_default())
    }

    /// The header of the batch at `position`; `None` if there is no whole v2 batch before `limit`.
    fn header(&mut self, position: u64, limit: u64) -> io::Result<Option<BatchHeader>> {
        let bytes = self.bytes(position, HEADER_BYTES as u64, limit)?;
        if magic(bytes) != Some(2) {
            return Ok(None);
        }
        Ok(BatchHeader::parse(bytes).filter(|header| header.batch_bytes as u64 <= limit - position))
    }

    /// The header of the batch at `position`, if it is whole and matches its checksum.
    pub(super) fn checked(&mut self, position: u64, limit: u64) -> io::Result<Option<BatchHeader>> {
        let Some(header) = self.header(position, limit)? else { return Ok(None) };
        let end = position + header.batch_bytes as u64;
        let mut at = position + ATTRIBUTES_AT as u64;
        let mut crc = 0;
        while at < end {
            let chunk = self.bytes(at, end - at, limit)?;
            if chunk.is_empty() {
                return Ok(None);
            }
            crc = crc32c::crc32c_append(crc, chunk);
            at += chunk.len() as u64;
        }
        Ok((crc == header.crc && header.last_offset_delta >= 0).then_some(header))
    }
}
