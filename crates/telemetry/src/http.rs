//! `/health/live`, `/health/ready`, `/status`, `/sensors` and `/metrics` of a long-running role.

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::connections::{BoundedListener, Bounds};

const ANSWER_MS_MAX: u64 = 5_000;
/// Above the usual interval of scrapes, so that a collector keeps its connection.
const BOUNDS: Bounds = Bounds { connections_max: 64, answer_ms_max: 30_000 };

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
    /// How the readings of each sensor come, of one asset or of all, as a JSON list; empty for roles that do not know.
    fn sensors(&self, _asset: Option<String>) -> impl Future<Output = serde_json::Value> + Send {
        async { serde_json::Value::Array(Vec::new()) }
    }
    /// Its metrics in Prometheus' text format.
    fn metrics(&self) -> String;
}

/// Serves a role's pages, and `more` beside them, until `shutdown` ends.
///
/// # Errors
/// The listener failed.
pub async fn serve<R: Role>(
    listener: TcpListener,
    role: Arc<R>,
    more: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    serve_within(BOUNDS, listener, role, more, shutdown).await
}

async fn serve_within<R: Role>(
    bounds: Bounds,
    listener: TcpListener,
    role: Arc<R>,
    more: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let routes = Router::new()
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(ready::<R>))
        .route("/status", get(status::<R>))
        .route("/sensors", get(sensors::<R>))
        .route("/metrics", get(metrics::<R>))
        .with_state(role)
        .merge(more);
    axum::serve(BoundedListener::new(listener, bounds), routes).with_graceful_shutdown(shutdown).await
}

async fn ready<R: Role>(State(role): State<Arc<R>>) -> Response {
    let readiness = role.readiness();
    let code = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(readiness)).into_response()
}

async fn status<R: Role>(State(role): State<Arc<R>>) -> Response {
    in_time(role.status()).await
}

/// Which sensors are asked for.
#[derive(Debug, Deserialize)]
struct Asked {
    asset: Option<String>,
}

async fn sensors<R: Role>(State(role): State<Arc<R>>, Query(asked): Query<Asked>) -> Response {
    in_time(role.sensors(asked.asset)).await
}

async fn in_time(answer: impl Future<Output = serde_json::Value>) -> Response {
    match tokio::time::timeout(Duration::from_millis(ANSWER_MS_MAX), answer).await {
        Ok(answer) => Json(answer).into_response(),
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, "the state could not be gathered in time\n").into_response(),
    }
}

async fn metrics<R: Role>(State(role): State<Arc<R>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], role.metrics()).into_response()
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        time::{Duration, Instant},
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::{sleep, timeout},
    };

    use super::*;

    /// No single wait here takes longer on a machine that is not broken.
    const DEADLINE: Duration = Duration::from_secs(10);
    const TEST_BOUNDS: Bounds = Bounds { connections_max: 64, answer_ms_max: 500 };

    struct Idle;

    impl Role for Idle {
        fn readiness(&self) -> Readiness {
            Readiness { ready: true, missing: Vec::new() }
        }

        async fn status(&self) -> serde_json::Value {
            serde_json::Value::Null
        }

        fn metrics(&self) -> String {
            String::new()
        }
    }

    async fn serve_pages() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve_within(TEST_BOUNDS, listener, Arc::new(Idle), Router::new(), std::future::pending()));
        address
    }

    /// Whether `/health/live` answers; a refusal is an end of the connection.
    async fn is_live(address: SocketAddr) -> bool {
        let asked = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            io::Result::Ok(answer.ends_with("live\n"))
        };
        timeout(DEADLINE, asked).await.unwrap().unwrap_or(false)
    }

    /// Waits for the end of a connection, whichever way it comes.
    async fn ended(mut stream: TcpStream) {
        let mut rest = Vec::new();
        let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.unwrap();
    }

    #[tokio::test]
    async fn idle_connections_are_bounded_further_ones_refused_at_once_and_all_end_in_time() {
        let address = serve_pages().await;
        let mut idle = Vec::new();
        for _ in 0..TEST_BOUNDS.connections_max {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let began = Instant::now();
        assert!(!is_live(address).await, "there is no room");
        assert!(began.elapsed() < Duration::from_millis(TEST_BOUNDS.answer_ms_max), "refused at once");
        for stream in idle {
            ended(stream).await;
        }
        assert!(is_live(address).await, "there is room again");
    }

    #[tokio::test]
    async fn a_client_that_never_finishes_its_request_is_cut_off() {
        let address = serve_pages().await;
        let (read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
        let drip = tokio::spawn(async move {
            let _ = write.write_all(b"GET /health/live HTTP/1.1\r\nx: ").await;
            while write.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
            write
        });
        let write = timeout(DEADLINE, drip).await.unwrap().unwrap();
        ended(read.reunite(write).unwrap()).await;
    }

    #[tokio::test]
    async fn a_connection_that_goes_on_asking_stays_open() {
        let address = serve_pages().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let until = Instant::now() + 2 * Duration::from_millis(TEST_BOUNDS.answer_ms_max);
        while Instant::now() < until {
            stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"live\n") {
                assert_ne!(timeout(DEADLINE, stream.read_buf(&mut answer)).await.unwrap().unwrap(), 0);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}
