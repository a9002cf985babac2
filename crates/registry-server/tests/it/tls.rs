#![expect(clippy::unwrap_used, reason = "a test fails where one of these does")]

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;

use registry_server::{
    ConnectionLimits, MemoryStore, RegistryServer, RunningServer, TlsErrorKind, mutual_tls_config,
    tls_config,
};
use reqwest::{Certificate, Client, ClientBuilder, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A self-signed certificate for `localhost`, with its key.
struct Identity {
    certificate: String,
    key: String,
}

fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    Identity {
        certificate: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    }
}

async fn served(identity: &Identity) -> RunningServer {
    let config = tls_config(identity.certificate.as_bytes(), identity.key.as_bytes()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    RegistryServer::builder(Arc::new(MemoryStore::new()))
        .build()
        .serve_tls(listener, Arc::new(config))
        .unwrap()
}

/// Pings over TLS; what comes back is the version that was spoken.
async fn ping(
    identity: &Identity,
    address: SocketAddr,
    configure: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> (u16, Version) {
    let root = Certificate::from_pem(identity.certificate.as_bytes()).unwrap();
    let client = configure(Client::builder().tls_certs_only([root]))
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/v2/", address.port());
    let answer = client.get(url).send().await.unwrap();
    (answer.status().as_u16(), answer.version())
}

#[tokio::test]
async fn a_client_that_knows_http_2_gets_it() {
    let identity = identity();
    let server = served(&identity).await;
    let answer = ping(&identity, server.addr(), |client| client).await;
    assert_eq!(answer, (200, Version::HTTP_2));
    server.shutdown().await;
}

#[tokio::test]
async fn a_client_without_http_2_gets_http_1_1() {
    let identity = identity();
    let server = served(&identity).await;
    let answer = ping(&identity, server.addr(), ClientBuilder::http1_only).await;
    assert_eq!(answer, (200, Version::HTTP_11));
}

#[tokio::test]
async fn only_clients_with_a_certificate_of_the_authority_are_answered() {
    let (identity, client, stranger) = (identity(), identity(), identity());
    let [own, key] = [&identity.certificate, &identity.key].map(String::as_bytes);
    let config = mutual_tls_config(own, key, client.certificate.as_bytes()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = RegistryServer::builder(Arc::new(MemoryStore::new())).build();
    let server = server.serve_tls(listener, Arc::new(config)).unwrap();
    let with = async |client: Option<&Identity>| {
        let root = Certificate::from_pem(identity.certificate.as_bytes()).unwrap();
        let mut builder = Client::builder().tls_certs_only([root]);
        if let Some(client) = client {
            let pem = format!("{}{}", client.certificate, client.key);
            builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        let url = format!("https://localhost:{}/v2/", server.addr().port());
        builder.build().unwrap().get(url).send().await.is_ok()
    };
    assert!(with(Some(&client)).await);
    assert!(!with(None).await);
    assert!(!with(Some(&stranger)).await);
    let error = mutual_tls_config(own, key, b"").unwrap_err();
    assert_eq!(error.kind(), TlsErrorKind::Authority);
}

#[tokio::test]
async fn a_new_certificate_is_used_from_the_next_connection_on() {
    let (old, new) = (identity(), identity());
    let config = |identity: &Identity| {
        let config = tls_config(identity.certificate.as_bytes(), identity.key.as_bytes());
        Arc::new(config.unwrap())
    };
    let (configs, newest) = tokio::sync::watch::channel(config(&old));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let router = RegistryServer::builder(Arc::new(MemoryStore::new()))
        .build()
        .router();
    let limits = ConnectionLimits::default();
    let server = limits.serve_tls(listener, router, newest).unwrap();
    let answer = ping(&old, server.addr(), |client| client).await;
    assert_eq!(answer.0, 200);
    configs.send_replace(config(&new));
    let answer = ping(&new, server.addr(), |client| client).await;
    assert_eq!(answer.0, 200);
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_holds_nobody_up() {
    let identity = identity();
    let server = served(&identity).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(server.addr()).await.unwrap());
    }
    let answer = ping(&identity, server.addr(), |client| client).await;
    assert_eq!(answer, (200, Version::HTTP_2));
}

#[tokio::test]
async fn plain_http_is_not_answered_and_ends_only_its_own_connection() {
    let identity = identity();
    let server = served(&identity).await;
    let mut plain = TcpStream::connect(server.addr()).await.unwrap();
    let request = b"GET /v2/ HTTP/1.1\r\nhost: localhost\r\n\r\n";
    plain.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A reset is as good as an end here.
    let _ended = plain.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    let answer = ping(&identity, server.addr(), |client| client).await;
    assert_eq!(answer, (200, Version::HTTP_2));
}

#[test]
fn a_certificate_and_a_key_that_make_no_server_are_told_apart() {
    let [one, other] = [identity(), identity()];
    let refused = |certificate: &str, key: &str| {
        let error = tls_config(certificate.as_bytes(), key.as_bytes()).expect_err("refused");
        assert!(error.source().is_some(), "{error:?}");
        error.kind()
    };
    assert_eq!(
        refused(&one.certificate, &other.key),
        TlsErrorKind::Mismatch
    );
    for certificate in ["", "nothing", &one.key] {
        assert_eq!(refused(certificate, &one.key), TlsErrorKind::Certificate);
    }
    let broken = one.certificate.replace("MII", "!!!");
    assert_eq!(refused(&broken, &one.key), TlsErrorKind::Certificate);
    let hollow = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    for key in ["", "nothing", &one.certificate, hollow] {
        assert_eq!(refused(&one.certificate, key), TlsErrorKind::Key);
    }
}

#[tokio::test]
async fn a_body_that_is_not_read_hides_no_answer() {
    let identity = identity();
    let server = served(&identity).await;
    let root = Certificate::from_pem(identity.certificate.as_bytes()).unwrap();
    let client = Client::builder().tls_certs_only([root]).build().unwrap();
    let port = server.addr().port();
    let url = format!("https://localhost:{port}/v2/app/manifests/1");
    let request = client.put(url).body(vec![0; 50 << 20]);
    let answer = request.send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (413, Version::HTTP_2)
    );
}
