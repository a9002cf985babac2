//! Certificates and keys in PEM files.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::build_error::BuildError;

/// Parses all certificates of a PEM file, at least one.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BuildError> {
    const WHAT: &str = "a root certificate cannot be read";
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| BuildError::new(WHAT, e))?;
    if found.is_empty() {
        return Err(BuildError::plain("it contains no certificate in PEM"));
    }
    let mut store = rustls::RootCertStore::empty();
    for certificate in &found {
        store
            .add(certificate.clone())
            .map_err(|e| BuildError::new(WHAT, e))?;
    }
    Ok(found)
}

/// Parses a client certificate with its chain and its key.
pub(crate) fn identity(pem: &[u8]) -> Result<Arc<CertifiedKey>, BuildError> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| BuildError::new("the client certificate cannot be read", e))?;
    if chain.is_empty() {
        return Err(BuildError::plain("there is no client certificate in PEM"));
    }
    // The error of the parser does not quote the key, but is not repeated to be safe.
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        BuildError::plain(
            "there is no private key for the client certificate in PEM (an encrypted key cannot be read)",
        )
    })?;
    CertifiedKey::from_der(chain, key, &provider())
        .map(Arc::new)
        .map_err(|e| BuildError::new("the client certificate and its key cannot be used", e))
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
