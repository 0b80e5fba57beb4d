use std::path::PathBuf;

/// Why a recording cannot be read or replayed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mapping is wrong: where, what, and the nearest known key.
    #[error("{0}")]
    Mapping(String),
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: std::io::Error,
    },
    /// The mapping does not fit a file.
    #[error("{file}: {what}")]
    File {
        /// The file.
        file: String,
        /// What does not fit, and what to do.
        what: String,
    },
    /// Nothing to replay.
    #[error("no file of {0} fits the mapping's `files`: name the files themselves, or change `files` in the mapping")]
    NoFiles(String),
    /// The recording, or how it is read, is not what the kept progress belongs to.
    #[error("{progress}: {what} changed since this replay was interrupted; replay with --restart to begin again from the start")]
    Changed {
        /// The file with the progress.
        progress: PathBuf,
        /// The mapping or a file of the recording.
        what: String,
    },
    /// The broker refused a message for good.
    #[error(
        "the broker refused the message from {source_position}: {reason}; what was acknowledged before is kept, so mend the cause and replay again"
    )]
    Refused {
        /// File and line of the message's first reading.
        source_position: String,
        /// What the broker says.
        reason: String,
    },
    /// The broker did not answer within the bound.
    #[error(
        "no acknowledgement for {waited_s} s ({reason}); what was acknowledged before is kept, so replay again when the broker is back"
    )]
    Stalled {
        /// How long nothing was acknowledged.
        waited_s: u64,
        /// What the producer last said.
        reason: String,
    },
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |error| Self::Io { path, error }
    }
}
