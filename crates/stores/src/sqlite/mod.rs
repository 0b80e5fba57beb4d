//! What every embedded store in one SQLite file is made of: opening and versions, the writer with its ledger, the reader.
//!
//! A write that ended is on disk (WAL, `synchronous=FULL`). The ledger moves in the transaction of the rows it covers, so
//! it is never ahead of them. Memory and the write-ahead log are bounded.
//!
//! The ledger is the truth about progress, not the group's commit: it says where the *file* ends. A partition that the
//! file knows nothing of starts at the beginning of the log, whatever was committed, so that a store that was deleted is
//! rebuilt instead of skipped. Ledgers of other clusters are kept and ignored.

mod config;
mod fault;
mod ledger;
mod open;
mod reader;
pub(crate) mod readings;
pub(crate) mod retained;
mod series;
pub(crate) mod tables;
mod writer;

pub use crate::LedgerIdentity;
pub use config::SqliteConfig;
pub(crate) use ledger::forget;
pub(crate) use open::FileKind;
pub use open::OpenError;
pub(crate) use reader::{SqliteReader, code, limit_of};
pub(crate) use series::series_id;
pub(crate) use writer::{RowWriter, SqliteWriter, WriteError};
