//! Logs, metrics and health of every long-running role.

mod connections;
mod http;
mod logs;

pub use http::{Readiness, Role, serve};
pub use logs::{LogsError, init_logs};
