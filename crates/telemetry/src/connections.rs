//! The connections of the pages, bounded in number and in time.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep, sleep},
};

/// Bounds of the connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Open connections; one more is closed at once.
    pub(crate) connections_max: usize,
    /// A connection is closed when no answer went out for this long: a request must have arrived and be answered within.
    pub(crate) answer_ms_max: u64,
}

/// Hands out connections within their bounds.
#[derive(Debug)]
pub(crate) struct BoundedListener {
    listener: TcpListener,
    room: Arc<Semaphore>,
    answer_wait: Duration,
}

impl BoundedListener {
    pub(crate) fn new(listener: TcpListener, bounds: Bounds) -> Self {
        let room = Arc::new(Semaphore::new(bounds.connections_max));
        Self { listener, room, answer_wait: Duration::from_millis(bounds.answer_ms_max) }
    }
}

impl Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (stream, address) = Listener::accept(&mut self.listener).await;
            // Without room the stream is dropped: a client that is refused knows it at once.
            if let Ok(place) = Arc::clone(&self.room).try_acquire_owned() {
                let silence = Box::pin(sleep(self.answer_wait));
                return (Connection { stream, silence, answer_wait: self.answer_wait, _place: place }, address);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when no answer goes out for too long, whatever its client sends meanwhile.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    answer_wait: Duration,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// Pending until the client has been without an answer for too long.
    fn lasts(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.silence.as_mut().poll(context));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(error) = self.lasts(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if let Poll::Ready(error) = self.lasts(context) {
            return Poll::Ready(Err(error));
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        let until = Instant::now() + self.answer_wait;
        self.silence.as_mut().reset(until);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
