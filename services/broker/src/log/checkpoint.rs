//! Small files that are replaced whole: magic, CRC-32C of the payload, payload. A reader never sees a half-written one.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use super::LogError;

/// Far above the largest checkpoint (the index of a 1 GiB segment takes about 1 MiB).
const CHECKPOINT_BYTES_MAX: u64 = 64 << 20;
/// Suffix of files that are being written; whatever carries it is removed when the log is opened.
pub(super) const TEMPORARY: &str = "tmp";

/// How much a checkpoint matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Importance {
    /// It must be there after a power cut: synced before and after the rename.
    Durable,
    /// It can be rebuilt from the log: a power cut may lose it, its CRC says so.
    Rebuildable,
}

/// Replaces the checkpoint at `path`.
pub(super) fn write(path: &Path, magic: [u8; 8], payload: &[u8], importance: Importance) -> Result<(), LogError> {
    let temporary = path.with_extension(TEMPORARY);
    let replace = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(&magic)?;
        file.write_all(&crc32c::crc32c(payload).to_le_bytes())?;
        file.write_all(payload)?;
        if importance == Importance::Durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)
    };
    replace().map_err(LogError::io("write", path))?;
    match (importance, path.parent()) {
        (Importance::Durable, Some(dir)) => sync_dir(dir),
        _ => Ok(()),
    }
}

/// The payload of the checkpoint at `path`; `None` if there is none, `Corrupt` if it is not as it was written.
pub(super) fn read(path: &Path, magic: [u8; 8]) -> Result<Option<Vec<u8>>, LogError> {
    let corrupt = |what: &str| LogError::Corrupt { path: path.to_owned(), position: 0, what: what.to_owned() };
    let bytes = match fs::metadata(path) {
        Ok(metadata) if metadata.len() > CHECKPOINT_BYTES_MAX => return Err(corrupt("the checkpoint is too large to be one")),
        Ok(_) => fs::read(path).map_err(LogError::io("read", path))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LogError::io("read", path)(error)),
    };
    let payload = bytes.get(12..).ok_or_else(|| corrupt("the checkpoint is cut off"))?;
    let mut head = Fields(&bytes);
    if head.take::<8>() != Some(magic) {
        return Err(corrupt("it is not a checkpoint of this kind"));
    }
    if head.take().map(u32::from_le_bytes) != Some(crc32c::crc32c(payload)) {
        return Err(corrupt("the checkpoint's checksum does not match"));
    }
    Ok(Some(payload.to_vec()))
}

/// Makes creations, renames and deletions in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), LogError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(LogError::io("sync folder", dir))
}

/// Reads fixed-width little-endian fields from the front of a payload.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
}
