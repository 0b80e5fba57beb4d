//! How far a replay came, kept in a file.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Recording,
    source::{Source, broken_off},
};

/// Bytes at the start of a file by which it is recognised.
const HEAD_BYTES: u64 = 64 << 10;

/// The progress of one replay: of a mapping, paths, batch size, format and target.
#[derive(Debug)]
pub(crate) struct Kept {
    path: PathBuf,
    state: State,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct State {
    /// Messages acknowledged from the start on, without a gap.
    messages: u64,
    /// What is replayed, by hash.
    parts: Vec<(String, u64)>,
}

impl Kept {
    /// The progress of this replay in `folder`; none yet, or with `restart`, it begins at the start.
    pub(crate) fn open(folder: &Path, recording: &Recording, target: &str, restart: bool) -> Result<Self, Error> {
        let mut name = Hash::default();
        name.add(&recording.name.to_le_bytes());
        name.add(&(recording.batch as u64).to_le_bytes());
        name.add(&[recording.format as u8]);
        name.add(target.as_bytes());
        fs::create_dir_all(folder).map_err(Error::io(folder))?;
        let path = folder.join(format!("{:016x}.json", name.0));
        let fresh = State { messages: 0, parts: recording.parts.clone() };
        if restart {
            return Ok(Self { path, state: fresh });
        }
        let state: State = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Error::io(&path)(std::io::Error::new(ErrorKind::InvalidData, format!("{error}; replay with --restart")))
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self { path, state: fresh }),
            Err(error) => return Err(Error::io(&path)(error)),
        };
        if state.parts != fresh.parts {
            let changed = fresh.parts.iter().find(|part| !state.parts.contains(part)).or(state.parts.last());
            return Err(Error::Changed { progress: path, what: changed.map(|(name, _)| name.clone()).unwrap_or_default() });
        }
        Ok(Self { path, state })
    }

    /// Messages acknowledged so far.
    pub(crate) fn messages(&self) -> u64 {
        self.state.messages
    }

    /// Keeps that so many messages are acknowledged. The file is whole at any moment.
    pub(crate) fn save(&mut self, messages: u64) -> Result<(), Error> {
        self.state.messages = messages;
        let bytes = serde_json::to_vec(&self.state).map_err(|error| Error::io(&self.path)(error.into()))?;
        let new = self.path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&new, &self.path)?;
            sync_folder(&self.path)
        };
        write().map_err(Error::io(&self.path))
    }

    /// Forgets the progress: the replay came to its end.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::io(&self.path)(error)),
            _ => sync_folder(&self.path).map_err(Error::io(&self.path)),
        }
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// FNV-1a, 64 bit: the same on every machine and in every version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hash(pub(crate) u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    /// Of one piece of bytes.
    pub(crate) fn of(bytes: &[u8]) -> u64 {
        let mut hash = Self::default();
        hash.add(bytes);
        hash.0
    }

    /// Length of a file, and hash of it and of the file's first (unpacked) bytes.
    pub(crate) fn of_file(source: &Source) -> Result<(u64, u64), Error> {
        let bytes = source.bytes()?;
        let mut head = Vec::new();
        if let Err(error) = source.open(Arc::default())?.take(HEAD_BYTES).read_to_end(&mut head) {
            // What can be unpacked of it says as well which file it is.
            broken_off(error).map_err(Error::io(source.path()))?;
        }
        let mut hash = Self::default();
        hash.add(&bytes.to_le_bytes());
        hash.add(&head);
        Ok((bytes, hash.0))
    }

    /// Adds a piece; its length keeps pieces apart.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in (bytes.len() as u64).to_le_bytes().iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
