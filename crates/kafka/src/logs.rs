//! librdkafka's log lines and client-wide errors.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rdkafka::{ClientContext, config::RDKafkaLogLevel, error::KafkaError};

use crate::error::{Code, Error};

/// Errors kept until they are asked for; older ones are dropped, the log has them all.
const ERRORS_MAX: usize = 16;

/// A client's own errors: those that belong to no message and no request.
#[derive(Debug, Default)]
pub(crate) struct ClientErrors {
    waiting: Mutex<VecDeque<Error>>,
    refused: Mutex<Option<Error>>,
}

impl ClientErrors {
    /// Notes an error as librdkafka reports it. Lost connections are no news: it reconnects by itself.
    pub(crate) fn note(&self, code: Code, reason: &str) {
        let error = match code {
            Code::ALL_BROKERS_DOWN => Error::Unavailable(format!("no broker can be reached ({reason}); it is tried again")),
            Code::FATAL => Error::Fatal(format!("{reason}; restart the process")),
            _ => Error::with_reason(code, reason),
        };
        tracing::debug!(target: "librdkafka", ?code, reason, "client error");
        if matches!(error, Error::Credentials(_)) {
            *lock(&self.refused) = Some(error.clone());
        } else if !matches!(error, Error::Fatal(_)) && code != Code::ALL_BROKERS_DOWN {
            return;
        }
        let mut waiting = lock(&self.waiting);
        if waiting.len() == ERRORS_MAX {
            waiting.pop_front();
        }
        waiting.push_back(error);
    }

    /// The oldest error that nobody has seen.
    pub(crate) fn take(&self) -> Option<Error> {
        lock(&self.waiting).pop_front()
    }

    /// Why brokers refuse this client, if they did since the last [`works`](Self::works). A request that timed out
    /// then failed for this reason.
    pub(crate) fn refused(&self) -> Option<Error> {
        lock(&self.refused).clone()
    }

    /// A broker answered.
    pub(crate) fn works(&self) {
        *lock(&self.refused) = None;
    }
}

impl ClientContext for ClientErrors {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level as i32, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().map_or(Code::NONE, Code::from);
        self.note(code, reason);
    }
}

/// Writes a log line of librdkafka with its syslog level.
pub(crate) fn log(level: i32, facility: &str, message: &str) {
    // Settings pass through to every kind of client, and each warns of those of the others.
    let level = if facility == "CONFWARN" { 7 } else { level };
    match level {
        0..=3 => tracing::error!(target: "librdkafka", facility, "{message}"),
        4 => tracing::warn!(target: "librdkafka", facility, "{message}"),
        5 | 6 => tracing::info!(target: "librdkafka", facility, "{message}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{message}"),
    }
}

/// Nothing that is locked here can be left half changed by a panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
