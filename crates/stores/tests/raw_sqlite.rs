//! The embedded raw store passes the suite of raw stores.

// A test ends at the first thing that is not as it must be, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

use mantis_schemas::SeriesTable;
use mantis_stores::raw::{
    conformance::Engine,
    sqlite::{LedgerIdentity, SqliteConfig, SqliteRaw, SqliteRawReader},
};
use tempfile::TempDir;

struct Sqlite;

struct Folder {
    _folder: TempDir,
    file: String,
}

impl AsRef<str> for Folder {
    fn as_ref(&self) -> &str {
        &self.file
    }
}

impl Engine for Sqlite {
    type Sink = SqliteRaw;
    type Reader = SqliteRawReader;
    type Place = Folder;
    const LEDGER: bool = true;
    const COUNTS: bool = true;

    fn place() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("raw.db").to_str().unwrap().to_owned();
        Folder { _folder: folder, file }
    }

    async fn sink(place: &str, cluster_id: &str, series: SeriesTable) -> SqliteRaw {
        let identity = LedgerIdentity { cluster_id: cluster_id.to_owned(), group: "raw".to_owned() };
        SqliteRaw::open(place, series, identity, SqliteConfig::default()).unwrap()
    }

    async fn reader(place: &str) -> SqliteRawReader {
        SqliteRawReader::open(place).unwrap()
    }
}

mantis_stores::raw_conformance!(Sqlite);
