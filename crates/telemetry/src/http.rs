//! `/health/live`, `/health/ready`, `/status` and `/metrics` of a long-running role.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio::net::TcpListener;

const ANSWER_MS_MAX: u64 = 5_000;

/// Whether a role can do its work, and what it lacks if not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// True when nothing is missing.
    pub ready: bool,
    /// What is missing, a sentence each.
    pub missing: Vec<String>,
}

/// What a long-running role tells of itself.
pub trait Role: Send + Sync + 'static {
    /// Whether it can do its work now.
    fn readiness(&self) -> Readiness;
    /// Its state for `mantis status`, as JSON.
    fn status(&self) -> impl Future<Output = serde_json::Value> + Send;
    /// Its metrics in Prometheus' text format.
    fn metrics(&self) -> String;
}

/// Serves a role's pages until `shutdown` ends.
///
/// # Errors
/// The listener failed.
pub async fn serve<R: Role>(
    listener: TcpListener,
    role: Arc<R>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready::<R>))
        .route("/status", get(status::<R>))
        .route("/metrics", get(metrics::<R>))
        .with_state(role);
    axum::serve(listener, routes).with_graceful_shutdown(shutdown).await
}

async fn ready<R: Role>(State(role): State<Arc<R>>) -> Response {
    let readiness = role.readiness();
    let code = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(readiness)).into_response()
}

async fn status<R: Role>(State(role): State<Arc<R>>) -> Response {
    match tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), role.status()).await {
        Ok(status) => Json(status).into_response(),
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, "the state could not be gathered in time\n").into_response(),
    }
}

async fn metrics<R: Role>(State(role): State<Arc<R>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], role.metrics()).into_response()
}
