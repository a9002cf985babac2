use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::serve::{Listener, ListenerExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::connections;
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
        let address = listener.local_addr()?;
        let listener = listener.tap_io(|connection| {
            // Otherwise a small answer can wait for the client's next acknowledgement. A failure
            // costs only that wait.
            let _refused = connection.set_nodelay(true);
        });
        Ok(self.run(address, listener))
    }

    /// Serves over TLS on `listener` until the handle is shut down or dropped.
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
        &self,
        listener: TcpListener,
        config: Arc<rustls::ServerConfig>,
    ) -> io::Result<RunningServer> {
        let address = listener.local_addr()?;
        let most = self.shared.connections.max_connections;
        let listener = crate::tls::TlsListener::new(listener, config, most);
        Ok(self.run(address, listener))
    }

    fn run<L>(&self, address: SocketAddr, listener: L) -> RunningServer
    where
        L: Listener<Addr = SocketAddr>,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let service = self.router();
        let limits = self.shared.connections;
        let task = tokio::spawn(async move {
            let stopped = async move {
                // A message and a dropped sender both mean stop.
                let _sent = stopped.await;
            };
            connections::serve(listener, service, limits, stopped).await;
        });
        RunningServer {
            address,
            stop: Some(stop),
            task: Some(task),
        }
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
