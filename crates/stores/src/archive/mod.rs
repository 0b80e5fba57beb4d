//! The archive: everything that went through the topics, as Parquet objects that any tool can read.
//!
//! A partition's objects are a chain: each holds the records of positions `[start, end)`, its key carries `start`, and the
//! next one starts where it ends. Objects are created, never overwritten, so a worker that was thought dead can add nothing
//! but what the log holds at the chain's end.
//!
//! [`ArchiveStore`] is all that an engine has to offer; [`folder`] is the embedded one.

pub mod chain;
pub mod columns;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod folder;
pub mod gaps;
pub mod key;
pub mod object;
pub mod scan;

use std::future::Future;

use bytes::Bytes;
use mantis_pipeline::Fault;

/// Longest key, in bytes: that of S3.
pub const KEY_BYTES_MAX: usize = 1024;
/// Largest object that is read back: far above what a chain's bounds let one grow to.
pub const OBJECT_BYTES_MAX: u64 = 512 << 20;
/// Most keys of one page, as in S3.
pub const LIST_MAX: usize = 1_000;

/// What became of an object that was to be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there now, whole, and survives a loss of power.
    Created,
    /// There was one before, which stays as it is: whole and durable.
    Exists,
}

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Its size.
    pub bytes: u64,
}

/// Keeps objects under keys. Keys are paths, `a/b/c`, up to [`KEY_BYTES_MAX`] bytes; no segment is empty, and no key is
/// the folder of another.
///
/// Every call ends within the store's own bound, with [`Fault::Retry`] if need be. A call whose end was not seen may have
/// taken effect; repeating it is harmless.
pub trait ArchiveStore: Send + Sync + 'static {
    /// Creates an object: whole or not at all, and never in the place of another (S3: `If-None-Match: *`).
    fn create(&self, key: &str, bytes: Bytes) -> impl Future<Output = Result<Created, Fault>> + Send;

    /// An object's bytes; `None` where there is none.
    fn read(&self, key: &str) -> impl Future<Output = Result<Option<Bytes>, Fault>> + Send;

    /// The last `bytes` bytes of an object, all of it where it has no more; `None` where there is none. An engine that can spare
    /// its user the rest does.
    fn read_end(&self, key: &str, bytes: usize) -> impl Future<Output = Result<Option<Bytes>, Fault>> + Send {
        async move { Ok(self.read(key).await?.map(|object| object.slice(object.len().saturating_sub(bytes)..))) }
    }

    /// The objects whose keys begin with `prefix` and come after `after`, in order of their keys' bytes: the first `limit`,
    /// at most [`LIST_MAX`]. Fewer than asked for means that there are no more.
    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> impl Future<Output = Result<Vec<Listed>, Fault>> + Send;
}
