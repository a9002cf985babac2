use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::Listener;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of concurrent handshakes. One more replaces the oldest.
const MAX_HANDSHAKES: usize = 256;

/// Creates the configuration of a TLS server from PEM: its certificate, followed by the
/// intermediate certificates, and its private key (PKCS#8, PKCS#1 or SEC1).
///
/// TLS 1.2 and 1.3 with the aws-lc-rs provider, HTTP/2 and HTTP/1.1 by ALPN, no client
/// certificates.
///
/// # Errors
///
/// When either cannot be read, and when the key does not belong to the certificate.
pub fn tls_config(certificates: &[u8], key: &[u8]) -> Result<ServerConfig, TlsError> {
    server_config(certificates, key, None)
}

/// Creates the configuration of a TLS server like [`tls_config`], and demands certificates of
/// clients: those that one of `authorities` (PEM) has issued.
///
/// # Errors
///
/// As for [`tls_config`], and when there is no authority that can be used.
pub fn mutual_tls_config(
    certificates: &[u8],
    key: &[u8],
    authorities: &[u8],
) -> Result<ServerConfig, TlsError> {
    server_config(certificates, key, Some(authorities))
}

fn certificates_of(
    pem: &[u8],
    kind: TlsErrorKind,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::new(kind, error))?;
    if chain.is_empty() {
        return Err(TlsError::new(kind, pem::Error::NoItemsFound));
    }
    Ok(chain)
}

fn server_config(
    certificates: &[u8],
    key: &[u8],
    authorities: Option<&[u8]>,
) -> Result<ServerConfig, TlsError> {
    let chain = certificates_of(certificates, TlsErrorKind::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| TlsError::new(TlsErrorKind::Key, error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    // Loaded here too, so that a bad key is not reported as a bad certificate.
    provider
        .key_provider
        .load_private_key(key.clone_key())
        .map_err(|error| TlsError::new(TlsErrorKind::Key, error))?;
    let clients = match authorities {
        Some(authorities) => {
            let refused = |error| TlsError::new(TlsErrorKind::Authority, error);
            let mut roots = RootCertStore::empty();
            for authority in certificates_of(authorities, TlsErrorKind::Authority)? {
                roots.add(authority).map_err(refused)?;
            }
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| TlsError::new(TlsErrorKind::Authority, error))?
        }
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_client_cert_verifier(clients)
                .with_single_cert(chain, key)
        })
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::new(TlsErrorKind::Mismatch, error),
            error => TlsError::new(TlsErrorKind::Certificate, error),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Why a certificate and a key cannot be used for a TLS server.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct TlsError {
    kind: TlsErrorKind,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// The classes of [`TlsError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// The certificate is not PEM, or cannot be used.
    #[error("no certificate that can be used (PEM)")]
    Certificate,
    /// The certificates of authorities are not PEM, or cannot be used.
    #[error("no certificate of an authority that can be used (PEM)")]
    Authority,
    /// The private key is not PEM, has a passphrase, or cannot be used.
    #[error("no private key that can be used (PEM, without a passphrase)")]
    Key,
    /// The key belongs to another certificate than the first.
    #[error("the key does not belong to the certificate, which must come first in its file")]
    Mismatch,
}

impl TlsError {
    fn new(kind: TlsErrorKind, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        let source = Box::new(source);
        Self { kind, source }
    }

    /// Returns the class.
    pub fn kind(&self) -> TlsErrorKind {
        self.kind
    }
}

/// A listener that returns connections after their handshake.
pub(crate) struct TlsListener {
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
    handshakes: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
    /// In the order of their start. Some may have finished.
    oldest: VecDeque<AbortHandle>,
    max_handshakes: usize,
}

impl TlsListener {
    pub(crate) fn new(
        listener: TcpListener,
        config: watch::Receiver<Arc<ServerConfig>>,
        max_connections: usize,
    ) -> Self {
        Self {
            listener,
            config,
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
                        // Otherwise clients that never finish a handshake would keep the others
                        // out.
                        let Some(oldest) = self.oldest.pop_front() else { break };
                        oldest.abort();
                        if !oldest.is_finished() {
                            break;
                        }
                    }
                    // As without TLS, a small answer must not wait for the client's next
                    // acknowledgement.
                    let _refused = connection.set_nodelay(true);
                    let acceptor = TlsAcceptor::from(Arc::clone(&self.config.borrow()));
                    let handshake = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(connection));
                    let handshake = self.handshakes.spawn(async move {
                        // A client whose handshake fails knows it already, and nobody else needs
                        // to.
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
