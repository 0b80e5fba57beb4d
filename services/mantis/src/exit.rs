//! Exit codes.

use std::{io, process::ExitCode};

/// How a command ended, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done,
    Failed,
    Usage,
    /// Done, but something needs attention: rejected rows, gaps, figures that do not add up.
    Attention,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Attention => 3,
        })
    }
}

/// A wrong argument or configuration: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0:#}")]
pub struct Usage(pub anyhow::Error);

/// The error with its causes, each said once: many errors say their cause themselves.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The exit code of a failed command. A reader that went away (`mantis query ... | head`) is no failure.
pub fn of_error(error: &anyhow::Error) -> Exit {
    let broken_pipe = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    if error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(broken_pipe)) {
        Exit::Done
    } else if error.chain().any(|cause| cause.is::<Usage>()) {
        Exit::Usage
    } else {
        Exit::Failed
    }
}
