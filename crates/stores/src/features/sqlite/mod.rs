//! The embedded feature store: one SQLite file that anyone can read with the `sqlite3` shell, best through its view
//! `features_by_name`.
//!
//! What it guarantees: a write that ended is on disk (WAL, `synchronous=FULL`); the ledger moves in the transaction of
//! the rows it covers, so it is never ahead of them, and says where the worker starts; memory and the write-ahead log are
//! bounded.
//!
//! Idempotency key of features: (asset, sensor, length of the window, start), the greater rank wins; of readings: (asset,
//! sensor, source time), the last by offset wins.

mod encode;
mod read;
mod retention;
mod schema;
mod write;

pub use read::SqliteFeatureReader;
pub use retention::{Retention, Trimmed};
use schema::KIND;
pub use write::SqliteFeatures;

pub use crate::sqlite::{LedgerIdentity, OpenError, SqliteConfig};
