//! The files of a recording: found, named, opened.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::bufread::MultiGzDecoder;

use crate::Error;

/// Folders within folders that are searched.
const DEPTH_MAX: usize = 16;
const BUFFER_BYTES: usize = 64 << 10;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A file of a recording.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) names: FileNames,
    /// How it is named in refusals and headers: the folder's and its own name.
    pub(crate) label: Arc<str>,
    content: Content,
}

/// What a mapping can take from a file's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileNames {
    /// Name with its extensions.
    pub(crate) name: String,
    /// Name without `.gz` and the extension before it.
    pub(crate) stem: String,
    /// Name of the folder.
    pub(crate) parent: String,
}

#[derive(Clone, Debug)]
enum Content {
    Path(PathBuf),
    Embedded(&'static [u8]),
}

impl Source {
    /// A file.
    pub(crate) fn file(path: &Path) -> Result<Self, Error> {
        let path = path.canonicalize().map_err(Error::io(path))?;
        let text = |part: Option<&std::ffi::OsStr>| part.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let names = names(text(path.file_name()), text(path.parent().and_then(Path::file_name)));
        Ok(Self::new(names, Content::Path(path)))
    }

    /// A file that is part of the program.
    pub(crate) fn embedded(name: &str, parent: &str, bytes: &'static [u8]) -> Self {
        Self::new(names(name.into(), parent.into()), Content::Embedded(bytes))
    }

    fn new(names: FileNames, content: Content) -> Self {
        let label = if names.parent.is_empty() { names.name.clone() } else { format!("{}/{}", names.parent, names.name) };
        Self { label: label.into(), names, content }
    }

    /// Where it is, for the identity of a replay.
    pub(crate) fn path(&self) -> PathBuf {
        match &self.content {
            Content::Path(path) => path.clone(),
            Content::Embedded(_) => PathBuf::from(&*self.label),
        }
    }

    /// Its length.
    pub(crate) fn bytes(&self) -> Result<u64, Error> {
        match &self.content {
            Content::Path(path) => Ok(path.metadata().map_err(Error::io(path))?.len()),
            Content::Embedded(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Opens it, unpacked if it is gzip; `read` counts the bytes read of the file itself.
    pub(crate) fn open(&self, read: Arc<AtomicU64>) -> Result<Box<dyn BufRead + Send>, Error> {
        match &self.content {
            Content::Path(path) => unpacked(BufReader::with_capacity(
                BUFFER_BYTES,
                Counted { inner: File::open(path).map_err(Error::io(path))?, read },
            ))
            .map_err(Error::io(path)),
            Content::Embedded(bytes) => {
                unpacked(BufReader::with_capacity(BUFFER_BYTES, Counted { inner: *bytes, read })).map_err(Error::io(self.path()))
            }
        }
    }
}

/// What is told of content that ends in the middle or cannot be unpacked: reading it again would end there again. Every other
/// error stays one.
pub(crate) fn broken_off(error: io::Error) -> Result<String, io::Error> {
    match error.kind() {
        // The latter is said of what is no gzip.
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
            Ok(format!("the file cannot be read on from here: {error}"))
        }
        _ => Err(error),
    }
}

/// The files that `paths` name: files as they are, folders with all files below them that fit one of `patterns`,
/// sorted by path, none twice.
pub(crate) fn find(paths: &[PathBuf], patterns: &[String]) -> Result<Vec<Source>, Error> {
    let mut found = Vec::new();
    for path in paths {
        if path.metadata().map_err(Error::io(path))?.is_dir() {
            search(path, patterns, DEPTH_MAX, &mut found)?;
        } else {
            found.push(path.clone());
        }
    }
    let mut sources: Vec<Source> = found.iter().map(|path| Source::file(path)).collect::<Result<_, _>>()?;
    sources.sort_by_key(Source::path);
    sources.dedup_by_key(|source| source.path());
    if sources.is_empty() {
        return Err(Error::NoFiles(paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")));
    }
    Ok(sources)
}

fn search(folder: &Path, patterns: &[String], depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            if depth > 0 {
                search(&path, patterns, depth - 1, found)?;
            }
        } else if patterns.iter().any(|pattern| fits(pattern.as_bytes(), name.as_bytes())) {
            found.push(path);
        }
    }
    Ok(())
}

/// True if `name` fits `pattern`, where `*` is any run of characters and `?` any one byte.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from, mut retry) = (0, 0, None);
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at, from));
                at += 1;
            }
            Some(letter) if *letter == b'?' || name.get(from) == Some(letter) => {
                at += 1;
                from += 1;
            }
            _ => match retry {
                Some((star, start)) => {
                    retry = Some((star, start + 1));
                    at = star + 1;
                    from = start + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|letter| *letter == b'*'))
}

fn names(name: String, parent: String) -> FileNames {
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    let stem = plain.rsplit_once('.').map_or(plain, |(stem, _)| stem).to_owned();
    FileNames { stem, name, parent }
}

fn unpacked(mut reader: impl BufRead + Send + 'static) -> std::io::Result<Box<dyn BufRead + Send>> {
    if reader.fill_buf()?.starts_with(&GZIP) {
        return Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(reader))));
    }
    Ok(Box::new(reader))
}

struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.inner.read(into)?;
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_patterns_with_stars_and_question_marks() {
        for (pattern, name, expected) in [
            ("*", "a.csv", true),
            ("acc_*.csv", "acc_00001.csv", true),
            ("acc_*.csv", "temp_00001.csv", false),
            ("*.csv", "a.csv.gz", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b", "xaxbxab", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_folder_gives_its_fitting_files_once_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        for name in ["b.csv", "a.csv", "sub/c.csv.gz", "note.txt"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let paths = [folder.path().to_path_buf(), folder.path().join("a.csv")];
        let found = find(&paths, &["*.csv".into(), "*.csv.gz".into()]).unwrap();
        assert_eq!(found.iter().map(|source| source.names.stem.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(&*found[2].label, "sub/c.csv.gz");
    }
}
