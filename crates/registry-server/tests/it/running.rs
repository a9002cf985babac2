#![expect(clippy::unwrap_used, reason = "a test fails where one of these does")]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use oci_content::{Digest, ImageLayout};
use registry_server::{LayoutStore, MemoryStore, RegistryServer, RegistryServerBuilder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(5);
/// For what the server does by itself after a while, on a machine that has other work.
const LATE: Duration = Duration::from_secs(20);

async fn running() -> registry_server::RunningServer {
    running_with(|server| server).await
}

async fn running_with(
    configure: impl FnOnce(RegistryServerBuilder) -> RegistryServerBuilder,
) -> registry_server::RunningServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = configure(RegistryServer::builder(Arc::new(MemoryStore::new()))).build();
    server.serve(listener).expect("an address")
}

/// Asks for the base of the API and leaves the connection open; returns the head of the answer.
async fn ask(connection: &mut TcpStream) -> String {
    let request = b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n";
    connection.write_all(request).await.expect("it is open");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(connection.read_u8().await.expect("an answer"));
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_dropped_server_takes_no_connection() {
    let server = running().await;
    let address = server.addr();
    assert!(TcpStream::connect(address).await.is_ok());
    drop(server);
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, refused).await.unwrap();
}

#[tokio::test]
async fn shutting_down_waits_for_the_answer_under_way() {
    let server = running().await;
    let mut connection = TcpStream::connect(server.addr()).await.unwrap();
    let head = "PUT /v2/app/manifests/x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{";
    connection.write_all(head.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    let mut shutdown = tokio::spawn(server.shutdown());
    assert!(
        timeout(Duration::from_millis(100), &mut shutdown)
            .await
            .is_err()
    );
    connection.write_all(b"}").await.unwrap();
    let mut answer = String::new();
    timeout(SOON, connection.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    timeout(SOON, shutdown).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_is_waited_for_only_so_long() {
    let server = running_with(|server| server.head_timeout(Duration::from_millis(200))).await;
    // The second one may become HTTP/2.
    for sent in ["", "PRI * HT", "GET /v2/ HTTP/1.1\r\nhost:"] {
        let mut connection = TcpStream::connect(server.addr()).await.unwrap();
        connection.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let closed = timeout(SOON, connection.read_to_end(&mut answer));
        closed.await.expect("the connection is closed").ok();
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{answer:?}");
    }
    // A byte now and then does not make it longer.
    let mut connection = TcpStream::connect(server.addr()).await.unwrap();
    let drip = async {
        while connection.write_all(b"G").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, drip).await.expect("the connection is closed");
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let server = running_with(|server| server.head_timeout(Duration::from_millis(200))).await;
    let mut connection = TcpStream::connect(server.addr()).await.unwrap();
    assert!(ask(&mut connection).await.starts_with("HTTP/1.1 200 "));
    let mut rest = Vec::new();
    let closed = timeout(SOON, connection.read_to_end(&mut rest));
    closed.await.expect("the connection is closed").ok();
}

#[tokio::test]
async fn beyond_so_many_connections_the_next_waits_until_one_is_closed() {
    let two = NonZeroUsize::new(2).unwrap();
    let server = running_with(|server| server.max_connections(two)).await;
    let connect = || TcpStream::connect(server.addr());
    let (mut first, mut second) = (connect().await.unwrap(), connect().await.unwrap());
    ask(&mut first).await;
    ask(&mut second).await;
    let mut third = connect().await.unwrap();
    let mut answer = tokio::spawn(async move { ask(&mut third).await });
    let too_early = timeout(Duration::from_millis(200), &mut answer).await;
    assert!(too_early.is_err());
    drop(first);
    let answer = timeout(SOON, answer)
        .await
        .expect("it has a place")
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    ask(&mut second).await;
}

#[tokio::test]
async fn an_answer_that_does_not_end_is_cut_off_when_the_server_is_stopped() {
    let server = running_with(|server| server.shutdown_timeout(Duration::from_millis(200))).await;
    let mut connection = TcpStream::connect(server.addr()).await.unwrap();
    let head = "PUT /v2/app/manifests/x HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{";
    connection.write_all(head.as_bytes()).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    timeout(SOON, server.shutdown()).await.expect("it ends");
    let mut answer = Vec::new();
    let closed = timeout(SOON, connection.read_to_end(&mut answer));
    closed.await.expect("the connection is closed").ok();
    assert!(answer.is_empty());
}

/// A registry over a folder that has a blob which no socket's buffers take.
async fn running_with_a_large_blob(
    configure: impl FnOnce(RegistryServerBuilder) -> RegistryServerBuilder,
) -> (tempfile::TempDir, registry_server::RunningServer, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = ImageLayout::create(folder.path()).expect("a layout");
    let bytes = vec![b'x'; 64 << 20];
    let digest = Digest::of(&bytes);
    layout.write_blob(&digest, &bytes).expect("it is written");
    let store = LayoutStore::new(layout, None).bare_tags_as("app".parse().expect("a name"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = configure(RegistryServer::builder(Arc::new(store))).build();
    let server = server.serve(listener).expect("an address");
    (folder, server, format!("/v2/app/blobs/{digest}"))
}

/// Reads what comes until the connection is closed.
async fn read_to_end(connection: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let closed = timeout(LATE, connection.read_to_end(&mut answer));
    closed.await.expect("the connection is closed").ok();
    answer
}

/// Asks for an upload session; returns its path.
async fn session(address: std::net::SocketAddr) -> String {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = "POST /v2/app/blobs/uploads/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    connection.write_all(request.as_bytes()).await.unwrap();
    let answer = String::from_utf8(read_to_end(&mut connection).await).unwrap();
    let location = answer
        .lines()
        .find_map(|line| line.strip_prefix("location: "));
    location.expect("a session").to_owned()
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up_and_its_session_goes_on() {
    let server = running_with(|server| server.stall_timeout(Duration::from_millis(300))).await;
    let path = session(server.addr()).await;
    let chunk = |range: &str, body: &str, length: usize| {
        format!(
            "PATCH {path} HTTP/1.1\r\nhost: x\r\ncontent-range: {range}\r\ncontent-length: {length}\r\n\r\n{body}"
        )
    };
    let mut connection = TcpStream::connect(server.addr()).await.unwrap();
    let stalled = chunk("0-999", "half", 1000);
    connection.write_all(stalled.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut connection).await;
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{answer:?}");
    // What came is kept, and the next chunk goes on behind it.
    let mut connection = TcpStream::connect(server.addr()).await.unwrap();
    let next = chunk("4-5", "on", 2);
    connection.write_all(next.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    timeout(LATE, connection.read_exact(&mut head))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&head, b"HTTP/1.1 202");
    // A byte now and then does not make it longer, for a manifest neither.
    let (mut read, mut write) = TcpStream::connect(server.addr())
        .await
        .unwrap()
        .into_split();
    let head = "PUT /v2/app/manifests/x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
    write.write_all(head.as_bytes()).await.unwrap();
    let drip = async {
        while write.write_all(b" ").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let mut answer = [0; 12];
    tokio::select! {
        () = drip => panic!("it was answered before"),
        read = timeout(LATE, read.read_exact(&mut answer)) => { read.unwrap().unwrap(); }
    }
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn who_does_not_take_an_answer_is_cut_off_and_who_takes_it_slowly_is_not() {
    let time = Duration::from_millis(500);
    let (_folder, server, path) = running_with_a_large_blob(|s| s.stall_timeout(time)).await;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut stalled = TcpStream::connect(server.addr()).await.unwrap();
    stalled.write_all(request.as_bytes()).await.unwrap();
    let mut slow = TcpStream::connect(server.addr()).await.unwrap();
    slow.write_all(request.as_bytes()).await.unwrap();
    let mut taken = 0;
    let mut buffer = vec![0; 4 << 20];
    while let Ok(count @ 1..) = slow.read(&mut buffer).await {
        taken += count;
        sleep(Duration::from_millis(50)).await;
    }
    assert!(taken > 64 << 20, "{taken}");
    sleep(time * 4).await;
    let got = read_to_end(&mut stalled).await.len();
    assert!(got < 64 << 20, "{got}");
}

#[tokio::test]
async fn quiet_connections_give_way_to_new_ones() {
    let few = NonZeroUsize::new(8).unwrap();
    let (_folder, server, path) = running_with_a_large_blob(|s| s.max_connections(few)).await;
    let mut held = Vec::new();
    for place in 0..8 {
        let mut connection = TcpStream::connect(server.addr()).await.unwrap();
        let request = match place % 3 {
            0 => format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"),
            1 => "PUT /v2/app/manifests/x HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{".into(),
            _ => String::new(),
        };
        connection.write_all(request.as_bytes()).await.unwrap();
        held.push(connection);
    }
    for _ in 0..8 {
        let mut connection = TcpStream::connect(server.addr()).await.unwrap();
        let answer = timeout(LATE, ask(&mut connection)).await.expect("a place");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[cfg(feature = "basic-auth")]
mod strangers {
    use super::*;

    /// `htpasswd -nbBC 4 anna secret`
    const ANNA: &str = "anna:$2y$04$UL.8oFmyyDI/nesAdXAo9eTAB/NU0geMPKok9PN625U3Jj4CwB7y.";
    const AS_ANNA: &str =
        "GET /v2/ HTTP/1.1\r\nhost: x\r\nauthorization: Basic YW5uYTpzZWNyZXQ=\r\n\r\n";

    async fn status(connection: &mut TcpStream, request: &str) -> Option<String> {
        connection.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(connection.read_u8().await.ok()?);
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let length = answer
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))?;
        let mut body = vec![0; length.parse().ok()?];
        connection.read_exact(&mut body).await.ok()?;
        Some(answer[9..12].to_owned())
    }

    #[tokio::test]
    async fn without_a_password_they_have_half_of_the_places_and_users_are_served() {
        let places = NonZeroUsize::new(8).unwrap();
        let users: registry_server::Htpasswd = ANNA.parse().unwrap();
        let server = running_with(|s| s.max_connections(places).users(users)).await;
        let mut anna = TcpStream::connect(server.addr()).await.unwrap();
        assert_eq!(status(&mut anna, AS_ANNA).await.unwrap(), "200");
        let mut held = Vec::new();
        for place in 0..40 {
            let mut connection = TcpStream::connect(server.addr()).await.unwrap();
            if place % 2 == 0 {
                let request = "GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n";
                let answer = timeout(LATE, status(&mut connection, request)).await;
                assert_eq!(answer.unwrap().as_deref(), Some("401"));
            }
            held.push(connection);
        }
        let mut other = TcpStream::connect(server.addr()).await.unwrap();
        let answer = timeout(LATE, status(&mut other, AS_ANNA)).await.unwrap();
        assert_eq!(answer.unwrap(), "200");
        // Whoever has shown the password does not give way.
        let answer = timeout(LATE, status(&mut anna, AS_ANNA)).await.unwrap();
        assert_eq!(answer.unwrap(), "200");
    }

    #[tokio::test]
    async fn a_connection_without_a_right_password_grows_only_so_old() {
        let users: registry_server::Htpasswd = ANNA.parse().unwrap();
        let time = Duration::from_millis(500);
        let server = running_with(|s| s.sign_in_timeout(time).users(users)).await;
        let mut anna = TcpStream::connect(server.addr()).await.unwrap();
        assert_eq!(status(&mut anna, AS_ANNA).await.unwrap(), "200");
        let mut stranger = TcpStream::connect(server.addr()).await.unwrap();
        let ends = async {
            let request = "GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n";
            while let Some(status) = status(&mut stranger, request).await {
                assert_eq!(status, "401");
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(LATE, ends).await.expect("the connection is closed");
        assert_eq!(status(&mut anna, AS_ANNA).await.unwrap(), "200");
    }
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_heads_that_do_not_come() {
    let server = running().await;
    let mut held = Vec::new();
    for sent in ["", "GET /v2/ HTTP/1.1\r\nhost:", "PRI * HT"] {
        let mut connection = TcpStream::connect(server.addr()).await.unwrap();
        connection.write_all(sent.as_bytes()).await.unwrap();
        held.push(connection);
    }
    let mut idle = TcpStream::connect(server.addr()).await.unwrap();
    ask(&mut idle).await;
    timeout(LATE, server.shutdown()).await.expect("it ends");
}
