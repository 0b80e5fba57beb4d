//! One connection: requests are read and applied one after the other, answers go out in the same order.
//!
//! Applying ends when a request's effect has its place (records are appended, a member has joined); what has to be waited
//! for (a sync, new records, other members) is waited for by the writing half, while the reading half goes on. So a client
//! that pipelines lets its appends share a sync.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};
use tokio_util::{future::FutureExt as _, sync::CancellationToken};

use super::frame::{self, FrameError, Request};
use crate::{
    api::{self, Reply},
    broker::Core,
};

/// An answer on its way out, with the part of the budget that it holds.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) frame: Bytes,
    pub(crate) budget: Option<OwnedSemaphorePermit>,
}

/// Serves `stream` until the client leaves, breaks the protocol, is silent for too long, or the broker shuts down.
pub(crate) async fn serve(core: Arc<Core>, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let (reader, writer) = stream.into_split();
    let (replies, outgoing) = mpsc::channel(core.config.limits.connection_requests_max);
    let gone = CancellationToken::new();
    let frame_timeout = Duration::from_millis(core.config.limits.frame_timeout_ms);
    let writing = tokio::spawn(write(outgoing, writer, gone.clone(), frame_timeout));
    let ended = tokio::select! {
        ended = read(&core, reader, peer, replies) => ended,
        () = gone.cancelled() => Ok(Ended::Gone),
    };
    match ended {
        Ok(Ended::Shutdown) => {}
        Ok(Ended::Gone) => gone.cancel(),
        Err(error) => {
            gone.cancel();
            tracing::warn!(%peer, %error, "connection closed");
        }
    }
    // It ends by itself: the channel is closed, and every wait inside of an answer is bounded or ends with the shutdown.
    let _ = timeout(Duration::from_millis(core.config.limits.shutdown_ms), writing).await;
}

enum Ended {
    Gone,
    Shutdown,
}

async fn read(
    core: &Arc<Core>,
    mut reader: OwnedReadHalf,
    peer: SocketAddr,
    replies: mpsc::Sender<Reply>,
) -> Result<Ended, FrameError> {
    let limits = &core.config.limits;
    let idle = Duration::from_millis(limits.connection_idle_ms);
    let host = peer.ip().to_string();
    loop {
        let next = timeout(idle, frame::read_length(&mut reader, limits.request_bytes_max));
        let Some(next) = next.with_cancellation_token(&core.shutdown).await else {
            return Ok(Ended::Shutdown);
        };
        let bytes = match next {
            Ok(Ok(Some(bytes))) => bytes,
            Ok(Ok(None)) => return Ok(Ended::Gone),
            Ok(Err(FrameError::Io(error))) => {
                tracing::debug!(%peer, %error, "connection lost");
                return Ok(Ended::Gone);
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                tracing::debug!(%peer, "idle connection closed");
                return Ok(Ended::Gone);
            }
        };
        let budget = core.request_budget.acquire_many(u32::try_from(bytes).unwrap_or(u32::MAX)).await;
        let body = timeout(Duration::from_millis(limits.frame_timeout_ms), frame::read_body(&mut reader, bytes)).await;
        let body = body.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        let request = Request::parse(body, limits.admin_request_bytes_max)?;
        let reply = api::apply(core, &host, request).await?;
        drop(budget);
        if replies.send(reply).await.is_err() {
            return Ok(Ended::Gone);
        }
    }
}

async fn write(
    mut outgoing: mpsc::Receiver<Reply>,
    mut writer: OwnedWriteHalf,
    gone: CancellationToken,
    frame_timeout: Duration,
) {
    let answers = async {
        while let Some(reply) = outgoing.recv().await {
            let Outgoing { frame, budget } = match reply {
                Reply::Nothing => continue,
                Reply::Now(frame) => Outgoing { frame, budget: None },
                Reply::Later(answer) => answer.await?,
            };
            let written = timeout(frame_timeout, writer.write_all(&frame)).await;
            written.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
            drop(budget);
        }
        Ok::<(), FrameError>(())
    };
    match answers.with_cancellation_token(&gone).await {
        Some(Ok(())) | None => {}
        Some(Err(FrameError::Io(error))) => tracing::debug!(%error, "client does not take its answers"),
        Some(Err(error)) => tracing::warn!(%error, "connection closed"),
    }
    gone.cancel();
}
