//! Logs go to standard error, so that standard output stays the command's own.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

/// The filter in `MANTIS_LOG` could not be read, or logs were set up before.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// Not a filter like `info` or `mantis_broker=debug,warn`.
    #[error("MANTIS_LOG={0:?} is not a log filter ({1}): use a level like `info`, or `mantis_broker=debug,warn`")]
    Filter(String, String),
    /// A process sets its logs up once.
    #[error("logs are already set up in this process")]
    Twice,
}

/// Sends logs to standard error: as lines for people on a terminal, as JSON otherwise.
/// The level comes from `MANTIS_LOG`, or `default_filter` without it.
pub fn init_logs(default_filter: &str) -> Result<(), LogsError> {
    let text = std::env::var("MANTIS_LOG").unwrap_or_else(|_| default_filter.to_owned());
    let filter = EnvFilter::try_new(&text).map_err(|error| LogsError::Filter(text, error.to_string()))?;
    let logs = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = if std::io::stderr().is_terminal() {
        logs.with_target(false).compact().try_init()
    } else {
        logs.with_ansi(false).json().flatten_event(true).try_init()
    };
    done.map_err(|_| LogsError::Twice)
}
