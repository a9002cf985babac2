//! The certificates that connections trust and show.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oci_content::Registry;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError,
    SignatureScheme,
};
use rustls_platform_verifier::Verifier;
use x509_parser::certificate::X509Certificate;

use crate::build_error::BuildError;
use crate::certs_folder;
use crate::options::ClientOptions;
use crate::pem::{certificates, identity, provider};

/// The certificates that connections to one registry trust and show.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsSettings {
    /// Root certificates in addition to the platform's.
    pub(crate) roots: Vec<CertificateDer<'static>>,
    /// Client certificates, each with its key.
    pub(crate) identities: Vec<Arc<CertifiedKey>>,
    /// The server whose certificate is not verified.
    pub(crate) unverified: Option<ServerName<'static>>,
}

impl TlsSettings {
    /// Collects the settings for all registries.
    pub(crate) fn general(options: &ClientOptions) -> Result<Self, BuildError> {
        let mut settings = Self::default();
        for pem in &options.extra_roots {
            settings.roots.extend(certificates(pem)?);
        }
        if let Some(pem) = &options.client_identity {
            settings.identities.push(identity(pem)?);
        }
        Ok(settings)
    }

    /// Collects the settings for `registry`; `None` if it has none of its own.
    ///
    /// Root certificates are combined. The most specific client certificates are used: those from
    /// the options of the registry, else the general one, else those of a folder.
    pub(crate) fn of(
        options: &ClientOptions,
        registry: &Registry,
    ) -> Result<Option<Self>, BuildError> {
        let host = options.host(registry);
        let files = certs_folder::read(&options.certs_folders, registry)?;
        let special = host.is_some_and(|host| host.has_tls()) || !files.is_empty();
        if !special {
            return Ok(None);
        }
        let mut settings = Self::general(options)?;
        if settings.identities.is_empty() {
            settings.identities = files.identities;
        }
        settings.roots.extend(files.roots);
        if let Some(host) = host {
            for pem in &host.extra_roots {
                settings.roots.extend(certificates(pem)?);
            }
            if let Some(pem) = &host.client_identity {
                settings.identities = vec![identity(pem)?];
            }
            if host.insecure {
                settings.unverified = server_name(registry);
            }
        }
        Ok(Some(settings))
    }

    pub(crate) fn verifier(
        &self,
        proxy_speaks_tls: bool,
    ) -> Result<Arc<dyn ServerCertVerifier>, BuildError> {
        let platform = Verifier::new_with_extra_roots(self.roots.clone(), provider())
            .map_err(|e| BuildError::new("certificates cannot be checked on this machine", e))?;
        Ok(Arc::new(ServerVerifier {
            platform,
            roots: self.roots.clone(),
            unverified: self.unverified.clone(),
            proxy_speaks_tls,
        }))
    }

    /// Returns the configuration of connections that are verified by `verifier`.
    pub(crate) fn config(
        &self,
        verifier: Arc<dyn ServerCertVerifier>,
    ) -> Result<ClientConfig, BuildError> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| BuildError::new("TLS cannot be set up", e))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        Ok(if self.identities.is_empty() {
            builder.with_no_client_auth()
        } else {
            let identities = Identities(self.identities.clone());
            builder.with_client_cert_resolver(Arc::new(identities))
        })
    }
}

impl ClientOptions {
    /// Returns the verifier that a [`Client`](crate::Client) with these options uses for the
    /// certificate of `registry`.
    ///
    /// - It trusts the platform's roots, `extra_roots` and those of the registry.
    /// - A server certificate that is identical to one of the extra roots is trusted even if it is
    ///   that of an authority (`CA:TRUE`, as created by `openssl req -x509`). Its name, dates and
    ///   purpose are checked as usual.
    /// - With [`HostOptions::insecure`](crate::HostOptions::insecure) every certificate is
    ///   accepted.
    ///
    /// # Errors
    /// When a certificate or a key cannot be read.
    pub fn server_verifier(
        &self,
        registry: &Registry,
    ) -> Result<Arc<dyn ServerCertVerifier>, BuildError> {
        self.tls_settings(registry)?.verifier(false)
    }

    /// Returns the TLS configuration that a [`Client`](crate::Client) with these options uses for
    /// `registry`. `verifier` is the one from [`server_verifier`](Self::server_verifier), or one
    /// that wraps it.
    ///
    /// # Errors
    /// When a certificate or a key cannot be read.
    pub fn tls_config(
        &self,
        registry: &Registry,
        verifier: Arc<dyn ServerCertVerifier>,
    ) -> Result<ClientConfig, BuildError> {
        self.tls_settings(registry)?.config(verifier)
    }

    fn tls_settings(&self, registry: &Registry) -> Result<TlsSettings, BuildError> {
        match TlsSettings::of(self, registry)? {
            Some(settings) => Ok(settings),
            None => TlsSettings::general(self),
        }
    }

    /// Checks that `pem` is valid for [`extra_roots`](Self::extra_roots): it contains root
    /// certificates that can be read.
    ///
    /// # Errors
    /// When it contains none, or one that cannot be read.
    pub fn check_roots(pem: &[u8]) -> Result<(), BuildError> {
        certificates(pem).map(drop)
    }

    /// Checks that `pem` is valid for [`client_identity`](Self::client_identity): it contains a
    /// client certificate and its key.
    ///
    /// # Errors
    /// When one of them is missing or cannot be read, or when they do not belong together.
    pub fn check_identity(pem: &[u8]) -> Result<(), BuildError> {
        identity(pem).map(drop)
    }
}

fn server_name(registry: &Registry) -> Option<ServerName<'static>> {
    let url = url::Url::parse(&format!("https://{}/", registry.api_host())).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    ServerName::try_from(host).ok()
}

/// Chooses among client certificates as Go's clients do: one from an authority that the server
/// names.
#[derive(Debug)]
struct Identities(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Identities {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        schemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let usable = || {
            self.0
                .iter()
                .filter(|identity| identity.key.choose_scheme(schemes).is_some())
        };
        let named = |identity: &&Arc<CertifiedKey>| {
            identity.cert.iter().any(|certificate| {
                read(certificate)
                    .is_some_and(|read| root_hint_subjects.contains(&read.issuer().as_raw()))
            })
        };
        usable().find(named).or_else(|| usable().next()).cloned()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Verifies certificates as the platform does, and also trusts those that were configured as they
/// are.
struct ServerVerifier {
    platform: Verifier,
    roots: Vec<CertificateDer<'static>>,
    unverified: Option<ServerName<'static>>,
    /// Whether the configuration is also used for TLS with a proxy, which must be verified.
    proxy_speaks_tls: bool,
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerVerifier")
            .field("roots", &self.roots.len())
            .field("unverified", &self.unverified)
            .finish_non_exhaustive()
    }
}

impl ServerVerifier {
    /// A certificate that cannot be verified may have a key or a format that does not allow
    /// verifying signatures either.
    fn signature(
        &self,
        checked: Result<HandshakeSignatureValid, rustls::Error>,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        match checked {
            Err(_) if self.unverified.is_some() && !self.proxy_speaks_tls => {
                Ok(HandshakeSignatureValid::assertion())
            }
            checked => checked,
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.unverified.as_ref() == Some(server_name) {
            return Ok(ServerCertVerified::assertion());
        }
        let refused = match self.platform.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        ) {
            Ok(verified) => return Ok(verified),
            Err(refused) => refused,
        };
        let is_root = self
            .roots
            .iter()
            .any(|root| root.as_ref() == end_entity.as_ref());
        let revoked = matches!(
            refused,
            rustls::Error::InvalidCertificate(CertificateError::Revoked)
        );
        if is_root && !revoked {
            return trusted_itself(end_entity, server_name, now);
        }
        Err(real_reason(refused, end_entity, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(
            self.platform
                .verify_tls12_signature(message, certificate, signature),
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(
            self.platform
                .verify_tls13_signature(message, certificate, signature),
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.platform.supported_verify_schemes()
    }
}

/// Checks the name, the dates and the purpose of a certificate that is trusted as it is.
fn trusted_itself(
    certificate: &CertificateDer<'_>,
    name: &ServerName<'_>,
    now: UnixTime,
) -> Result<ServerCertVerified, rustls::Error> {
    let bad = rustls::Error::InvalidCertificate(CertificateError::BadEncoding);
    verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
    let read = read(certificate).ok_or(bad)?;
    if let Some(outside) = outside_dates(&read, now) {
        return Err(rustls::Error::InvalidCertificate(outside));
    }
    let purposes = read
        .extended_key_usage()
        .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
    match purposes {
        Some(purposes) if !purposes.value.server_auth && !purposes.value.any => Err(
            rustls::Error::InvalidCertificate(CertificateError::InvalidPurpose),
        ),
        _ => Ok(ServerCertVerified::assertion()),
    }
}

/// Returns the real reason of a rejection if webpki first complains that the certificate is an
/// authority's.
fn real_reason(
    refused: rustls::Error,
    certificate: &CertificateDer<'_>,
    now: UnixTime,
) -> rustls::Error {
    if !matches!(
        refused,
        rustls::Error::InvalidCertificate(CertificateError::Other(_))
    ) {
        return refused;
    }
    let Some(read) = read(certificate) else {
        return refused;
    };
    let is_authority = read
        .basic_constraints()
        .is_ok_and(|constraints| constraints.is_some_and(|constraints| constraints.value.ca));
    let reason = match outside_dates(&read, now) {
        Some(outside) => outside,
        None if !is_authority => return refused,
        None if read.subject().as_raw() == read.issuer().as_raw() => {
            CertificateError::UnknownIssuer
        }
        None => CertificateError::Other(OtherError(Arc::new(AuthorityAsServer))),
    };
    rustls::Error::InvalidCertificate(reason)
}

fn outside_dates(certificate: &X509Certificate<'_>, now: UnixTime) -> Option<CertificateError> {
    let validity = certificate.validity();
    let time = |seconds: i64| {
        let seconds = u64::try_from(seconds).unwrap_or(0);
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    };
    let not_before = time(validity.not_before.timestamp());
    let not_after = time(validity.not_after.timestamp());
    if now < not_before {
        return Some(CertificateError::NotValidYetContext {
            time: now,
            not_before,
        });
    }
    (now > not_after).then_some(CertificateError::ExpiredContext {
        time: now,
        not_after,
    })
}

fn read<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (_, read) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(read)
}

/// The certificate of an authority (`CA:TRUE`) that a server uses as its own.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("it is the certificate of an authority (CA:TRUE), used by a server")]
struct AuthorityAsServer;

/// Describes why a session failed; `None` if the text of the error is good enough.
pub(crate) fn describe(error: &rustls::Error) -> Option<String> {
    let day = |time: &UnixTime| {
        let time = UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
        httpdate::fmt_http_date(time.unwrap_or(SystemTime::UNIX_EPOCH))
    };
    Some(match error {
        rustls::Error::InvalidCertificate(reason) => match reason {
            CertificateError::Expired => "the server's certificate has expired".to_owned(),
            CertificateError::ExpiredContext { not_after, .. } => {
                format!("the server's certificate expired on {}", day(not_after))
            }
            CertificateError::NotValidYet => "the server's certificate is not valid yet".to_owned(),
            CertificateError::NotValidYetContext { not_before, .. } => format!(
                "the server's certificate is not valid before {}",
                day(not_before)
            ),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the server's certificate is for another name".to_owned()
            }
            CertificateError::UnknownIssuer => {
                "the issuer of the server's certificate is not trusted".to_owned()
            }
            CertificateError::Other(OtherError(other)) => {
                format!("the server's certificate is rejected: {other}")
            }
            _ => return None,
        },
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server requires a client certificate".to_owned()
        }
        _ => return None,
    })
}
