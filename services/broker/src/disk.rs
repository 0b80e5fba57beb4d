//! What the broker asks of the file system: ownership of a folder, replacing a file in one step, room that is left.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::Path,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
};

use crate::{Error, broker::now_ms};

/// Time for which an answer of the file system about its room is believed.
const FREE_CHECK_INTERVAL_MS: i64 = 1_000;

/// Takes the folder `dir` for this process; it is free again when the file is closed, even by kill -9.
pub(crate) fn own(dir: &Path) -> Result<File, Error> {
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let path = dir.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { dir: dir.into() }),
        Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
    }
}

/// Replaces `path` by `bytes`: after a crash it is the old file or the new one, whole.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", &temporary))?;
    rename(&temporary, path)
}

/// Renames durably.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(Error::io("rename", from))?;
    sync_parent(to)
}

/// Makes what happened to the entry `path` durable in its folder.
pub(crate) fn sync_parent(path: &Path) -> Result<(), Error> {
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", dir))
}

/// Whether the disk has room for more records.
#[derive(Debug)]
pub struct Room {
    dir: std::path::PathBuf,
    free_bytes_min: u64,
    checked_ms: AtomicI64,
    full: AtomicBool,
}

impl Room {
    pub(crate) fn new(dir: &Path, free_bytes_min: u64) -> Room {
        Room { dir: dir.into(), free_bytes_min, checked_ms: AtomicI64::new(i64::MIN), full: AtomicBool::new(false) }
    }

    /// Why records are refused for now, if they are.
    pub fn refusal(&self) -> Option<String> {
        let (dir, min) = (self.dir.display(), self.free_bytes_min);
        let text = || {
            format!(
                "the broker takes no records: the disk of {dir} has less than {min} bytes free; free space, or lower broker.min_free_bytes"
            )
        };
        self.is_full(now_ms()).then(text)
    }

    /// Whether less than the least room is left; asks the file system at most once per second.
    pub(crate) fn is_full(&self, now_ms: i64) -> bool {
        let checked_ms = self.checked_ms.load(Ordering::Relaxed);
        if now_ms.saturating_sub(checked_ms).unsigned_abs() >= FREE_CHECK_INTERVAL_MS.unsigned_abs() {
            self.checked_ms.store(now_ms, Ordering::Relaxed);
            match free_bytes(&self.dir) {
                Ok(free_bytes) => {
                    let full = free_bytes < self.free_bytes_min;
                    if full != self.full.swap(full, Ordering::Relaxed) {
                        let (dir, min) = (self.dir.display(), self.free_bytes_min);
                        if full {
                            tracing::error!(%dir, free_bytes, min_free_bytes = min, "disk is nearly full: produce is refused until there is room");
                        } else {
                            tracing::info!(%dir, free_bytes, "disk has room again: produce is accepted");
                        }
                    }
                }
                Err(error) => tracing::warn!(dir = %self.dir.display(), %error, "cannot ask for the free space of the disk"),
            }
        }
        self.full.load(Ordering::Relaxed)
    }
}

fn free_bytes(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
