use std::sync::Arc;

use http::StatusCode;
use oci_content::{Digest, Tag};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use registry_client::{Client, ClientOptions, Error, ErrorKind, Http2, Response, VerifyingSink};
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
        acceptor(self.issue(host, expired), clients)
    }
}

fn acceptor(
    (certificate, key): (rcgen::Certificate, KeyPair),
    clients: Option<&Authority>,
) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
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

/// Requires a client certificate of `clients`.
fn demanding(
    (certificate, key): (rcgen::Certificate, KeyPair),
    clients: &Authority,
) -> TlsAcceptor {
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

/// Requests a manifest and a blob from a server that speaks only one version of HTTP, and returns
/// whether each succeeds.
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
    // Both servers ask for a certificate of `clients` but also serve clients without one. A server
    // that requires one shows what was sent: it is only reached with the certificate.
    let demanding =
        |authority: &Authority| demanding(authority.issue("127.0.0.1", false), &clients);
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
        // Neither a length nor the end of the session shows that this is all.
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

    // With any TLS setting the client speaks TLS, which this server does not.
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

/// What `openssl req -x509` creates: a self-signed certificate of an authority that the server uses
/// as its own.
fn self_signed(
    names: &[&str],
    with: impl FnOnce(&mut CertificateParams),
) -> (rcgen::Certificate, KeyPair) {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    with(&mut params);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap(), key)
}

async fn asked_of(
    certificate: (rcgen::Certificate, KeyPair),
    roots: &[Vec<u8>],
) -> Result<Response, Error> {
    let server = Server::start_tls(acceptor(certificate, None), |_, _| answer(200)).await;
    let mut options = options();
    options.extra_roots = roots.to_vec();
    options
        .hosts
        .entry(server.host.clone())
        .or_default()
        .plain_http = Some(false);
    server.repository(options).get_manifest(&tag()).await
}

fn refusal(answer: Result<Response, Error>) -> String {
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_self_signed_authority_that_is_given_as_it_is_is_trusted() {
    let own = self_signed(&["localhost", "127.0.0.1"], |_| {});
    let given = own.0.pem().into_bytes();
    // Together with others in one file, as operators collect them.
    let file = [
        Authority::new().pem(),
        given.clone(),
        Authority::new().pem(),
    ]
    .concat();
    let reply = asked_of(own, &[file]).await.unwrap();
    assert_eq!(reply.status(), StatusCode::OK);
    for purposes in [
        vec![ExtendedKeyUsagePurpose::ServerAuth],
        vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::Any,
        ],
    ] {
        let own = self_signed(&["127.0.0.1"], |params| {
            params.extended_key_usages = purposes
        });
        let given = own.0.pem().into_bytes();
        assert!(asked_of(own, &[given]).await.is_ok());
    }
}

#[tokio::test]
async fn a_certificate_that_is_given_as_it_is_still_has_a_name_dates_and_a_purpose() {
    type Change = fn(&mut CertificateParams);
    let cases: [(&[&str], Change, &str); 5] = [
        (&["other.test"], |_| {}, "for another name"),
        (&[], |_| {}, "for another name"),
        (
            &["127.0.0.1"],
            |params| {
                params.not_before = rcgen::date_time_ymd(2000, 1, 1);
                params.not_after = rcgen::date_time_ymd(2001, 1, 1);
            },
            "expired on Mon, 01 Jan 2001",
        ),
        (
            &["127.0.0.1"],
            |params| params.not_before = rcgen::date_time_ymd(2990, 1, 1),
            "not valid before Fri, 01 Jan 2990",
        ),
        (
            &["127.0.0.1"],
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            "the TLS session failed",
        ),
    ];
    for (names, with, why) in cases {
        let own = self_signed(names, with);
        let given = own.0.pem().into_bytes();
        let text = refusal(asked_of(own, &[given]).await);
        assert!(text.contains(why), "{why}: {text}");
    }
}

#[tokio::test]
async fn an_authority_that_is_not_given_as_it_is_is_refused_with_the_real_reason() {
    let untrusted = "the issuer of the server's certificate is not trusted";
    let own = self_signed(&["127.0.0.1"], |_| {});
    assert!(refusal(asked_of(own, &[]).await).contains(untrusted));
    // Another certificate with the same names, and one that is signed by the same key.
    let own = self_signed(&["127.0.0.1"], |_| {});
    let like = self_signed(&["127.0.0.1"], |_| {}).0.pem().into_bytes();
    assert!(refusal(asked_of(own, &[like]).await).contains(untrusted));
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let given = params.self_signed(&key).unwrap().pem().into_bytes();
    params.serial_number = Some(7.into());
    let again = params.self_signed(&key).unwrap();
    assert!(refusal(asked_of((again, key), &[given]).await).contains(untrusted));
    let old = self_signed(&["127.0.0.1"], |params| {
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    assert!(refusal(asked_of(old, &[]).await).contains("expired on"));

    let root = Authority::new();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "below");
    let below = (params.signed_by(&key, &root.issuer).unwrap(), key);
    let text = refusal(asked_of(below, &[root.pem()]).await);
    assert!(
        text.contains("the certificate of an authority (CA:TRUE)"),
        "{text}"
    );
}

#[tokio::test]
async fn an_insecure_registry_is_not_verified_and_nothing_else_is_spared() {
    let stranger = || Authority::new().acceptor("other.test", true, None);
    let elsewhere = Server::start_tls(stranger(), |seen, _| match seen.target.as_str() {
        "/x" => answer(200).body("from elsewhere"),
        _ => answer(200).body(r#"{"token":"good"}"#),
    })
    .await;
    let (target, realm) = (elsewhere.url("/x"), elsewhere.url("/token"));
    let server = Server::start_tls(stranger(), move |seen, _| match seen.target.as_str() {
        "/v2/app/manifests/1.0" => answer(200).body("unverified"),
        "/v2/app/manifests/moved" => answer(302).header("Location", &target),
        _ if seen.authorization() == Some("Bearer good") => answer(200).body("with a token"),
        _ => answer(401).header("WWW-Authenticate", &format!("Bearer realm=\"{realm}\"")),
    })
    .await;
    let mut options = options();
    options
        .hosts
        .entry(server.host.clone())
        .or_default()
        .insecure = true;
    let get = async |options: &ClientOptions, tag: &str| {
        let client = Client::new(options.clone()).unwrap();
        let repository = client.repository(&server.registry(), &name("app"));
        let reply = repository.get_manifest(&tag.parse::<Tag>().unwrap()).await;
        let body = |reply: Response| String::from_utf8_lossy(reply.body()).into_owned();
        reply.map(body).map_err(|error| error.kind())
    };
    assert_eq!(get(&options, "1.0").await.as_deref(), Ok("unverified"));
    assert_eq!(get(&options, "moved").await, Err(ErrorKind::Tls));
    assert_eq!(get(&options, "token").await, Err(ErrorKind::Tls));
    assert!(elsewhere.lines().is_empty(), "{:?}", elsewhere.lines());
    options
        .hosts
        .entry(elsewhere.host.clone())
        .or_default()
        .insecure = true;
    assert_eq!(
        get(&options, "moved").await.as_deref(),
        Ok("from elsewhere")
    );
    assert_eq!(get(&options, "token").await.as_deref(), Ok("with a token"));
    options
        .hosts
        .entry(server.host.clone())
        .or_default()
        .insecure = false;
    options
        .hosts
        .entry(server.host.clone())
        .or_default()
        .plain_http = Some(false);
    assert_eq!(get(&options, "1.0").await, Err(ErrorKind::Tls));
}

#[tokio::test]
async fn certificates_of_one_registry_are_for_no_other() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (certificate, key) = clients.issue("client", false);
    let identity = format!("{}{}", certificate.pem(), key.serialize_pem()).into_bytes();
    let acceptor = |authority: &Authority| demanding(authority.issue("127.0.0.1", false), &clients);
    let other = Server::start_tls(acceptor(&authority), |_, _| answer(200)).await;
    let open = Server::start_tls(authority.acceptor("127.0.0.1", false, None), |_, _| {
        answer(200)
    })
    .await;
    let target = open.url("/x");
    let server = Server::start_tls(acceptor(&authority), move |seen, _| {
        match seen.target.ends_with("moved") {
            true => answer(302).header("Location", &target),
            false => answer(200),
        }
    })
    .await;
    let mut of_options = options();
    let host = of_options.hosts.entry(server.host.clone()).or_default();
    host.extra_roots.push(authority.pem());
    host.client_identity = Some(identity.clone());
    assert!(!format!("{of_options:?}").contains("PRIVATE"));
    // The same, from a folder laid out like docker's.
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join(&server.host);
    std::fs::create_dir(&place).unwrap();
    std::fs::write(place.join("ca.crt"), authority.pem()).unwrap();
    std::fs::write(place.join("me.cert"), certificate.pem()).unwrap();
    std::fs::write(place.join("me.key"), key.serialize_pem()).unwrap();
    let mut of_folder = options();
    of_folder.certs_folders.push(folder.path().to_owned());
    for mut options in [of_options, of_folder] {
        for host in [&server.host, &other.host, &open.host] {
            options.hosts.entry(host.clone()).or_default().plain_http = Some(false);
        }
        let client = Client::new(options.clone()).unwrap();
        let get = async |server: &Server, tag: &str| {
            let repository = client.repository(&server.registry(), &name("app"));
            let tag: Tag = tag.parse().unwrap();
            repository
                .get_manifest(&tag)
                .await
                .map(|reply| reply.status())
        };
        assert_eq!(get(&server, "1.0").await.unwrap(), StatusCode::OK);
        // At a redirect target, its root certificate counts and its client certificate is not
        // shown.
        assert_eq!(get(&server, "moved").await.unwrap(), StatusCode::OK);
        for untouched in [&other, &open] {
            let error = get(untouched, "1.0").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Tls);
        }
        // The root certificate of another registry does not make its client certificate known.
        options.extra_roots.push(authority.pem());
        let repository = other.repository(options);
        assert!(repository.get_manifest(&tag()).await.is_err());
        assert!(other.lines().is_empty());
    }
    // A file that cannot be used is an error at the first request, which names it.
    std::fs::write(place.join("broken.crt"), "junk").unwrap();
    let mut options = options();
    options.certs_folders.push(folder.path().to_owned());
    let error = server
        .repository(options)
        .get_manifest(&tag())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls);
    assert!(error.with_causes().contains("broken.crt"), "{error:?}");
}
