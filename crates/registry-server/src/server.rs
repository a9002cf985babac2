use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::serve::Listener;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::connections::{self, ConnectionLimits};
use crate::dispatch::answer;
use crate::shared::Shared;

/// A registry over a [`Store`](crate::Store).
///
/// Cheap to clone; clones share the store and the upload sessions.
#[derive(Clone, Debug)]
pub struct RegistryServer {
    pub(crate) shared: Arc<Shared>,
}

impl RegistryServer {
    /// Returns the registry as a router, for use behind middleware or beside other routes.
    ///
    /// The router answers every path. Its endpoints begin with `/v2/`.
    pub fn router(&self) -> Router {
        Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&self.shared))
    }

    /// Answers one request, for a caller that owns the connection.
    ///
    /// # Cancellation
    ///
    /// A call of the store that has begun is finished, so the request may take effect although no
    /// answer is returned. An upload session keeps what it has received.
    pub async fn respond(&self, request: Request) -> Response {
        answer(State(Arc::clone(&self.shared)), request).await
    }

    /// Serves on `listener` until the handle is shut down or dropped.
    ///
    /// # Errors
    ///
    /// When the address of the listener cannot be determined.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn serve(&self, listener: TcpListener) -> io::Result<RunningServer> {
        self.shared.connections.serve(listener, self.router())
    }

    /// Serves over TLS on `listener` until the handle is shut down or dropped, as
    /// [`ConnectionLimits::serve_tls`](crate::ConnectionLimits::serve_tls) does.
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
        &self,
        listener: TcpListener,
        config: Arc<rustls::ServerConfig>,
    ) -> io::Result<RunningServer> {
        let config = tokio::sync::watch::channel(config).1;
        self.shared
            .connections
            .serve_tls(listener, self.router(), config)
    }
}

/// A running server. Dropping it stops the server: it accepts no new connections, and finishes the
/// answers that it has begun within the [shutdown
/// timeout](crate::RegistryServerBuilder::shutdown_timeout).
#[derive(Debug)]
pub struct RunningServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl RunningServer {
    pub(crate) fn start<L>(
        address: SocketAddr,
        listener: L,
        router: Router,
        limits: ConnectionLimits,
    ) -> Self
    where
        L: Listener<Addr = SocketAddr>,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            let stopped = async move {
                // A message and a dropped sender both mean stop.
                let _sent = stopped.await;
            };
            connections::serve(listener, router, limits, stopped).await;
        });
        Self {
            address,
            stop: Some(stop),
            task: Some(task),
        }
    }

    /// Returns the address that the server listens on.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops the server and waits for unfinished answers.
    ///
    /// # Cancellation
    ///
    /// Dropping the future does not interrupt those answers.
    pub async fn shutdown(mut self) {
        drop(self.stop.take());
        if let Some(task) = self.task.take() {
            // A panic in a connection does not end this task.
            let _ended = task.await;
        }
    }
}
