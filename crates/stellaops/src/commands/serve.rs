use std::io;
use std::path::Path;
use std::sync::Arc;

use oci_content::ImageLayout;
use registry_server::{Htpasswd, LayoutStore, RegistryServer, tls_config};
use rustls::ServerConfig;
use tokio::net::TcpListener;

use crate::cli::ServeArgs;
use crate::context::{Context, local_store, read};
use crate::exit::{Exit, Failure, chain};

/// The host of what is pushed without `?ns=`. Not the address that is listened on: its port may be another one at the next start,
/// and the tag then a second one.
const PUSHED_HOST: &str = "localhost";

pub(crate) async fn run(context: &Context, args: &ServeArgs) -> Result<(), Failure> {
    let tls = tls(args)?;
    let users = args.auth.as_deref().map(users).transpose()?;
    if !args.listen.ip().is_loopback() && (tls.is_none() || users.is_none()) {
        let message = format!(
            "{} is not a loopback address: a store is served there with --tls-cert, --tls-key and --auth only, or listen on 127.0.0.1",
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
    let mut server =
        RegistryServer::builder(Arc::new(LayoutStore::new(layout, host))).read_only(!args.writable);
    let closed = users.is_some();
    if let Some(users) = users {
        server = server.users(users);
    }
    let failed =
        |error: io::Error| Failure::new(Exit::LocalIo, format!("{}: {error}", args.listen));
    let listener = TcpListener::bind(args.listen).await.map_err(failed)?;
    let server = server.build();
    let (scheme, running) = match tls {
        Some(config) => ("https", server.serve_tls(listener, Arc::new(config))),
        None => ("http", server.serve(listener)),
    };
    let running = running.map_err(failed)?;
    context.log.info(&format!(
        "Serving {} {} at {scheme}://{}/v2/{}; Ctrl-C ends it",
        folder.display(),
        if args.writable {
            "writable"
        } else {
            "read-only"
        },
        running.addr(),
        if closed {
            " to users with a password"
        } else {
            ""
        },
    ));
    tokio::signal::ctrl_c()
        .await
        .map_err(|error| Failure::new(Exit::LocalIo, format!("no signal handler: {error}")))?;
    running.shutdown().await;
    Ok(())
}

fn tls(args: &ServeArgs) -> Result<Option<ServerConfig>, Failure> {
    let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else {
        return Ok(None);
    };
    let config = tls_config(&read(certificate, "--tls-cert")?, &read(key, "--tls-key")?);
    config.map(Some).map_err(|error| {
        let (certificate, key) = (certificate.display(), key.display());
        let message = format!("--tls-cert {certificate} --tls-key {key}: {error}");
        Failure::new(Exit::Usage, message)
    })
}

fn users(path: &Path) -> Result<Htpasswd, Failure> {
    let text = read(path, "--auth")?;
    String::from_utf8_lossy(&text).parse().map_err(|error| {
        let message = format!("--auth {}: {error}", path.display());
        Failure::new(Exit::Usage, message)
    })
}
