//! The file: how it is opened, what its tables are, and how an older one is brought up to date.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::SqliteConfig;

/// `application_id` of a raw store, "MNTR": tells it from any other SQLite file.
const APPLICATION_ID: i32 = 0x4D4E_5452;

/// Pages of 4 KiB: a batch touches the last page of each of its series, and whole pages go to the log.
const PAGE_BYTES: u64 = 4096;

/// Each step brings a file from the version of its index to the next one. Steps are never changed, only added.
///
/// Doubles lie in ANY columns, which take them bit for bit: a REAL column stores whole numbers as integers and so loses
/// the sign of -0.0.
const STEPS: [&str; 1] = ["
    CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        asset TEXT NOT NULL,
        sensor TEXT NOT NULL,
        UNIQUE (asset, sensor)
    ) STRICT;
    CREATE TABLE readings (
        series INTEGER NOT NULL,
        time_ns INTEGER NOT NULL,
        value ANY NOT NULL,
        quality INTEGER NOT NULL,
        arrival_ms INTEGER NOT NULL,
        PRIMARY KEY (series, time_ns)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE frames (
        series INTEGER NOT NULL,
        start_ns INTEGER NOT NULL,
        sample_rate_hz ANY NOT NULL,
        format INTEGER NOT NULL,
        scale ANY NOT NULL,
        quality INTEGER NOT NULL,
        arrival_ms INTEGER NOT NULL,
        samples BLOB NOT NULL,
        UNIQUE (series, start_ns)
    ) STRICT;
    CREATE TABLE ledger (
        cluster_id TEXT NOT NULL,
        consumer_group TEXT NOT NULL,
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        next_offset INTEGER NOT NULL,
        PRIMARY KEY (cluster_id, consumer_group, topic, partition)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE retention (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        retained_from_ns INTEGER NOT NULL
    ) STRICT;
"];

/// The version that this program writes and reads.
const VERSION: i32 = STEPS.len() as i32;

/// Why a raw store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no file.
    #[error("there is no raw store at {}: nothing was stored yet, or the data folder is another one", .0.display())]
    Absent(PathBuf),
    /// The file is not a raw store.
    #[error("{} is not a raw store of MANTIS: name another file", .0.display())]
    NotAStore(PathBuf),
    /// The file is from an older program and only a writer may bring it up to date.
    #[error("{} has the older version {found} of {VERSION}: start the raw worker once, it brings the file up to date", .path.display())]
    Older {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
    },
    /// The file is from a newer program.
    #[error("{} has version {found}, this program knows up to {VERSION}: use the newer program", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i32,
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

/// Opens a file for writing; makes it, or brings it up to date.
pub(super) fn open_writer(path: &Path, config: &SqliteConfig) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = open(path, flags, config)?;
    let found = version(&connection, path)?;
    prepare(&mut connection, config, found).map_err(|source| failed(path, source))?;
    Ok(connection)
}

/// Opens a file for reading, while another process may write to it.
pub(super) fn open_reader(path: &Path, config: &SqliteConfig) -> Result<Connection, OpenError> {
    if !path.exists() {
        return Err(OpenError::Absent(path.to_owned()));
    }
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX, config)?;
    match version(&connection, path)? {
        // A writer has made the file and not yet its tables.
        None => Err(OpenError::Absent(path.to_owned())),
        Some(VERSION) => Ok(connection),
        Some(found) => Err(OpenError::Older { path: path.to_owned(), found }),
    }
}

fn open(path: &Path, flags: OpenFlags, config: &SqliteConfig) -> Result<Connection, OpenError> {
    let connection = Connection::open_with_flags(path, flags).map_err(|source| failed(path, source))?;
    connection.busy_timeout(config.busy_timeout).map_err(|source| failed(path, source))?;
    Ok(connection)
}

/// The file's version, at most ours; `None` for a file without content.
fn version(connection: &Connection, path: &Path) -> Result<Option<i32>, OpenError> {
    let pragma =
        |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0)).map_err(|source| failed(path, source));
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|source| failed(path, source))?;
    let (application_id, found) = (pragma("application_id")?, pragma("user_version")?);
    match (application_id, found) {
        (0, 0) if tables == 0 => Ok(None),
        (APPLICATION_ID, found) if found > VERSION => Err(OpenError::Newer { path: path.to_owned(), found }),
        (APPLICATION_ID, found) if found > 0 => Ok(Some(found)),
        _ => Err(OpenError::NotAStore(path.to_owned())),
    }
}

fn prepare(connection: &mut Connection, config: &SqliteConfig, found: Option<i32>) -> rusqlite::Result<()> {
    if found.is_none() {
        connection.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
    }
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    // A negative size is in KiB.
    connection.pragma_update(None, "cache_size", -((config.cache_bytes >> 10) as i64))?;
    connection.pragma_update(None, "wal_autocheckpoint", (config.wal_checkpoint_bytes / PAGE_BYTES) as i64)?;
    connection.pragma_update(None, "journal_size_limit", config.wal_checkpoint_bytes as i64)?;
    if found == Some(VERSION) {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for step in STEPS.iter().skip(found.unwrap_or(0) as usize) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

fn failed(path: &Path, source: rusqlite::Error) -> OpenError {
    match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => OpenError::NotAStore(path.to_owned()),
        _ => OpenError::Sqlite { path: path.to_owned(), source },
    }
}
