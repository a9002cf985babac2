use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use registry_server::{MemoryStore, RegistryServer, RegistryServerBuilder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(5);

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
