use std::sync::Arc;
use std::time::Duration;

use registry_server::{MemoryStore, RegistryServer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(5);

async fn running() -> registry_server::RunningServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = RegistryServer::builder(Arc::new(MemoryStore::new())).build();
    server.serve(listener).expect("an address")
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
