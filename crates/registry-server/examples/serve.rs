//! Serves an empty registry in memory until it is interrupted.
//!
//! `cargo run -p registry-server --example serve -- 127.0.0.1:5000`

use std::sync::Arc;

use registry_server::{MemoryStore, RegistryServer};
use tokio::net::TcpListener;

#[expect(clippy::print_stdout, reason = "a program says where it listens")]
#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:0");
    let listener = TcpListener::bind(address).await?;
    let server = RegistryServer::builder(Arc::new(MemoryStore::new())).build();
    let running = server.serve(listener)?;
    println!("http://{}", running.addr());
    std::future::pending().await
}
