//! Why the broker cannot start or go on.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::log::LogError;

/// Why opening or serving failed. Errors of single requests are answered to the client instead.
#[derive(Debug, Error)]
pub enum Error {
    /// Another process has the data folder open.
    #[error("data folder {dir} is in use by another broker: stop that one, or choose another folder")]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The answer of the system.
        source: io::Error,
    },
    /// A file of the broker is not what it should be.
    #[error("{path} is damaged: {reason}; restore it from a backup or move the data folder away")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A partition's log could not be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The listener's address could not be read, or accepting failed for good.
    #[error("cannot accept connections: {source}")]
    Listen {
        /// The answer of the system.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }
}
