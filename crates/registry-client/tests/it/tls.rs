use std::sync::Arc;

use http::StatusCode;
use oci_content::{Digest, Tag};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use registry_client::{Client, ClientOptions, ErrorKind, Http2, VerifyingSink};
use registry_server::{MemoryStore, RegistryServer, StoredManifest, tls_config};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::support::{Server, answer, name, options};

fn tag() -> Tag {
    "1.0".parse().unwrap()
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    fn pem(&self) -> Vec<u8> {
        self.certificate.pem().into_bytes()
    }

    fn issue(&self, host: &str, expired: bool) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        if expired {
            params.not_before = rcgen::date_time_ymd(2000, 1, 1);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn acceptor(&self, host: &str, expired: bool, clients: Option<&Self>) -> TlsAcceptor {
        let (certificate, key) = self.issue(host, expired);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.certificate.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .allow_unauthenticated()
                        .build()
                        .unwrap();
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()))
    }
}

/// Loopback speaks plain HTTP unless the options say otherwise.
fn over_tls(server: &Server, authority: &Authority) -> ClientOptions {
    let mut options = options();
    options.extra_roots.push(authority.pem());
    let host = options.hosts.entry(server.host.clone()).or_default();
    host.plain_http = Some(false);
    options
}

#[tokio::test]
async fn an_extra_root_is_trusted_and_nothing_else() {
    let authority = Authority::new();
    let server = Server::start_tls(authority.acceptor("127.0.0.1", false, None), |_, _| {
        answer(200).body("secure")
    })
    .await;
    let options = over_tls(&server, &authority);
    let reply = server
        .repository(options.clone())
        .get_manifest(&tag())
        .await;
    assert_eq!(reply.unwrap().body(), "secure");

    let mut strangers = options.clone();
    strangers.extra_roots = vec![Authority::new().pem()];
    let error = server
        .repository(strangers)
        .get_manifest(&tag())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls);
    assert!(error.url().unwrap().as_str().starts_with("https://"));
    assert_eq!(server.lines().len(), 1);
    for (host, expired) in [("other.test", false), ("127.0.0.1", true)] {
        let acceptor = authority.acceptor(host, expired, None);
        let server = Server::start_tls(acceptor, |_, _| answer(200)).await;
        let error = server
            .repository(over_tls(&server, &authority))
            .get_manifest(&tag())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{host} {expired}");
    }
}

/// What a server that speaks only one version of HTTP is asked for, and whether that succeeds: a manifest, and a blob.
async fn spoken(alpn: &str, http2: Http2) -> (Result<(), ErrorKind>, Result<(), ErrorKind>) {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("127.0.0.1", false);
    let (certificate, key) = (certificate.pem(), key.serialize_pem());
    let mut config = tls_config(certificate.as_bytes(), key.as_bytes()).unwrap();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    let store = MemoryStore::new();
    let digest = Digest::of(b"blob");
    store.insert_blob(&name("app"), digest.clone(), "blob".into());
    let manifest = StoredManifest::new("application/vnd.oci.image.index.v1+json", "{}");
    store.insert_manifest(&name("app"), Digest::of(b"{}"), manifest);
    store.insert_tag(&name("app"), tag(), Digest::of(b"{}"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = RegistryServer::builder(Arc::new(store))
        .build()
        .serve_tls(listener, Arc::new(config))
        .unwrap();
    let host = server.addr().to_string();
    let mut options = options();
    options.http2 = http2;
    options.extra_roots.push(authority.pem());
    options.hosts.entry(host.clone()).or_default().plain_http = Some(false);
    let client = Client::new(options).unwrap();
    let repository = client.repository(&host.parse().unwrap(), &name("app"));
    let manifest = repository.get_manifest(&tag()).await;
    let bytes = std::io::Cursor::new(Vec::new());
    let mut sink = VerifyingSink::new(bytes, digest.clone(), 4).unwrap();
    let blob = repository.pull_blob(&digest, 4, &mut sink).await;
    let manifest = manifest.map(|answer| assert_eq!(answer.body(), "{}"));
    (
        manifest.map_err(|error| error.kind()),
        blob.map_err(|error| error.kind()),
    )
}

#[tokio::test]
async fn small_requests_share_a_connection_and_blobs_do_not() {
    let refused = Err(ErrorKind::Tls);
    for (http2, over_2, over_1) in [
        (Http2::default(), (Ok(()), refused), (Ok(()), Ok(()))),
        (Http2::Everything, (Ok(()), Ok(())), (Ok(()), Ok(()))),
        (Http2::Nothing, (refused, refused), (Ok(()), Ok(()))),
    ] {
        assert_eq!(spoken("h2", http2).await, over_2, "{http2:?}");
        assert_eq!(spoken("http/1.1", http2).await, over_1, "{http2:?}");
    }
}

#[tokio::test]
async fn options_that_cannot_be_read_are_an_error_at_once() {
    let mut junk = options();
    junk.extra_roots.push(b"not a certificate".to_vec());
    let mut broken = options();
    broken
        .extra_roots
        .push(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec());
    let mut identity = options();
    identity.client_identity = Some(b"secret".to_vec());
    for options in [junk, broken, identity] {
        let error = Client::new(options).unwrap_err();
        assert!(!format!("{error:?}").contains("secret"));
    }
}

#[tokio::test]
async fn https_never_leads_to_plain_http() {
    let plain = Server::start(|_, _| answer(200)).await;
    let target = plain.url("/x");
    let authority = Authority::new();
    let server = Server::start_tls(authority.acceptor("127.0.0.1", false, None), move |_, _| {
        answer(302).header("Location", &target)
    })
    .await;
    let repository = server.repository(over_tls(&server, &authority));
    let error = repository.get_manifest(&tag()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Redirect);
    assert!(error.to_string().contains("leads to plain HTTP"), "{error}");
    assert!(plain.lines().is_empty());
}

#[tokio::test]
async fn the_client_certificate_is_shown_to_the_registry_and_to_no_one_else() {
    let authority = Authority::new();
    let clients = Authority::new();
    let (certificate, key) = clients.issue("client", false);
    let identity = format!("{}{}", certificate.pem(), key.serialize_pem());
    // Both servers ask for a certificate of `clients`; who shows none is served all the same, so what was
    // shown is told by a server that demands one: it is reached only with the certificate.
    let demanding = |authority: &Authority| {
        let (certificate, key) = authority.issue("127.0.0.1", false);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(clients.certificate.der().clone()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    };
    let other = Server::start_tls(demanding(&authority), |_, _| answer(200)).await;
    let target = other.url("/x");
    let server = Server::start_tls(demanding(&authority), move |seen, _| {
        match seen.target.ends_with("2.0") {
            true => answer(302).header("Location", &target),
            false => answer(200),
        }
    })
    .await;
    let mut options = over_tls(&server, &authority);
    let error = server
        .repository(options.clone())
        .get_manifest(&tag())
        .await
        .unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Tls | ErrorKind::Reset),
        "no certificate: {error:?}"
    );
    options.client_identity = Some(identity.into_bytes());
    let repository = server.repository(options);
    let reply = repository.get_manifest(&tag()).await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    let moved: Tag = "2.0".parse().unwrap();
    assert!(repository.get_manifest(&moved).await.is_err());
    assert!(
        other.lines().is_empty(),
        "the other server saw no certificate"
    );
}

#[tokio::test]
async fn a_realm_at_another_https_host_is_asked_and_a_plain_one_is_not() {
    let authority = Authority::new();
    let token = Server::start_tls(authority.acceptor("127.0.0.1", false, None), |_, _| {
        answer(200).body(r#"{"token":"good"}"#)
    })
    .await;
    let realm = token.url("/token");
    let server = Server::start_tls(
        authority.acceptor("127.0.0.1", false, None),
        move |seen, _| match seen.authorization() {
            Some("Bearer good") => answer(200),
            _ => answer(401).header("WWW-Authenticate", &format!("Bearer realm=\"{realm}\"")),
        },
    )
    .await;
    let repository = server.repository(over_tls(&server, &authority));
    let reply = repository.get_manifest(&tag()).await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    assert_eq!(token.lines().len(), 1);
}

#[tokio::test]
async fn a_body_that_tls_cuts_off_is_broken_and_not_complete() {
    let authority = Authority::new();
    let server = Server::start_tls(authority.acceptor("127.0.0.1", false, None), |_, _| {
        // Neither a length nor the end of the session says that this is all.
        answer(200).body("half").length(None).reset()
    })
    .await;
    let repository = server.repository(over_tls(&server, &authority));
    let error = repository.get_manifest(&tag()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reset);
}

#[tokio::test]
async fn plain_http_is_spoken_where_options_or_loopback_say_so() {
    let server = Server::start(|_, _| answer(200)).await;
    let (_, port) = server.host.rsplit_once(':').unwrap();
    let get = async |host: String, options: ClientOptions| {
        let client = Client::new(options).unwrap();
        let repository = client.repository(&host.parse().unwrap(), &name("a"));
        let reply = repository.get_manifest(&tag()).await;
        reply
            .map(|reply| reply.status())
            .map_err(|error| error.kind())
    };
    // 0.0.0.0 reaches the same socket, but is not the name of this machine.
    let host = format!("0.0.0.0:{port}");
    let mut named = options();
    named.plain_http.insert(host.clone());
    assert_eq!(get(host.clone(), named.clone()).await, Ok(StatusCode::OK));
    assert_eq!(
        get(server.host.clone(), options()).await,
        Ok(StatusCode::OK)
    );

    // Whatever else is told to speak TLS finds no TLS here.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let plain = tokio::spawn(async move {
        loop {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    let elsewhere = format!("0.0.0.0:{}", address.port());
    assert_eq!(get(elsewhere, named.clone()).await, Err(ErrorKind::Tls));
    named
        .hosts
        .entry(address.to_string())
        .or_default()
        .plain_http = Some(false);
    let loopback = address.to_string();
    assert_eq!(get(loopback, named).await, Err(ErrorKind::Tls));
    plain.abort();
}
