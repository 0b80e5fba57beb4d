//! The embedded feature store passes the suite of feature stores.

// A test ends at the first thing that is not as it must be, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

use mantis_schemas::SeriesTable;
use mantis_stores::features::{
    conformance::Engine,
    sqlite::{LedgerIdentity, SqliteConfig, SqliteFeatureReader, SqliteFeatures},
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
    type Sink = SqliteFeatures;
    type Reader = SqliteFeatureReader;
    type Place = Folder;
    const LEDGER: bool = true;
    const COUNTS: bool = true;

    fn place() -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("features.db").to_str().unwrap().to_owned();
        Folder { _folder: folder, file }
    }

    async fn sink(place: &str, cluster_id: &str, series: SeriesTable) -> SqliteFeatures {
        let identity = LedgerIdentity { cluster_id: cluster_id.to_owned(), group: "timescale".to_owned() };
        SqliteFeatures::open(place, series, identity, SqliteConfig::default()).unwrap()
    }

    async fn reader(place: &str) -> SqliteFeatureReader {
        SqliteFeatureReader::open(place).unwrap()
    }
}

mantis_stores::feature_conformance!(Sqlite);
