//! `--metrics-listen`: the metrics over HTTP, while a command runs and for as long afterwards as is asked for.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::exit::{Exit, Failure};
use crate::metrics::Metrics;

/// Serves the metrics for as long as the process runs.
pub(crate) struct MetricsServer {
    state: Arc<State>,
}

struct State {
    metrics: Arc<Metrics>,
    /// Whether the numbers are the last ones.
    ended: AtomicBool,
    /// Told when the last numbers were read.
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
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&accepted)));
            }
        });
        Ok(Self { state })
    }

    /// Waits, when the command has ended, until the metrics have been read once or the time is over.
    pub(crate) async fn linger(&self, time: Duration) {
        let read = self.state.read.notified();
        self.state.ended.store(true, Ordering::SeqCst);
        // That nobody came is no failure.
        drop(tokio::time::timeout(time, read).await);
    }
}

/// Answers one request. A client that sends none, or reads nothing, does not hold up others.
async fn answer(mut stream: TcpStream, state: Arc<State>) {
    const TIME: Duration = Duration::from_secs(10);
    let exchange = async {
        let path = requested(&mut stream).await?;
        // Before the numbers are taken: those of before the end are not the last.
        let ended = state.ended.load(Ordering::SeqCst);
        let is_metrics = path == "/metrics";
        let (status, body) = match is_metrics {
            true => ("200 OK", state.metrics.render()),
            false => ("404 Not Found", "metrics are at /metrics\n".to_owned()),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(body.as_bytes()).await.ok()?;
        stream.shutdown().await.ok()?;
        // The reader closes when it has everything.
        stream.read_u8().await.ok();
        if ended && is_metrics {
            state.read.notify_waiters();
        }
        Some(())
    };
    drop(tokio::time::timeout(TIME, exchange).await);
}

/// Reads the head of a request; returns the path, without its query, if it is a GET.
async fn requested(stream: &mut TcpStream) -> Option<String> {
    const MAX_BYTES: usize = 16 << 10;
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > MAX_BYTES || stream.read_buf(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.split_ascii_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    let path = target.split('?').next().filter(|_| method == "GET");
    Some(path.unwrap_or_default().to_owned())
}
