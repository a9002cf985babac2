use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use oci_content::with_causes;
use registry_client::ClientOptions;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, Error};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::{Certificate, Witness, day};
use super::exchange::{self, Connection};
use super::finding::Finding;
use super::wire::Place;
use crate::exit::Exit;

const CHECK: &str = "TLS";
/// A certificate that expires sooner is reported.
const SOON: u64 = 14 * 24 * 60 * 60;

/// A session with the registry.
type Session = TlsStream<Box<dyn Connection>>;

/// Starts a TLS session and reports the certificates that were shown.
pub(super) async fn handshake(
    place: &Place,
    options: &ClientOptions,
    address: SocketAddr,
) -> Result<(Session, Finding), Finding> {
    let failed = |seen: String| Finding::failed(CHECK, Exit::Network, seen);
    let (connector, witness) = connector(place, options).map_err(|error| {
        failed(format!("the TLS settings for it cannot be used: {error}"))
            .cause(
                "a file of certificates or keys is broken, or the other half of a pair is missing",
            )
            .remedy("fix or remove that file")
    })?;
    let name = ServerName::try_from(place.host.clone()).map_err(|_| {
        failed(format!(
            "{} is not a name that a certificate can have",
            place.host
        ))
    })?;
    let stream = place
        .stream(address)
        .await
        .map_err(|error| failed(format!("the second connection failed: {error}")))?;
    let shaken = match timeout(place.timeout, connector.connect(name, stream)).await {
        Ok(shaken) => shaken,
        Err(_) => {
            return Err(failed(format!(
                "{} accepted the connection and then sent nothing for {}",
                place.peer(address),
                place.seconds()
            ))
            .cause("the server is overloaded, or a firewall drops what follows the connection")
            .remedy("try again with a longer --timeout; then ask the registry's operator"));
        }
    };
    let chain = witness.chain();
    match shaken {
        Ok(stream) => {
            let host = options.hosts.get(place.registry.as_str());
            let finding = if host.is_some_and(|host| host.insecure) {
                Finding::notice(CHECK, format!("{}, not verified", version(&stream)))
                    .details(chain.iter().map(Certificate::line))
                    .cause("--insecure or insecure_skip_verify names this registry")
                    .remedy("outside a lab, give its certificate with --ca-file FILE instead")
            } else {
                trusted(&stream, &chain)
            };
            Ok((stream, finding))
        }
        Err(error) => {
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
            let finding = match inner {
                Some(Error::InvalidCertificate(reason)) => refused(place, options, reason, &chain),
                Some(Error::InvalidMessage(_)) => not_tls(place, address).await,
                Some(Error::AlertReceived(alert)) => {
                    failed(format!("the server ended the handshake: {alert:?}"))
                        .cause("it has no certificate for this name, wants a client certificate, or is too old")
                        .remedy("check the name; for a client certificate give --client-cert and --client-key")
                }
                _ => failed(format!("the handshake broke off: {error}"))
                    .cause("the server, or something in front of it, does not speak TLS at this port")
                    .remedy("check the port in the reference"),
            };
            let shown = chain.iter().map(Certificate::line);
            Err(finding.details(shown))
        }
    }
}

/// Returns whether there is a TLS server at the address, trusted or not.
pub(super) async fn is_spoken(place: &Place, options: &ClientOptions, address: SocketAddr) -> bool {
    let (Ok((connector, witness)), Ok(name), Ok(stream)) = (
        connector(place, options),
        ServerName::try_from(place.host.clone()),
        place.stream(address).await,
    ) else {
        return false;
    };
    let shaken = timeout(place.timeout, connector.connect(name, stream)).await;
    matches!(shaken, Ok(Ok(_))) || witness.saw_any()
}

/// Returns when the first of the certificates that a registry shows ends, trusted or not; `None` if it shows none.
pub(super) async fn certificate_end(place: &Place, options: &ClientOptions) -> Option<SystemTime> {
    let (connector, witness) = connector(place, options).ok()?;
    let name = ServerName::try_from(place.host.clone()).ok()?;
    let (addresses, _) = place.resolve().await.ok()?;
    let (address, _) = place.connect(&addresses).await.ok()?;
    let stream = place.stream(address).await.ok()?;
    // What was shown counts, not whether it was accepted.
    drop(timeout(place.timeout, connector.connect(name, stream)).await);
    let chain = witness.chain();
    chain.iter().map(|certificate| certificate.not_after).min()
}

/// Verifies like the client, with the settings of this registry.
fn connector(
    place: &Place,
    options: &ClientOptions,
) -> Result<(TlsConnector, Arc<Witness>), String> {
    let judge = options.server_verifier(&place.registry);
    let witness = Witness::new(judge.map_err(|error| with_causes(&error))?);
    let verifier: Arc<Witness> = Arc::clone(&witness);
    let config = options.tls_config(&place.registry, verifier);
    let config = config.map_err(|error| with_causes(&error))?;
    Ok((TlsConnector::from(Arc::new(config)), witness))
}

fn version(stream: &Session) -> String {
    let (_, session) = stream.get_ref();
    session
        .protocol_version()
        .map_or("TLS".to_owned(), |version| format!("{version:?}"))
        .replace("TLSv1_", "TLS 1.")
}

fn trusted(stream: &Session, chain: &[Certificate]) -> Finding {
    let version = version(stream);
    let shown = chain.iter().map(Certificate::line);
    let ends = chain.iter().map(|certificate| certificate.not_after).min();
    let left = ends.and_then(|ends| ends.duration_since(SystemTime::now()).ok());
    match (ends, left) {
        (Some(ends), Some(left)) if left.as_secs() < SOON => Finding::notice(
            CHECK,
            format!(
                "{version}, trusted, but a certificate ends on {}",
                day(ends)
            ),
        )
        .details(shown)
        .remedy("ask the registry's operator to renew it before then"),
        _ => Finding::good(CHECK, format!("{version}, trusted")).details(shown),
    }
}

fn refused(
    place: &Place,
    options: &ClientOptions,
    reason: &CertificateError,
    chain: &[Certificate],
) -> Finding {
    let failed = |seen: String| Finding::failed(CHECK, Exit::Network, seen);
    let now = SystemTime::now();
    let today = format!("this machine's clock says {}", day(now));
    let late = chain.iter().find(|certificate| certificate.not_after < now);
    let early = chain
        .iter()
        .find(|certificate| certificate.not_before > now);
    let untrusted = || {
        let last = chain.last();
        let issuer = last.map_or("an authority", Certificate::issuer);
        let cause = if last.is_some_and(Certificate::is_self_signed) && chain.len() == 1 {
            "the registry's certificate is self-signed".to_owned()
        } else {
            "a company's own authority, a proxy that inspects TLS, or a registry that does not send \
                      its intermediate certificates"
                .to_owned()
        };
        let host = options.hosts.get(place.registry.as_str());
        let given = !options.extra_roots.is_empty()
            || host.is_some_and(|host| !host.extra_roots.is_empty());
        let given = if given {
            "; what --ca-file or ca_file names is another certificate"
        } else {
            ""
        };
        failed(format!(
            "the certificate is from {issuer}, which this machine does not trust{given}"
        ))
        .cause(cause)
        .remedy(format!(
            "get that authority's certificate, or the registry's own if it is self-signed, from the operator and \
             give it with --ca-file FILE; in a lab, --insecure {} does without",
            place.registry
        ))
    };
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            let ended = late.map_or("before today".to_owned(), |late| {
                format!("on {}", day(late.not_after))
            });
            failed(format!("the certificate ended {ended}; {today}"))
                .cause("it was not renewed in time, or this machine's clock is ahead")
                .remedy("check the clock (date -u); if it is right, the registry's operator must renew the certificate")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            let begins = early.map_or("later".to_owned(), |early| {
                format!("on {}", day(early.not_before))
            });
            failed(format!("the certificate begins {begins}; {today}"))
                .cause("this machine's clock is behind, or the certificate was made for later")
                .remedy("set the clock (date -u shows it; timedatectl set-ntp true keeps it right)")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = chain.first().map_or(&[][..], |leaf| &leaf.names).join(", ");
            let names = if names.is_empty() {
                "no name (a CN alone does not count, it needs a subjectAltName)"
            } else {
                &names
            };
            failed(format!(
                "the certificate is for {names}, not for {}",
                place.host
            ))
            .cause(
                "another server answers at this address, or the registry has another name",
            )
            .remedy(format!(
                "use one of those names in the reference, or check what {} leads to",
                place.host
            ))
        }
        CertificateError::Revoked => failed("the certificate has been revoked".to_owned())
            .cause("its key was lost or stolen, or it was replaced")
            .remedy("send nothing there; ask the registry's operator"),
        _ if late.is_some() => refused_late(late, &today),
        CertificateError::UnknownIssuer => untrusted(),
        CertificateError::Other(_) if chain.first().is_some_and(|leaf| leaf.is_authority) => {
            failed("the certificate is an authority's (CA:TRUE), used as the server's own".to_owned())
                .cause("it was made with the settings of an authority, and signed by another one")
                .remedy("give that certificate itself with --ca-file FILE, or have one made for the server (CA:FALSE)")
        }
        CertificateError::Other(other) => failed(format!("the certificate is refused: {}", other.0))
            .cause("it violates a rule for certificates")
            .remedy("ask the registry's operator for a new one, of X.509 version 3 with a subjectAltName"),
        other => failed(format!("the certificate is refused: {other}"))
            .cause("it violates a rule for certificates")
            .remedy("ask the registry's operator for a new one"),
    }
}

fn refused_late(late: Option<&Certificate>, today: &str) -> Finding {
    let ended = late.map_or("before today".to_owned(), |late| {
        format!("on {}", day(late.not_after))
    });
    Finding::failed(
        CHECK,
        Exit::Network,
        format!("the certificate ended {ended}; {today}"),
    )
    .cause("it was not renewed in time, or this machine's clock is ahead; its authority is not trusted either")
    .remedy("check the clock (date -u); if it is right, the registry's operator must renew the certificate")
}

/// Finds out what answers with something other than TLS.
async fn not_tls(place: &Place, address: SocketAddr) -> Finding {
    let registry = &place.registry;
    let answer = match place.stream(address).await {
        Ok(stream) => exchange::ask(stream, &place.first_request(), place.timeout)
            .await
            .ok(),
        Err(_) => None,
    };
    let failed = |seen: String| Finding::failed(CHECK, Exit::Network, seen);
    match answer {
        Some(answer) => failed(format!(
            "{registry} speaks plain HTTP, without TLS (it answered {})",
            answer.status
        ))
        .cause("the registry has no TLS at this port, or something in front of it terminates it")
        .remedy(format!(
            "use the port that has TLS; where plain HTTP is meant: --plain-http {registry}, which sends \
             credentials in the clear"
        )),
        None => failed(format!("what answers as {} speaks neither TLS nor HTTP", place.peer(address)))
            .cause("another service is at this port")
            .remedy("check the port in the reference"),
    }
}
