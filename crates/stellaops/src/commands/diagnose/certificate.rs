use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::extensions::GeneralName;

/// The contents of a certificate. It is only shown; nothing is decided by it.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    /// The names and addresses that the certificate is valid for.
    pub(super) names: Vec<String>,
    /// Whether the certificate says that it may sign others.
    pub(super) is_authority: bool,
}

impl Certificate {
    fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let time = |seconds: i64| match u64::try_from(seconds) {
            Ok(seconds) => UNIX_EPOCH.checked_add(Duration::from_secs(seconds)),
            Err(_) => Some(UNIX_EPOCH),
        };
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.map_or(Vec::new(), |names| {
            let names = names.value.general_names.iter();
            names.filter_map(name).collect()
        });
        Some(Self {
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            not_before: time(certificate.validity().not_before.timestamp())?,
            not_after: time(certificate.validity().not_after.timestamp())?,
            names,
            is_authority: certificate.is_ca(),
        })
    }

    pub(super) fn line(&self) -> String {
        let subject = match (self.subject.as_str(), self.names.first()) {
            ("", Some(name)) => name,
            ("", None) => "(no name)",
            (subject, _) => subject,
        };
        format!(
            "{subject}, from {}, valid {} to {}",
            self.issuer(),
            day(self.not_before),
            day(self.not_after)
        )
    }

    pub(super) fn issuer(&self) -> &str {
        match self.issuer.as_str() {
            "" => "(no name)",
            issuer => issuer,
        }
    }

    pub(super) fn is_self_signed(&self) -> bool {
        self.subject == self.issuer
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            16 => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// Formats a time as its day in UTC.
pub(super) fn day(time: SystemTime) -> String {
    let text = humantime::format_rfc3339_seconds(time.min(last_second())).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}

/// Returns the end of the year 9999, the last time that has a name in RFC 3339.
fn last_second() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(253_402_300_799)
}

/// A verifier that delegates to another and records the certificates that were shown.
#[derive(Debug)]
pub(super) struct Witness {
    judge: Arc<dyn ServerCertVerifier>,
    chain: Mutex<Vec<Certificate>>,
    shown: Mutex<usize>,
}

impl Witness {
    pub(super) fn new(judge: Arc<dyn ServerCertVerifier>) -> Arc<Self> {
        Arc::new(Self {
            judge,
            chain: Mutex::default(),
            shown: Mutex::default(),
        })
    }

    /// Returns the chain in the server's order, as far as it can be parsed.
    pub(super) fn chain(&self) -> Vec<Certificate> {
        self.chain
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns whether the server showed a certificate, and therefore speaks TLS.
    pub(super) fn saw_any(&self) -> bool {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) > 0
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) =
            chain.filter_map(|der| Certificate::read(der)).collect();
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = 1 + intermediates.len();
        self.judge
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[rustls::DistinguishedName]> {
        self.judge.root_hint_subjects()
    }
}
