use std::sync::Arc;

use oci_content::ImageLayout;
use registry_server::{LayoutStore, RegistryServer};
use tokio::net::TcpListener;

use crate::cli::ServeArgs;
use crate::context::{Context, local_store};
use crate::exit::{Exit, Failure, chain};

/// The host of what is pushed without `?ns=`. Not the address that is listened on: its port may be another one at the next start,
/// and the tag then a second one.
const PUSHED_HOST: &str = "localhost";

pub(crate) async fn run(context: &Context, args: &ServeArgs) -> Result<(), Failure> {
    if !args.listen.ip().is_loopback() {
        let message = format!(
            "{} is not a loopback address; the store is served on loopback only",
            args.listen
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None => local_store()?,
    };
    let (layout, host) = match args.writable {
        true => (ImageLayout::create(&folder), Some(PUSHED_HOST)),
        false => (ImageLayout::open(&folder), None),
    };
    let layout = layout.map_err(|error| {
        let way_out = match args.writable {
            true => "",
            false => "; `stellaops bundle import` makes it",
        };
        Failure::new(Exit::LocalIo, format!("{}{way_out}", chain(&error)))
    })?;
    let host = host.map(|host| host.parse().expect("a host name"));
    let store = LayoutStore::new(layout, host);
    let failed =
        |error: std::io::Error| Failure::new(Exit::LocalIo, format!("{}: {error}", args.listen));
    let listener = TcpListener::bind(args.listen).await.map_err(failed)?;
    let server = RegistryServer::builder(Arc::new(store))
        .read_only(!args.writable)
        .build()
        .serve(listener)
        .map_err(failed)?;
    context.log.info(&format!(
        "Serving {} {} at http://{}/v2/; Ctrl-C ends it",
        folder.display(),
        if args.writable {
            "writable"
        } else {
            "read-only"
        },
        server.addr()
    ));
    tokio::signal::ctrl_c()
        .await
        .map_err(|error| Failure::new(Exit::LocalIo, format!("no signal handler: {error}")))?;
    server.shutdown().await;
    Ok(())
}
