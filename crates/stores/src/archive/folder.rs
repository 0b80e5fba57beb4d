//! The embedded archive: a folder, an object per file.
//!
//! An object is written to a temporary file beside its place, synced, and linked into place, which fails if something is
//! there; then the folder is synced. So an object is whole or absent after kill -9 and loss of power, and of two creators one
//! wins. Keys are escaped so that no name leads out of the folder.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use mantis_pipeline::Fault;

use super::{ArchiveStore, Created, KEY_BYTES_MAX, LIST_MAX, Listed, OBJECT_BYTES_MAX};

/// Names of files that are being written. An escaped segment never begins with a dot.
const TEMPORARY: &str = ".writing-";
/// Longest name of a file on common file systems.
const NAME_BYTES_MAX: usize = 255;

/// A folder of objects. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FolderArchive {
    folder: Arc<Path>,
}

impl FolderArchive {
    /// Opens the folder for writing, makes it where there is none, and removes what a crash left half-written.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let archive = Self::reader(folder);
        make_folder(&archive.folder)?;
        remove_leftovers(&archive.folder)?;
        Ok(archive)
    }

    /// The folder as it is, to be read; it need not exist.
    pub fn reader(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into().into() }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        what: String,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let folder = Arc::clone(&self.folder);
        match tokio::task::spawn_blocking(move || work(&folder)).await {
            Ok(ended) => ended.map_err(|error| fault(&self.folder, &what, &error)),
            Err(error) => Err(Fault::retry(format!("cannot {what}: the call was cut off ({error})"))),
        }
    }
}

impl ArchiveStore for FolderArchive {
    async fn create(&self, key: &str, bytes: Bytes) -> Result<Created, Fault> {
        let path = relative(key)?;
        self.blocking(format!("create object {key}"), move |folder| create(&folder.join(path), &bytes)).await
    }

    async fn read(&self, key: &str) -> Result<Option<Bytes>, Fault> {
        self.read_end(key, usize::MAX).await
    }

    async fn read_end(&self, key: &str, bytes: usize) -> Result<Option<Bytes>, Fault> {
        let path = relative(key)?;
        self.blocking(format!("read object {key}"), move |folder| read_end(&folder.join(path), bytes)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Listed>, Fault> {
        let (after, limit) = (after.map(str::to_owned), limit.min(LIST_MAX));
        let mut search = Search { prefix: prefix.to_owned(), after, limit, found: BTreeMap::new() };
        // Only the folder that the prefix names is walked.
        let walked = prefix.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        self.blocking(format!("list objects under {prefix:?}"), move |folder| {
            match walked.as_str() {
                "" => search.walk(folder, "")?,
                _ if walked.split('/').any(str::is_empty) => {}
                _ => search.walk(&folder.join(walked.split('/').map(escape).collect::<PathBuf>()), &walked)?,
            }
            Ok(search.found.into_iter().map(|(key, bytes)| Listed { key, bytes }).collect())
        })
        .await
    }
}

fn create(path: &Path, bytes: &[u8]) -> io::Result<Created> {
    let folder = path.parent().ok_or(ErrorKind::InvalidInput)?;
    make_folder(folder)?;
    let temporary = folder.join(format!("{TEMPORARY}{:016x}", RandomState::new().hash_one(path)));
    let created = write(&temporary, bytes).and_then(|()| match fs::hard_link(&temporary, path) {
        Ok(()) => Ok(Created::Created),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Created::Exists),
        Err(error) => Err(error),
    });
    // What stays behind is removed at the next start.
    let _ = fs::remove_file(&temporary);
    let created = created?;
    // Also where another was first: its maker may not have come to this yet.
    File::open(folder)?.sync_all()?;
    Ok(created)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Never one that is there: what a crash left behind may be linked to an object.
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn read_end(path: &Path, bytes: usize) -> io::Result<Option<Bytes>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let read = length.min(bytes as u64);
    let capacity = usize::try_from(read).ok().filter(|_| read <= OBJECT_BYTES_MAX).ok_or(ErrorKind::FileTooLarge)?;
    file.seek(SeekFrom::Start(length - read))?;
    let mut end = Vec::with_capacity(capacity);
    file.read_to_end(&mut end)?;
    Ok(Some(end.into()))
}

/// Makes a folder and those above it, and syncs the folder above each that is new.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_folder(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(above)?.sync_all()
}

/// Another writer that is at work just now fails, and tries again.
fn remove_leftovers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_leftovers(&entry.path())?;
        } else if entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY)) {
            match fs::remove_file(entry.path()) {
                // Its maker, another process, was not gone but done.
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}

/// A list in the making: never more than its limit.
struct Search {
    prefix: String,
    after: Option<String>,
    limit: usize,
    found: BTreeMap<String, u64>,
}

impl Search {
    /// Adds what lies in `folder`, whose key is `above`.
    fn walk(&mut self, folder: &Path, above: &str) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().and_then(unescape) else { continue };
            let key = if above.is_empty() { name } else { format!("{above}/{name}") };
            if entry.file_type()?.is_dir() {
                if key.starts_with(&self.prefix) || self.prefix.starts_with(&key) {
                    self.walk(&entry.path(), &key)?;
                }
            } else if self.wants(&key) {
                let bytes = entry.metadata()?.len();
                self.found.insert(key, bytes);
                if self.found.len() > self.limit {
                    self.found.pop_last();
                }
            }
        }
        Ok(())
    }

    fn wants(&self, key: &str) -> bool {
        key.starts_with(&self.prefix)
            && self.after.as_deref().is_none_or(|after| key > after)
            && (self.found.len() < self.limit || self.found.last_key_value().is_some_and(|(last, _)| key < last.as_str()))
    }
}

/// Where a key's file lies below the folder.
fn relative(key: &str) -> Result<PathBuf, Fault> {
    let path: PathBuf = key.split('/').map(escape).collect();
    let fits = key.len() <= KEY_BYTES_MAX && key.split('/').all(|part| !part.is_empty() && escape(part).len() <= NAME_BYTES_MAX);
    match fits {
        true => Ok(path),
        false => Err(Fault::Fatal {
            reason: format!(
                "the archive cannot keep an object under {key:?}: a key has at most {KEY_BYTES_MAX} bytes, and none of its parts is \
                 empty or longer than {NAME_BYTES_MAX} bytes"
            ),
        }),
    }
}

/// A segment of a key as a file's name: what is not plain is `%` and two digits, a dot at the front too.
fn escape(segment: &str) -> String {
    let mut name = String::with_capacity(segment.len());
    for (at, byte) in segment.bytes().enumerate() {
        match byte {
            b'.' if at == 0 => name.push_str("%2E"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    name
}

/// The segment behind a file's name; `None` if no segment has it.
fn unescape(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'%' => {
                let (digits, behind) = rest.split_first_chunk::<2>()?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = behind;
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok().filter(|segment| escape(segment) == name)
}

fn fault(folder: &Path, what: &str, error: &io::Error) -> Fault {
    let folder = folder.display();
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            Fault::Credentials { reason: format!("cannot {what} in {folder} ({error}): give this user the right to write there") }
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Fault::retry(format!(
            "cannot {what}: the disk of {folder} is full ({error}); nothing is archived until there is room"
        )),
        _ => Fault::retry(format!("cannot {what} in {folder} ({error}): check the disk and its permissions")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_segment_is_a_plain_name_and_comes_back(segment in "\\PC{1,20}|[./%]{1,5}|\\.\\.") {
            let name = escape(&segment);
            prop_assert!(!name.contains('/') && !name.starts_with('.'));
            prop_assert_eq!(unescape(&name), Some(segment));
        }
    }

    #[test]
    fn what_a_crash_left_half_written_is_removed_at_open_and_never_listed() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("c/t/0");
        fs::create_dir_all(&below).unwrap();
        let leftover = below.join(format!("{TEMPORARY}1-1"));
        fs::write(&leftover, b"half").unwrap();
        let mut search = Search { prefix: String::new(), after: None, limit: 10, found: BTreeMap::new() };
        search.walk(folder.path(), "").unwrap();
        assert!(search.found.is_empty());
        FolderArchive::open(folder.path()).unwrap();
        assert!(!leftover.exists());
    }

    #[test]
    fn a_key_that_no_file_can_have_is_refused_and_says_why() {
        for key in ["", "a//b", "/a", "a/", &"x".repeat(256), &format!("a/{}", "ä".repeat(90))] {
            assert!(matches!(relative(key), Err(Fault::Fatal { .. })), "{key}");
        }
    }
}
