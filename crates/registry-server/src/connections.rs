use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::num::NonZeroUsize;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::serve::{Listener, ListenerExt as _};
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

use crate::server::RunningServer;

/// Limits on the connections of a server. [`RegistryServerBuilder`](crate::RegistryServerBuilder)
/// documents each limit and its default.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    pub(crate) max_connections: usize,
    /// The time for the head of a request, from the moment that it is expected.
    pub(crate) head_timeout: Duration,
    /// The time for [`PROGRESS_BYTES`] of a body, in either direction.
    pub(crate) stall_timeout: Duration,
    /// The time until the first correct password, if there are users.
    pub(crate) sign_in_timeout: Duration,
    /// The time for unfinished answers after the server is stopped.
    pub(crate) shutdown_timeout: Duration,
    /// Whether there are users.
    pub(crate) guarded: bool,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            // Longer than clients keep idle connections, so that none is closed while a request is
            // sent.
            head_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
            sign_in_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(30),
            guarded: false,
        }
    }
}

impl ConnectionLimits {
    /// Limits the number of open connections.
    #[must_use]
    pub fn max_connections(mut self, connections: NonZeroUsize) -> Self {
        self.max_connections = connections.get();
        self
    }

    /// Limits the time to the complete head of the next request.
    #[must_use]
    pub fn head_timeout(mut self, time: Duration) -> Self {
        self.head_timeout = time;
        self
    }

    /// Limits the time in which 16 KiB of a body, or its end, must be transferred.
    #[must_use]
    pub fn stall_timeout(mut self, time: Duration) -> Self {
        self.stall_timeout = time;
        self
    }

    /// Limits the time that unfinished answers have after the server was stopped.
    #[must_use]
    pub fn shutdown_timeout(mut self, time: Duration) -> Self {
        self.shutdown_timeout = time;
        self
    }

    /// Sets whether clients have to be [admitted](crate::Exchange::admitted): in time, and those
    /// that are not share half of the connections. Default: `false`.
    #[must_use]
    pub fn guarded(mut self, guarded: bool) -> Self {
        self.guarded = guarded;
        self
    }

    /// Serves `router` on `listener` until the handle is shut down or dropped.
    ///
    /// A handler that counts its requests with [`Exchange`](crate::Exchange) keeps their
    /// connections from being closed as idle.
    ///
    /// # Errors
    ///
    /// When the address of the listener cannot be determined.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn serve(self, listener: TcpListener, router: Router) -> io::Result<RunningServer> {
        let address = listener.local_addr()?;
        let listener = listener.tap_io(|connection| {
            // Otherwise a small answer can wait for the client's next acknowledgement. A failure
            // costs only that wait.
            let _refused = connection.set_nodelay(true);
        });
        Ok(RunningServer::start(address, listener, router, self))
    }

    /// Serves `router` over TLS on `listener` until the handle is shut down or dropped. Each
    /// handshake uses the configuration that is newest then.
    ///
    /// HTTP/2 is used if the client and `alpn_protocols` of the configuration agree on it; those of
    /// [`tls_config`](crate::tls_config) offer it. At most 256 handshakes run concurrently: one
    /// more replaces the oldest. A handshake may take 10 seconds.
    ///
    /// # Errors
    ///
    /// When the address of the listener cannot be determined.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[cfg(feature = "tls")]
    pub fn serve_tls(
        self,
        listener: TcpListener,
        router: Router,
        config: watch::Receiver<Arc<rustls::ServerConfig>>,
    ) -> io::Result<RunningServer> {
        let address = listener.local_addr()?;
        let listener = crate::tls::TlsListener::new(listener, config, self.max_connections);
        Ok(RunningServer::start(address, listener, router, self))
    }
}

/// The bytes of a body that must be transferred within the time. Single bytes now and then are not
/// progress.
pub(crate) const PROGRESS_BYTES: u64 = 16 * 1024;
/// How long a quiet connection is kept although another one waits for its place.
const QUIET: Duration = Duration::from_secs(5);
/// How long an idle connection may take to close when the server stops.
const FAREWELL: Duration = Duration::from_secs(1);
/// The concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 32;

/// Serves connections until `stopped`, and then until the answers are finished or their time is up.
pub(crate) async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    limits: ConnectionLimits,
    stopped: impl Future<Output = ()>,
) {
    let open = Arc::new(Open::default());
    let (stop, stopping) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut stopped = pin!(stopped);
    loop {
        let accepted = async {
            let io = listener.accept().await.0;
            // Accepts nothing while there is no place; new clients wait in the backlog of the
            // system.
            open.room(&limits).await;
            io
        };
        let io = tokio::select! {
            io = accepted => io,
            () = &mut stopped => break,
        };
        let (id, connection) = open.insert();
        let served = connect(io, router.clone(), limits, connection, stopping.clone());
        let open = Arc::clone(&open);
        connections.spawn(async move {
            served.await;
            open.remove(id);
        });
        while connections.try_join_next().is_some() {}
    }
    drop((listener, stop));
    let ended = async { while connections.join_next().await.is_some() {} };
    // Dropping the set cuts off the remaining connections.
    let _ended = timeout(limits.shutdown_timeout, ended).await;
}

/// The open connections, each of which has a place.
#[derive(Debug, Default)]
struct Open {
    table: Mutex<Table>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    connections: HashMap<u64, Arc<Connection>>,
}

impl Open {
    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing that happens under the lock can panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self) -> (u64, Arc<Connection>) {
        let mut table = self.lock();
        let id = table.next;
        table.next += 1;
        let connection = Arc::new(Connection::new());
        table.connections.insert(id, Arc::clone(&connection));
        (id, connection)
    }

    fn remove(&self, id: u64) {
        self.lock().connections.remove(&id);
        self.freed.notify_one();
    }

    /// Waits for a place, and closes a connection for it if one can go.
    async fn room(&self, limits: &ConnectionLimits) {
        while !self.has_room(limits) {
            // Becoming quiet is not an event, so look again.
            let _freed = timeout(QUIET / 20, self.freed.notified()).await;
        }
    }

    fn has_room(&self, limits: &ConnectionLimits) -> bool {
        let mut table = self.lock();
        let connections = &table.connections;
        let strangers = || {
            let all = connections.iter();
            all.filter(|(_, connection)| !connection.known.load(Ordering::Relaxed))
        };
        // Half of the places are for connections with a correct password. A new connection has not
        // sent one yet.
        let share = limits.max_connections.div_ceil(2);
        let victim = if limits.guarded && strangers().count() >= share {
            let oldest = strangers().min_by_key(|(_, connection)| connection.opened);
            oldest.map(|(id, _)| *id)
        } else if connections.len() >= limits.max_connections {
            let quiet = connections
                .iter()
                .filter(|(_, connection)| connection.is_quiet());
            let longest = quiet.min_by_key(|(_, connection)| connection.last_moved());
            longest.map(|(id, _)| *id)
        } else {
            return true;
        };
        let victim = victim.and_then(|id| table.connections.remove(&id));
        if let Some(victim) = &victim {
            victim.end.notify_one();
        }
        victim.is_some()
    }
}

/// The activity on a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    opened: Instant,
    /// The time of the last transfer, in milliseconds after the connection was opened.
    moved: AtomicU64,
    written: AtomicU64,
    /// Whether the client is not reading what is to be written.
    blocked: AtomicBool,
    requests: AtomicUsize,
    /// The number of requests that wait for their body.
    receiving: AtomicUsize,
    /// The number of answers whose body is not finished.
    answers: AtomicUsize,
    /// Whether a user has sent a correct password.
    known: AtomicBool,
    end: Notify,
}

/// The counter of a connection that a [`Running`] belongs to.
#[derive(Clone, Copy, Debug)]
enum Count {
    Requests,
    Receiving,
    Answers,
}

/// A unit of activity on a connection, which ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    connection: Arc<Connection>,
    count: Count,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.connection
            .count(self.count)
            .fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    fn new() -> Self {
        Self {
            opened: Instant::now(),
            moved: AtomicU64::new(0),
            written: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            receiving: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            known: AtomicBool::new(false),
            end: Notify::new(),
        }
    }

    fn count(&self, count: Count) -> &AtomicUsize {
        match count {
            Count::Requests => &self.requests,
            Count::Receiving => &self.receiving,
            Count::Answers => &self.answers,
        }
    }

    fn running(self: &Arc<Self>, count: Count) -> Running {
        self.count(count).fetch_add(1, Ordering::Relaxed);
        Running {
            connection: Arc::clone(self),
            count,
        }
    }

    /// Counts a request until its handler is done.
    pub(crate) fn request(self: &Arc<Self>) -> Running {
        self.running(Count::Requests)
    }

    /// Counts a request as one that waits for its body.
    pub(crate) fn receiving(self: &Arc<Self>) -> Running {
        self.running(Count::Receiving)
    }

    /// Counts an answer until its body is done.
    pub(crate) fn answer(self: &Arc<Self>) -> Running {
        self.running(Count::Answers)
    }

    /// Records that a user has sent a correct password.
    pub(crate) fn admitted(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    fn touch(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(now, Ordering::Relaxed);
    }

    fn last_moved(&self) -> Instant {
        self.opened + Duration::from_millis(self.moved.load(Ordering::Relaxed))
    }

    /// Returns whether nothing was transferred for a while and the server is not at work.
    fn is_quiet(&self) -> bool {
        let works = self.requests.load(Ordering::Relaxed) > self.receiving.load(Ordering::Relaxed);
        !works && self.last_moved().elapsed() >= QUIET
    }

    fn takes_nothing(&self) -> bool {
        self.answers.load(Ordering::Relaxed) > 0 || self.blocked.load(Ordering::Relaxed)
    }

    /// Waits until the connection must be closed: for another one, without a password in time, or
    /// because its client does not read an answer.
    async fn given_up(&self, limits: &ConnectionLimits) {
        let tick = (limits.stall_timeout.min(limits.sign_in_timeout) / 4)
            .clamp(Duration::from_millis(10), QUIET);
        let mut since = Instant::now();
        let mut before = 0;
        loop {
            tokio::select! {
                () = self.end.notified() => return,
                () = sleep(tick) => {}
            }
            let stranger = limits.guarded && !self.known.load(Ordering::Relaxed);
            if stranger && self.opened.elapsed() >= limits.sign_in_timeout {
                return;
            }
            let written = self.written.load(Ordering::Relaxed);
            if !self.takes_nothing() || written - before >= PROGRESS_BYTES {
                (since, before) = (Instant::now(), written);
            } else if since.elapsed() >= limits.stall_timeout {
                return;
            }
        }
    }

    /// Waits until nothing is active, after the server was stopped.
    async fn done(&self) {
        loop {
            sleep(FAREWELL).await;
            if self.requests.load(Ordering::Relaxed) == 0 && !self.takes_nothing() {
                return;
            }
        }
    }
}

/// Serves one connection until it ends, or until it is idle and the server stops.
async fn connect(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    limits: ConnectionLimits,
    own: Arc<Connection>,
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
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(limits.head_timeout);
    let service = TowerToHyperService::new(router.layer(Extension(Arc::clone(&own))));
    let io = TokioIo::new(Prompt::new(io, limits.head_timeout, Arc::clone(&own)));
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut given_up = pin!(own.given_up(&limits));
    // A client that disconnects knows it already, and nobody else needs to.
    tokio::select! {
        _ended = &mut connection => return,
        () = &mut given_up => return,
        // Nothing is ever sent, so this waits for the drop.
        _stopped = stopping.changed() => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ended = connection => {}
        () = given_up => {}
        () = own.done() => {}
    }
}

/// A connection that records its activity, and that fails unless its first bytes arrive in time:
/// those that distinguish HTTP/2 from HTTP/1.1, because the time for a head starts after them.
struct Prompt<IO> {
    io: IO,
    own: Arc<Connection>,
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

/// <https://www.rfc-editor.org/rfc/rfc9113#section-3.4>
const PREFACE_BYTES: usize = 24;

impl<IO> Prompt<IO> {
    fn new(io: IO, time: Duration, own: Arc<Connection>) -> Self {
        Self {
            io,
            own,
            missing: PREFACE_BYTES,
            deadline: Box::pin(sleep(time)),
        }
    }
}

impl<IO> Prompt<IO> {
    /// Records the result of a write.
    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.own
            .blocked
            .store(result.is_pending(), Ordering::Relaxed);
        if let Poll::Ready(Ok(count)) = &result {
            self.own.touch();
            self.own.written.fetch_add(*count as u64, Ordering::Relaxed);
        }
        result
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
        self.own.touch();
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prompt<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, parts);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.own
            .blocked
            .store(result.is_pending(), Ordering::Relaxed);
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
