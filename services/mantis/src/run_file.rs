//! How commands find the `mantis up` of a data folder: a lock that it holds, and a file with its addresses.

use std::{
    fs::{self, File, TryLockError},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

const LOCK: &str = "lock";
const RUN: &str = "run.json";
const LOCK_TRIES: u32 = 20;
const LOCK_WAIT: Duration = Duration::from_millis(10);

/// Where a running `up` is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub pid: u32,
    pub brokers: String,
    pub http: SocketAddr,
    pub cluster_id: String,
}

/// The data folder, held by this process until it ends.
#[derive(Debug)]
pub struct Held {
    folder: PathBuf,
    _lock: File,
}

impl Held {
    /// Makes the folder if it is absent and takes it for this process alone.
    pub fn take(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create the data folder {}", folder.display()))?;
        let path = folder.join(LOCK);
        let lock = File::create(&path).with_context(|| format!("cannot write to the data folder {}", folder.display()))?;
        for _ in 0..LOCK_TRIES {
            match lock.try_lock() {
                Ok(()) => {
                    // The addresses of an `up` that was killed must not be taken for ours.
                    let _ = fs::remove_file(folder.join(RUN));
                    return Ok(Self { folder: folder.to_owned(), _lock: lock });
                }
                // A command that looks whether an `up` runs holds the lock for a moment.
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
                Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("cannot lock {}", path.display())),
            }
        }
        bail!(
            "another `mantis up` or worker runs on the data folder {}: stop it, or choose another folder with --data-dir",
            folder.display()
        )
    }

    /// Publishes the addresses, whole or not at all.
    pub fn publish(&self, running: &Running) -> Result<()> {
        let (temporary, path) = (self.folder.join("run.json.new"), self.folder.join(RUN));
        fs::write(&temporary, serde_json::to_vec_pretty(running)?)
            .and_then(|()| fs::rename(&temporary, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The `up` that runs on `folder` now.
pub fn find(folder: &Path) -> Result<Running> {
    let nothing =
        || format!("no `mantis up` runs on the data folder {}: start one, or name another with --data-dir", folder.display());
    let lock = File::open(folder.join(LOCK)).with_context(nothing)?;
    if lock.try_lock_shared().is_ok() {
        bail!(nothing());
    }
    let path = folder.join(RUN);
    let text = fs::read(&path).with_context(|| format!("`mantis up` is still starting on {}: try again", folder.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not readable: restart `mantis up`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running() -> Running {
        let at = SocketAddr::from(([127, 0, 0, 1], 1));
        Running { pid: 1, brokers: at.to_string(), http: at, cluster_id: "c".into() }
    }

    #[test]
    fn a_running_up_is_found_and_a_stopped_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(find(folder.path()).is_err());
        let held = Held::take(folder.path()).unwrap();
        held.publish(&running()).unwrap();
        assert_eq!(find(folder.path()).unwrap(), running());
        drop(held);
        let error = find(folder.path()).unwrap_err().to_string();
        assert!(error.contains("no `mantis up` runs"), "{error}");
    }

    #[test]
    fn a_second_up_on_the_same_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let _held = Held::take(folder.path()).unwrap();
        let error = Held::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains("another `mantis up`"), "{error}");
    }
}
