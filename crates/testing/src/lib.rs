//! What tests share: how a test says that it skipped, and where recordings and outside programs are.
//!
//! A test that lacks something outside of the project (recordings, `kcat`, Java) says so and returns:
//!
//! ```no_run
//! # fn a_client_reads_what_was_produced() {
//! let Some(kcat) = mantis_testing::program("kcat") else { return };
//! let Some(recordings) = mantis_testing::recordings() else { return };
//! # let _ = (kcat, recordings);
//! # }
//! ```
//!
//! `cargo test` hides what a passing test prints. So the line also goes to the file that `MANTIS_SKIPPED_LOG` names;
//! `scripts/test` sets it, shows the lines at its end and counts these tests as skipped, not as passed.

#![allow(clippy::print_stderr)]

mod influx;
mod postgres;

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    time::Duration,
};

pub use influx::{Bucket, ORG};
pub use postgres::{Database, Schema, User};

/// The file to which skipped tests append a line each.
const LOG: &str = "MANTIS_SKIPPED_LOG";
/// The folder of recordings, where it is not the one beside the repository.
const RECORDINGS: &str = "MANTIS_RECORDINGS";
const RECORDINGS_BESIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");

/// Longest wait for a server of the stack to take a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(2);

/// Notes that the running test skipped, and why. Call it once, on the test's own thread, and return.
pub fn skipped(reason: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIPPED {test}: {}", reason.replace('\n', " "));
    eprintln!("{line}");
    if let Some(log) = env::var_os(LOG)
        && let Err(error) = append(Path::new(&log), &line)
    {
        eprintln!("cannot note the skipped test in {}: {error}", Path::new(&log).display());
    }
}

/// The folder of recordings (`skab/`, `pdm/`, `cwru/`, `femto/`, `truth/`): `MANTIS_RECORDINGS`, or `../shared/data`
/// beside the repository. `None` where it is absent; the test is then noted as skipped.
pub fn recordings() -> Option<PathBuf> {
    let folder = env::var_os(RECORDINGS).map_or_else(|| PathBuf::from(RECORDINGS_BESIDE), PathBuf::from);
    let found = folder.canonicalize().ok();
    if found.is_none() {
        skipped(&format!("no recordings: neither {RECORDINGS} nor ../shared/data beside the repository is a folder"));
    }
    found
}

/// A server of the stack that `scripts/stack up` starts.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where it listens, `host:port`.
    pub address: String,
    stack: PathBuf,
}

impl Server {
    /// The file with a secret of the stack.
    pub fn secret_file(&self, name: &str) -> PathBuf {
        self.stack.join("secrets").join(name)
    }

    /// The certificate of the stack's own authority, which signed those of its servers.
    pub fn authority_file(&self) -> PathBuf {
        self.stack.join("tls/ca.crt")
    }
}

/// A server of the running stack; why it is not there if it is not. A test that needs it then calls [`skipped`].
///
/// # Errors
/// No stack runs here, or the server is not part of it.
pub fn server(name: &str) -> Result<Server, String> {
    let stack = stack_folder().ok_or("neither MANTIS_STACK_DIR nor HOME is set")?;
    let absent = || format!("{name} does not run: scripts/stack up {name}");
    let address = std::fs::read_to_string(stack.join(name).join("address")).map_err(|_| absent())?.trim().to_owned();
    let there = address.parse().is_ok_and(|address| TcpStream::connect_timeout(&address, CONNECT_WAIT).is_ok());
    if there { Ok(Server { address, stack }) } else { Err(absent()) }
}

/// As scripts/stack has it.
fn stack_folder() -> Option<PathBuf> {
    let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    named("MANTIS_STACK_DIR").or_else(|| {
        let cache = named("XDG_CACHE_HOME").or_else(|| Some(named("HOME")?.join(".cache")))?;
        Some(named("MANTIS_STACK_CACHE").unwrap_or_else(|| cache.join("mantis-stack")).join("stack"))
    })
}

/// Where a program is on the `PATH`. `None` where it is not installed; the test is then noted as skipped.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        skipped(&format!("{name} is not installed"));
    }
    found
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap_or(root)
}

/// One write per line, so that the lines of tests in several processes do not mix.
fn append(log: &Path, line: &str) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(log)?.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_skipped_tests_add_up_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("skipped");
        append(&log, "SKIPPED one: no kcat").unwrap();
        append(&log, "SKIPPED two: no java").unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "SKIPPED one: no kcat\nSKIPPED two: no java\n");
    }

    #[test]
    fn a_program_is_found_on_the_path() {
        assert!(program("sh").is_some_and(|file| file.ends_with("sh")));
    }

    #[test]
    fn the_repository_is_where_its_lock_file_is() {
        assert!(repository().join("Cargo.lock").is_file());
    }
}
