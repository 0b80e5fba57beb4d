//! One object: the records of positions `[start, end)` of one partition, as a Parquet file.
//!
//! Everything about an object is in its one file, so one atomic creation is all there is: the manifest is the file's
//! metadata `mantis.archive`, and its seal holds the file's size and checksum. Rows are sorted by series and time, which is
//! what makes them small; their positions are columns, so that reading gives them back in the order of the log.

mod digest;
mod layout;
mod manifest;
mod read;
mod write;

pub use digest::Digest;
pub use manifest::Manifest;
pub use read::{manifest, peek, rows};
pub use write::{Head, encode};

/// An object that could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// It is not one, or it was changed or cut since it was made.
    #[error("the object is damaged or none of MANTIS ({0}): restore it from a copy, or move it away and archive the log again")]
    Damaged(String),
    /// It was written by a newer program.
    #[error("the object has format {0}, which this version does not know: update it")]
    Newer(u32),
    /// It has more series than the reader may hold.
    #[error("the object has a series beyond the {0} that this process may hold: raise decode.series_max")]
    TooManySeries(usize),
    /// Parquet could not write it.
    #[error("the object cannot be made ({0}): this is a defect")]
    Defect(String),
}

impl ObjectError {
    fn damaged(what: impl ToString) -> Self {
        Self::Damaged(what.to_string())
    }

    fn defect(what: impl ToString) -> Self {
        Self::Defect(what.to_string())
    }
}
