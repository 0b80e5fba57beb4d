//! The file: how it is opened, what tells it from others, and how an older one is brought up to date.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::SqliteConfig;

/// Pages of 4 KiB: a batch touches the last page of each of its series, and whole pages go to the log.
const PAGE_BYTES: u64 = 4096;

/// A kind of store, as its file says.
#[derive(Debug)]
pub(crate) struct FileKind {
    /// Its name for people: "raw store".
    pub(crate) name: &'static str,
    /// The worker that writes it.
    pub(crate) worker: &'static str,
    /// `application_id`: tells it from any other SQLite file.
    pub(crate) application_id: i32,
    /// Each step is statements that bring a file from the version of its index to the next one. Steps are never changed,
    /// only added; so what this program writes and reads is the version of their number.
    pub(crate) steps: &'static [&'static [&'static str]],
}

impl FileKind {
    fn version(&self) -> i32 {
        self.steps.len() as i32
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no file.
    #[error("there is no {store} at {}: nothing was stored yet, or the data folder is another one", .path.display())]
    Absent {
        /// The kind of store.
        store: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The file is another one.
    #[error("{} is not a {store} of MANTIS: name another file", .path.display())]
    NotAStore {
        /// The kind of store.
        store: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The file is from an older program and only a writer may bring it up to date.
    #[error("{} has the older version {found} of {known}: start the {worker} worker once, it brings the file up to date", .path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
        /// The version of this program.
        known: i32,
        /// The worker that writes it.
        worker: &'static str,
    },
    /// The file is from a newer program.
    #[error("{} has version {found}, this program knows up to {known}: use the newer program", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
        /// The version of this program.
        known: i32,
    },
    /// SQLite could not open it.
    #[error("{} cannot be opened ({source}): check that the folder exists, its permissions and the disk", .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// A file about to be opened.
struct File<'a> {
    path: &'a Path,
    kind: &'static FileKind,
}

/// Opens a file for writing; makes it, or brings it up to date.
pub(super) fn open_writer(path: &Path, kind: &'static FileKind, config: &SqliteConfig) -> Result<Connection, OpenError> {
    let file = File { path, kind };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = file.open(flags, config)?;
    let found = file.version(&connection)?;
    prepare(&mut connection, kind, config, found).map_err(|source| file.failed(source))?;
    Ok(connection)
}

/// Opens a file for reading, while another process may write to it.
pub(super) fn open_reader(path: &Path, kind: &'static FileKind, config: &SqliteConfig) -> Result<Connection, OpenError> {
    let file = File { path, kind };
    if !path.exists() {
        return Err(file.absent());
    }
    let connection = file.open(OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX, config)?;
    match file.version(&connection)? {
        // A writer has made the file and not yet its tables.
        None => Err(file.absent()),
        Some(found) if found < kind.version() => {
            Err(OpenError::Older { path: path.to_owned(), found, known: kind.version(), worker: kind.worker })
        }
        Some(_) => Ok(connection),
    }
}

impl File<'_> {
    fn open(&self, flags: OpenFlags, config: &SqliteConfig) -> Result<Connection, OpenError> {
        let connection = Connection::open_with_flags(self.path, flags).map_err(|source| self.failed(source))?;
        connection.busy_timeout(config.busy_timeout).map_err(|source| self.failed(source))?;
        Ok(connection)
    }

    /// The file's version, at most ours; `None` for a file without content.
    fn version(&self, connection: &Connection) -> Result<Option<i32>, OpenError> {
        let (tables, application_id, found) = Self::marks(connection).map_err(|source| self.failed(source))?;
        if (application_id, found, tables) == (0, 0, 0) {
            return Ok(None);
        }
        if application_id != self.kind.application_id || found < 1 {
            return Err(self.not_a_store());
        }
        let known = self.kind.version();
        if found > known { Err(OpenError::Newer { path: self.path.to_owned(), found, known }) } else { Ok(Some(found)) }
    }

    /// Number of tables, `application_id` and `user_version`, as of one moment: a writer may make them just now.
    fn marks(connection: &Connection) -> rusqlite::Result<(i64, i32, i32)> {
        let moment = connection.unchecked_transaction()?;
        let tables = moment.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let pragma = |name| moment.pragma_query_value(None, name, |row| row.get(0));
        Ok((tables, pragma("application_id")?, pragma("user_version")?))
    }

    fn absent(&self) -> OpenError {
        OpenError::Absent { store: self.kind.name, path: self.path.to_owned() }
    }

    fn not_a_store(&self) -> OpenError {
        OpenError::NotAStore { store: self.kind.name, path: self.path.to_owned() }
    }

    fn failed(&self, source: rusqlite::Error) -> OpenError {
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::NotADatabase) => self.not_a_store(),
            _ => OpenError::Sqlite { path: self.path.to_owned(), source },
        }
    }
}

fn prepare(connection: &mut Connection, kind: &FileKind, config: &SqliteConfig, found: Option<i32>) -> rusqlite::Result<()> {
    if found.is_none() {
        connection.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
    }
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    // A negative size is in KiB.
    connection.pragma_update(None, "cache_size", -((config.cache_bytes >> 10) as i64))?;
    connection.pragma_update(None, "wal_autocheckpoint", (config.wal_checkpoint_bytes / PAGE_BYTES) as i64)?;
    connection.pragma_update(None, "journal_size_limit", config.wal_checkpoint_bytes as i64)?;
    if found == Some(kind.version()) {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for statements in kind.steps.iter().skip(found.unwrap_or(0) as usize).copied().flatten() {
        transaction.execute_batch(statements)?;
    }
    transaction.pragma_update(None, "application_id", kind.application_id)?;
    transaction.pragma_update(None, "user_version", kind.version())?;
    transaction.commit()
}
