use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a client may take for its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes under way at once; a further one ends the oldest.
const MAX_HANDSHAKES: usize = 256;

/// Makes the configuration of a server from PEM: its certificate, followed by those of the authorities between it and the
/// root, and its private key (PKCS#8, PKCS#1 or SEC1).
///
/// TLS 1.2 and 1.3 with the aws-lc-rs provider, HTTP/2 and HTTP/1.1 by ALPN, no client certificates.
///
/// # Errors
///
/// When either cannot be read, and when the key is not that of the certificate.
pub fn tls_config(certificates: &[u8], key: &[u8]) -> Result<ServerConfig, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("there is none in it".to_owned()));
    }
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Key(error.to_string()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    // Loaded here as well, so that what is wrong with the key is not told of the certificate.
    provider
        .key_provider
        .load_private_key(key.clone_key())
        .map_err(|error| TlsError::Key(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch,
            error => TlsError::Certificate(error.to_string()),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Why a certificate and a key make no TLS server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate cannot be used.
    #[error("no certificate that can be used (PEM): {0}")]
    Certificate(String),
    /// The private key cannot be used.
    #[error("no private key that can be used (PEM, without a passphrase): {0}")]
    Key(String),
    /// The key is not that of the certificate.
    #[error("the key is not that of the certificate, which has to come first in its file")]
    Mismatch,
}

/// A listener whose connections have finished their handshake.
pub(crate) struct TlsListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
    /// In the order in which they began; some may be over.
    oldest: VecDeque<AbortHandle>,
    max_handshakes: usize,
}

impl TlsListener {
    pub(crate) fn new(
        listener: TcpListener,
        config: Arc<ServerConfig>,
        max_connections: usize,
    ) -> Self {
        Self {
            listener,
            acceptor: config.into(),
            handshakes: JoinSet::new(),
            oldest: VecDeque::new(),
            max_handshakes: max_connections.min(MAX_HANDSHAKES),
        }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            tokio::select! {
                (connection, address) = Listener::accept(&mut self.listener) => {
                    while self.handshakes.len() >= self.max_handshakes {
                        // The oldest gives way; otherwise clients that never finish one would keep the others out.
                        let Some(oldest) = self.oldest.pop_front() else { break };
                        oldest.abort();
                        if !oldest.is_finished() {
                            break;
                        }
                    }
                    // As on a plain connection: a small answer must not wait for the client's next acknowledgement.
                    let _refused = connection.set_nodelay(true);
                    let handshake = timeout(HANDSHAKE_TIMEOUT, self.acceptor.accept(connection));
                    let handshake = self.handshakes.spawn(async move {
                        // A client that fails here learns it from its own side; there is nobody else to tell.
                        let stream = handshake.await.ok()?.ok()?;
                        Some((stream, address))
                    });
                    self.oldest.push_back(handshake);
                    while self.oldest.front().is_some_and(AbortHandle::is_finished) {
                        self.oldest.pop_front();
                    }
                }
                Some(finished) = self.handshakes.join_next() => {
                    if let Ok(Some(accepted)) = finished {
                        return accepted;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
