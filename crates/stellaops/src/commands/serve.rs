use std::sync::Arc;

use oci_content::ImageLayout;
use registry_server::{LayoutStore, RegistryServer};
use tokio::net::TcpListener;

use crate::cli::ServeArgs;
use crate::context::{Context, local_store};
use crate::exit::{Exit, Failure, chain};

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
    let layout = ImageLayout::open(&folder).map_err(|error| {
        let message = format!("{}; `stellaops bundle import` makes it", chain(&error));
        Failure::new(Exit::LocalIo, message)
    })?;
    let store = LayoutStore::new(layout, None);
    let failed =
        |error: std::io::Error| Failure::new(Exit::LocalIo, format!("{}: {error}", args.listen));
    let listener = TcpListener::bind(args.listen).await.map_err(failed)?;
    let server = RegistryServer::builder(Arc::new(store))
        .read_only(true)
        .build()
        .serve(listener)
        .map_err(failed)?;
    context.log.info(&format!(
        "Serving {} read-only at http://{}/v2/; Ctrl-C ends it",
        folder.display(),
        server.addr()
    ));
    tokio::signal::ctrl_c()
        .await
        .map_err(|error| Failure::new(Exit::LocalIo, format!("no signal handler: {error}")))?;
    server.shutdown().await;
    Ok(())
}
