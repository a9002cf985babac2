use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::{announce, serve_until_told};

/// The child process: forwards everything, and delays what a client sends after an answer (that is,
/// a request) by a number of milliseconds.
///
/// The arguments are the address and the milliseconds.
///
/// # Panics
///
/// If the arguments are malformed, or loopback cannot be bound.
pub async fn proxy(arguments: &[String]) {
    let added = Duration::from_millis(arguments[1].parse().expect("a number"));
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("loopback is there");
    announce(&format!("{}", listener.local_addr().expect("it listens")));
    let target = arguments[0].clone();
    let accept = async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(&target).await else {
                continue;
            };
            drop((client.set_nodelay(true), server.set_nodelay(true)));
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let answered = Arc::new(AtomicBool::new(true));
            let answers = Arc::clone(&answered);
            tokio::spawn(async move {
                let mut buffer = vec![0; 256 << 10];
                while let Ok(count @ 1..) = from_client.read(&mut buffer).await {
                    if answered.swap(false, Ordering::SeqCst) {
                        tokio::time::sleep(added).await;
                    }
                    if to_server.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
            });
            tokio::spawn(async move {
                let mut buffer = vec![0; 256 << 10];
                while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
                    answers.store(true, Ordering::SeqCst);
                    if to_client.write_all(&buffer[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    };
    let told = tokio::task::spawn_blocking(serve_until_told);
    tokio::select! {
        () = accept => {}
        told = told => told.expect("it does not panic"),
    }
}
