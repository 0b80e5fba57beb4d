//! SIGINT and SIGTERM.

use std::future::Future;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Linux's number of the signal on x86-64 and ARM64.
const SIGXFSZ: i32 = 25;

/// A write beyond the limit of a file's size then fails like one to a full disk, instead of ending the process.
pub fn survive_file_limits() -> Result<()> {
    // That somebody listens is all it takes.
    let _listener = signal(SignalKind::from_raw(SIGXFSZ))?;
    Ok(())
}

/// Ends with the first of them. Taken early, so that none is missed while parts start.
pub fn first() -> Result<impl Future<Output = ()> + Send> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
