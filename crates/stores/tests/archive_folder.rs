//! The embedded archive passes the suite of archive stores.

// A test ends at the first thing that is not as it must be, its helpers too.
#![allow(clippy::unwrap_used, clippy::panic)]

use mantis_stores::archive::{conformance::Engine, folder::FolderArchive};
use tempfile::TempDir;

struct Folders;

struct Folder(TempDir);

impl AsRef<str> for Folder {
    fn as_ref(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

impl Engine for Folders {
    type Store = FolderArchive;
    type Place = Folder;

    fn place() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    async fn open(place: &str) -> FolderArchive {
        FolderArchive::open(place).unwrap()
    }
}

mantis_stores::archive_conformance!(Folders);
