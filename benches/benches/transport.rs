//! One connection for all requests (HTTP/2) against several (HTTP/1.1), over TLS: for many small
//! requests, and for blobs.
//!
//! The registry runs in a process of its own. `RTT` stands behind a proxy that holds every byte
//! back for half of it, each way. Every figure of a table comes from one run on one machine;
//! compare the rows, not the numbers of two runs.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::{Server, arguments_behind, cpu, is_full, serve_until_told};
use futures::stream::{self, StreamExt as _};
use oci_content::{Digest, Registry, RepositoryName, VerifyError, media_type};
use registry_client::{BlobSink, Client, ClientOptions, Http2, Repository};
use registry_server::{MemoryStore, RegistryServer, StoredManifest, tls_config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const RTT: Duration = Duration::from_millis(20);
const MANIFESTS: usize = 1000;
const BLOBS: usize = 60;

#[tokio::main]
async fn main() {
    if let Some(arguments) = arguments_behind("--serve") {
        return serve(arguments[0].parse().expect("a size")).await;
    }
    let (count, size) = if is_full() {
        (MANIFESTS, 10 << 20)
    } else {
        (20, 1000)
    };
    let server = Server::start(&["--serve", &size.to_string()]).expect("this program starts");
    let (address, pem) = server.greeting.split_once(' ').expect("two words");
    let address: SocketAddr = address.parse().expect("an address");
    let pem = hex::decode(pem).expect("hexadecimal");
    let digests: Vec<_> = (0..BLOBS)
        .map(|number| Digest::of(&blob(number, size)))
        .collect();
    let far = proxy(address, RTT / 2).await;
    for (what, port) in [("no delay", address.port()), ("RTT 20 ms", far.port())] {
        println!(
            "\n{what}\n{:44} {:>8} {:>11} {:>11}",
            "", "seconds", "client CPU", "server CPU"
        );
        for http2 in [Http2::Everything, Http2::Nothing] {
            for in_flight in [16, 32] {
                let repository = repository(&pem, port, http2, in_flight);
                let name = format!(
                    "{count} manifests, {in_flight} in flight, {}",
                    spoken(http2)
                );
                row(&server, &name, manifests(&repository, count, in_flight)).await;
            }
        }
        for http2 in [Http2::Everything, Http2::Nothing] {
            let repository = repository(&pem, port, http2, 16);
            let name = format!(
                "{BLOBS} blobs of {} KiB, 16 at once, {}",
                size >> 10,
                spoken(http2)
            );
            row(&server, &name, blobs(&repository, &digests, size)).await;
        }
    }
}

fn spoken(http2: Http2) -> &'static str {
    match http2 {
        Http2::Everything => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

async fn row(server: &Server, name: &str, work: impl Future<Output = ()>) {
    let (client_before, server_before) = (cpu("self"), server.cpu());
    let started = Instant::now();
    work.await;
    let seconds = started.elapsed().as_secs_f64();
    let (client, server) = (cpu("self") - client_before, server.cpu() - server_before);
    println!(
        "{name:44} {seconds:8.2} {:11.2} {:11.2}",
        client.as_secs_f64(),
        server.as_secs_f64(),
    );
}

fn name() -> RepositoryName {
    "app".parse().expect("a literal")
}

fn repository(pem: &[u8], port: u16, http2: Http2, in_flight: usize) -> Repository {
    let registry: Registry = format!("localhost:{port}")
        .parse()
        .expect("a host and a port");
    let mut options = ClientOptions::default();
    options.extra_roots.push(pem.to_vec());
    options.max_in_flight = NonZeroUsize::new(in_flight).unwrap_or(NonZeroUsize::MIN);
    options.http2 = http2;
    let host = options.hosts.entry(registry.to_string()).or_default();
    host.plain_http = Some(false);
    let client = Client::new(options).expect("the certificate was just made");
    client.repository(&registry, &name())
}

async fn manifests(repository: &Repository, count: usize, in_flight: usize) {
    stream::iter(0..count)
        .for_each_concurrent(in_flight, |number| async move {
            let digest = Digest::of(&manifest(number));
            let answer = repository.get_manifest(&digest).await;
            let answer = answer.expect("the registry answers");
            assert_eq!(Digest::of(answer.body()), digest);
        })
        .await;
}

/// Discards the bytes, so that hashing does not hide the cost of the transport.
struct Count(u64);

impl BlobSink for Count {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0 += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> std::io::Result<()> {
        self.0 = 0;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), VerifyError> {
        Ok(())
    }
}

async fn blobs(repository: &Repository, digests: &[Digest], size: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for digest in digests {
        let (repository, digest) = (repository.clone(), digest.clone());
        // The client itself keeps to its number in flight.
        tasks.spawn(async move {
            let mut count = Count(0);
            let pulled = repository.pull_blob(&digest, size as u64, &mut count).await;
            pulled.expect("the registry has it");
            assert_eq!(count.0, size as u64);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no task fails");
    }
}

fn manifest(number: usize) -> Vec<u8> {
    let mut text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{}","manifests":[],"annotations":{{"number":"{number}","filler":""#,
        media_type::IMAGE_INDEX
    );
    // What a manifest of a few layers has.
    let _infallible = write!(text, "{:01$}\"}}}}", 0, 1500);
    text.into_bytes()
}

fn blob(number: usize, size: usize) -> Vec<u8> {
    let mut bytes = vec![0x5a; size];
    bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
    bytes
}

/// Serves everything that is asked for, and says where and with which certificate.
async fn serve(size: usize) {
    let store = MemoryStore::new();
    let name = name();
    for number in 0..MANIFESTS {
        let bytes = manifest(number);
        let digest = Digest::of(&bytes);
        store.insert_manifest(
            &name,
            digest,
            StoredManifest::new(media_type::IMAGE_INDEX, bytes),
        );
    }
    for number in 0..BLOBS {
        let bytes = blob(number, size);
        store.insert_blob(&name, Digest::of(&bytes), bytes.into());
    }
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let pem = made.cert.pem();
    let config = tls_config(pem.as_bytes(), made.signing_key.serialize_pem().as_bytes());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let running = RegistryServer::builder(Arc::new(store))
        .build()
        .serve_tls(
            listener,
            Arc::new(config.expect("a certificate and its key")),
        )
        .expect("a listener has an address");
    println!("{} {}", running.addr(), hex::encode(pem));
    let told = tokio::task::spawn_blocking(serve_until_told).await;
    told.expect("it does not panic");
}

/// Forwards connections to `target`, and delays every byte by `delay`, each way.
async fn proxy(target: SocketAddr, delay: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("a listener has an address");
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let far = TcpStream::connect(target).await.expect("it listens");
                for stream in [&near, &far] {
                    stream.set_nodelay(true).expect("a connected socket");
                }
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(hold(near_read, far_write, delay));
                hold(far_read, near_write, delay).await;
            });
        }
    });
    address
}

async fn hold(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay: Duration,
) {
    // Room for bytes in flight: more than the bandwidth-delay product of loopback.
    let (sender, mut receiver) = mpsc::channel::<(tokio::time::Instant, Vec<u8>)>(1024);
    tokio::spawn(async move {
        loop {
            let mut bytes = Vec::with_capacity(64 << 10);
            match from.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            if sender
                .send((tokio::time::Instant::now() + delay, bytes))
                .await
                .is_err()
            {
                break;
            }
        }
    });
    while let Some((due, bytes)) = receiver.recv().await {
        tokio::time::sleep_until(due).await;
        if to.write_all(&bytes).await.is_err() {
            break;
        }
    }
}
