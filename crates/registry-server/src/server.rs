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

/// A registry over a [`Store`].
///
/// Cheap to clone; clones share the store and the upload sessions.
#[derive(Clone, Debug)]
pub struct RegistryServer {
    pub(crate) shared: Arc<Shared>,
}

impl RegistryServer {
    /// Returns the registry as a router, to be put behind middleware or beside other routes.
    ///
    /// It answers every path, and expects paths to begin with `/v2/`.
    pub fn router(&self) -> Router {
        Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&self.shared))
    }

    /// Answers one request, for a caller that owns the connection.
    ///
    /// # Cancellation
    ///
    /// A call of the store that has begun is finished, so what the request asks for may happen although no answer is
    /// returned. A body that is not read to its end leaves an upload session as far as it has come.
    pub async fn respond(&self, request: Request) -> Response {
        answer(State(Arc::clone(&self.shared)), request).await
    }

    /// Serves on `listener` until the handle is shut down or dropped.
    ///
    /// # Errors
    ///
    /// When the listener's own address cannot be had.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn serve(&self, listener: TcpListener) -> io::Result<RunningServer> {
        let address = listener.local_addr()?;
        let listener = listener.tap_io(|connection| {
            // Without it a small answer can wait for the client's next acknowledgement; refused, it only waits.
            let _refused = connection.set_nodelay(true);
        });
        Ok(self.run(address, listener))
    }

    /// Serves over TLS on `listener` until the handle is shut down or dropped.
    ///
    /// HTTP/2 is spoken where the client and `alpn_protocols` of the configuration agree on it, as they do with
    /// [`tls_config`](crate::tls_config). Handshakes are made beside each other, at most 256 at once; one that takes longer
    /// than 10 seconds is given up, and the oldest when there are more.
    ///
    /// # Errors
    ///
    /// When the listener's own address cannot be had.
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
                // Sent or dropped, both say stop.
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

/// A registry that is being served. Dropping it stops it: no new connection is taken, answers under way are
/// finished, if that takes no longer than [they may](RegistryServerBuilder::shutdown_timeout).
#[derive(Debug)]
pub struct RunningServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl RunningServer {
    /// Returns the address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops, and waits for the answers that are under way.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves those answers to finish on their own.
    pub async fn shutdown(mut self) {
        drop(self.stop.take());
        if let Some(task) = self.task.take() {
            // A panic in a connection is not one of this task.
            let _ended = task.await;
        }
    }
}
