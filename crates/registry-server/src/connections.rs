use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::serve::Listener;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

/// What clients may take of a server before they have asked for anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    pub(crate) max_connections: usize,
    /// For the head of a request, from the first moment that it could come.
    pub(crate) head_timeout: Duration,
    /// For answers that are under way when the server is stopped.
    pub(crate) shutdown_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            // Longer than clients keep idle connections, so that none is closed under a request.
            head_timeout: Duration::from_secs(60),
            shutdown_timeout: Duration::from_secs(30),
        }
    }
}

/// Serves connections until `stopped`, and then as long as answers are under way and their time is not over.
pub(crate) async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    limits: ConnectionLimits,
    stopped: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stopped = pin!(stopped);
    loop {
        // Without a place nothing is accepted: a client then waits where the system keeps it.
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await.0)
        };
        let (place, connection) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stopped => break,
        };
        let served = connect(connection, router.clone(), limits, stopping.clone());
        connections.spawn(async move {
            served.await;
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
    drop((listener, stop));
    let ended = async { while connections.join_next().await.is_some() {} };
    // The others are cut off when the set is dropped.
    let _ended = timeout(limits.shutdown_timeout, ended).await;
}

/// Serves one connection until it ends, or until nothing is under way on it and the server stops.
async fn connect(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    limits: ConnectionLimits,
    mut stopping: watch::Receiver<()>,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.head_timeout);
    let service = TowerToHyperService::new(router);
    let io = TokioIo::new(Prompt::new(io, limits.head_timeout));
    let mut connection = pin!(builder.serve_connection(io, service));
    // A client that breaks off learns it from its own side; there is nobody else to tell.
    tokio::select! {
        _ended = &mut connection => return,
        // Never sent, only dropped.
        _stopped = stopping.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ended = connection.await;
}

/// A connection that fails unless its first bytes come in time: as many as tell HTTP/2 from HTTP/1.1, before which the time for a
/// head does not run.
struct Prompt<IO> {
    io: IO,
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

/// <https://www.rfc-editor.org/rfc/rfc9113#section-3.4>
const PREFACE_BYTES: usize = 24;

impl<IO> Prompt<IO> {
    fn new(io: IO, time: Duration) -> Self {
        Self {
            io,
            missing: PREFACE_BYTES,
            deadline: Box::pin(sleep(time)),
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Prompt<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.missing > 0 && self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        self.missing = self.missing.saturating_sub(read);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prompt<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
