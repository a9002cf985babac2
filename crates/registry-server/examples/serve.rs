//! Serves a layout folder, or an empty registry in memory, until it is interrupted.
//!
//! `cargo run -p registry-server --example serve -- 127.0.0.1:5000 [FOLDER]`

use std::io;
use std::sync::Arc;

use oci_content::ImageLayout;
use registry_server::{LayoutStore, MemoryStore, RegistryServer, Store};
use tokio::net::TcpListener;

#[expect(clippy::print_stdout, reason = "the program prints its address")]
#[tokio::main]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:0");
    let listener = TcpListener::bind(address).await?;
    let store: Arc<dyn Store> = match std::env::args().nth(2) {
        Some(folder) => {
            let layout = ImageLayout::create(folder).map_err(io::Error::other)?;
            let host = listener.local_addr()?.to_string();
            let host = host.parse().map_err(io::Error::other)?;
            Arc::new(LayoutStore::new(layout, Some(host)))
        }
        None => Arc::new(MemoryStore::new()),
    };
    let server = RegistryServer::builder(store).build();
    let running = server.serve(listener)?;
    println!("http://{}", running.addr());
    std::future::pending().await
}
