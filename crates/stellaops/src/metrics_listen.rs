//! `--metrics-listen`: metrics over HTTP while a command runs, and afterwards for as long as requested.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, Method, StatusCode};
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::exit::{Exit, Failure};
use crate::metrics::Metrics;

/// Serves the metrics until the process ends.
pub(crate) struct MetricsServer {
    state: Arc<State>,
}

struct State {
    metrics: Arc<Metrics>,
    /// Whether the command has ended, so that the numbers are final.
    ended: AtomicBool,
    /// Notified when the final numbers have been read.
    read: Notify,
}

impl MetricsServer {
    pub(crate) async fn start(address: SocketAddr, metrics: Arc<Metrics>) -> Result<Self, Failure> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            let message = format!("--metrics-listen {address}: {error}");
            Failure::new(Exit::LocalIo, message)
        })?;
        let state = Arc::new(State {
            metrics,
            ended: AtomicBool::new(false),
            read: Notify::new(),
        });
        let accepted = Arc::clone(&state);
        tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(answer(stream, Arc::clone(&accepted)))),
                    // Out of files, for example, which passes.
                    Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
                }
            }
        });
        Ok(Self { state })
    }

    /// Waits after the end of the command until the metrics have been read once, or the time is over.
    pub(crate) async fn linger(&self, time: Duration) {
        let read = self.state.read.notified();
        self.state.ended.store(true, Ordering::SeqCst);
        // It is not a failure if nobody reads them.
        drop(tokio::time::timeout(time, read).await);
    }
}

/// Answers one request. A client that sends or reads nothing does not hold up others.
async fn answer(stream: TcpStream, state: Arc<State>) {
    const TIME: Duration = Duration::from_secs(10);
    const TEXT: [(HeaderName, &str); 1] = [(CONTENT_TYPE, "text/plain; version=0.0.4")];
    let are_last = Arc::new(AtomicBool::new(false));
    let metrics = {
        let (state, are_last) = (Arc::clone(&state), Arc::clone(&are_last));
        move |method: Method| async move {
            // Read before the numbers are taken: numbers from before the end are not final.
            let ended = state.ended.load(Ordering::SeqCst);
            // A HEAD does not read the numbers.
            are_last.store(ended && method == Method::GET, Ordering::SeqCst);
            (TEXT, state.metrics.render())
        }
    };
    let router = Router::new().route("/metrics", get(metrics)).fallback((
        StatusCode::NOT_FOUND,
        TEXT,
        "metrics are at /metrics\n",
    ));
    let mut server = Builder::new(TokioExecutor::new());
    server.http1().keep_alive(false);
    let connection =
        server.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let answered = tokio::time::timeout(TIME, connection).await;
    if matches!(answered, Ok(Ok(()))) && are_last.load(Ordering::SeqCst) {
        state.read.notify_waiters();
    }
}
