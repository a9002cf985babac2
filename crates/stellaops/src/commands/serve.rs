use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use clap::Args;
use oci_content::{FileSystemGaps, ImageLayout, Registry, with_causes};
use registry_server::{
    AnsweredRequest, Htpasswd, LayoutStore, RegistryServer, ServerObserver, tls_config,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;
use serde_json::{Map, Value};
use tokio::net::TcpListener;

use crate::commands::run::{Run, Running};
use crate::context::{Context, local_store};
use crate::exit::{Exit, Failure};
use crate::log::{Log, LogLevel};
use crate::metrics::Metrics;
use crate::render::foreign;
use crate::signals::Signals;
use crate::small_file::read_option;

/// Serve the local store as a registry, by default on loopback and read-only
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Address to listen on; beyond loopback, --tls-cert and --auth are required
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000")]
    pub(crate) listen: SocketAddr,
    /// The layout folder to serve [default: the local store]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Also accept pushes and deletions; pushed images are kept as localhost/REPOSITORY, unless ?ns=HOST names a host
    #[arg(long)]
    pub(crate) writable: bool,
    /// Serve TLS with this certificate, followed by its intermediates (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM, without a passphrase)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Answer only the users in this file: lines as printed by `htpasswd -nB USER`
    #[arg(long, value_name = "FILE")]
    pub(crate) auth: Option<PathBuf>,
    /// Also answer requests for this host, as a reverse proxy passes them on; on loopback, hosts other than
    /// localhost are refused
    #[arg(long, value_name = "HOST")]
    pub(crate) allow_host: Vec<Registry>,
}

/// The host of images pushed without `?ns=`. It is not the listening address: with another port at the next start, the same
/// image would get a second name.
const PUSHED_HOST: &str = "localhost";

const EXAMPLES: &str = "\
    stellaops store serve\n\
    stellaops store serve --listen 0.0.0.0:5000 --tls-cert cert.pem --tls-key key.pem --auth htpasswd";

impl Run for ServeArgs {
    fn drains(&self) -> bool {
        true
    }

    fn run<'a>(&'a self, context: &'a Context) -> Running<'a> {
        Box::pin(run(context, self))
    }
}

async fn run(context: &Context, args: &ServeArgs) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    let tls = tls(args)?;
    let users = args.auth.as_deref().map(users).transpose()?;
    if !args.listen.ip().is_loopback() && (tls.is_none() || users.is_none()) {
        let message = format!(
            "{} is not a loopback address: serving there requires --tls-cert, --tls-key and --auth; or listen on 127.0.0.1",
            args.listen
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None => local_store()?,
    };
    let (layout, host) = if args.writable {
        (ImageLayout::create(&folder), Some(PUSHED_HOST))
    } else {
        (ImageLayout::open(&folder), None)
    };
    let layout = layout.map_err(|error| {
        let way_out = if args.writable {
            ""
        } else {
            "; `stellaops bundle import` creates it"
        };
        Failure::new(Exit::LocalIo, format!("{}{way_out}", with_causes(&error)))
    })?;
    let layout = layout.with_gaps(context.gaps.clone());
    let host = host.map(|host| host.parse().expect("a host name"));
    let mut server =
        RegistryServer::builder(Arc::new(LayoutStore::new(layout, host))).read_only(!args.writable);
    let requests = Arc::new(Requests::new(
        Arc::clone(&context.log),
        Arc::clone(&context.metrics),
        context.gaps.clone(),
    ));
    let observer: Arc<dyn ServerObserver> = Arc::<Requests>::clone(&requests);
    server = server.observer(observer).open_files(open_files());
    if args.listen.ip().is_loopback() || !args.allow_host.is_empty() {
        server = server.allowed_hosts(args.allow_host.iter().map(|host| host_of(host.as_str())));
    }
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
    signals.next().await;
    requests
        .say("Stopping: requests in progress are finished; a second signal cuts them off".into());
    let ended = tokio::select! {
        () = running.shutdown() => Ok(()),
        number = signals.next() => Err(Failure::with_code(
            128 + number,
            "stopped by a second signal; requests in progress were cut off",
        )),
    };
    requests.flush();
    ended
}

/// The most files that the server can use: 1024 connections, each with a session, a file and a call of the store.
const MOST_FILES: u64 = 8192;

/// Raises the limit of open files as far as is useful and allowed, and returns it.
fn open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(MOST_FILES).min(MOST_FILES);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        };
        // If it is refused, the server makes do with the current limit.
        setrlimit(Resource::Nofile, raised).ok();
    }
    getrlimit(Resource::Nofile).current.unwrap_or(MOST_FILES)
}

/// Removes the port, which differs in front of and behind a proxy.
fn host_of(host: &str) -> String {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name.to_owned(),
        _ => host.to_owned(),
    }
}

/// How many lines may wait to be written. Beyond that, requests are counted and not logged: a slow reader of the log must not
/// slow down clients.
const MAX_LINES: usize = 4096;
/// How long writing the last lines may take at the end.
const FLUSH: Duration = Duration::from_secs(1);

/// The access log and the metrics of requests.
#[derive(Debug)]
struct Requests {
    lines: SyncSender<Line>,
    metrics: Arc<Metrics>,
    unlogged: AtomicU64,
}

#[derive(Debug)]
enum Line {
    Message(String, Map<String, Value>),
    Flush(SyncSender<()>),
}

impl Requests {
    fn new(log: Arc<Log>, metrics: Arc<Metrics>, gaps: FileSystemGaps) -> Self {
        let (lines, waiting): (_, Receiver<Line>) = sync_channel(MAX_LINES);
        std::thread::spawn(move || {
            for line in waiting {
                match line {
                    Line::Message(message, fields) => {
                        log.write(LogLevel::Info, &message, fields);
                        log.warn_of_gaps(&gaps);
                    }
                    Line::Flush(done) => drop(done),
                }
            }
        });
        Self {
            lines,
            metrics,
            unlogged: AtomicU64::new(0),
        }
    }

    fn say(&self, message: String) {
        self.lines.try_send(Line::Message(message, Map::new())).ok();
    }

    /// Waits until all messages are written.
    fn flush(&self) {
        let (done, written) = sync_channel(0);
        if self.lines.try_send(Line::Flush(done)).is_ok() {
            // Nothing is ever sent: dropping the sender is the signal.
            written.recv_timeout(FLUSH).ok();
        }
    }
}

impl ServerObserver for Requests {
    fn answered(&self, request: &AnsweredRequest<'_>) {
        let status = request.status.map(|status| status.as_u16());
        let word = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        let method = request.method.as_str();
        self.metrics
            .served(method, &word, request.elapsed.as_secs_f64());
        let (method, path) = (foreign(method), foreign(request.path));
        let milliseconds = request.elapsed.as_millis();
        let user = request.user.map(foreign);
        let named = user
            .as_ref()
            .map_or_else(|| "-".to_owned(), |user| format!("{user:?}"));
        let message = format!(
            "Request method={method} path={path} status={word} bytes={} ms={milliseconds} user={named}",
            request.bytes
        );
        let fields = [
            ("method", method.into()),
            ("path", path.into()),
            ("status", status.into()),
            ("bytes", request.bytes.into()),
            ("ms", u64::try_from(milliseconds).unwrap_or(u64::MAX).into()),
            ("user", user.into()),
        ];
        let fields = fields.map(|(name, value): (&str, Value)| (name.to_owned(), value));
        let line = Line::Message(message, Map::from_iter(fields));
        match self.lines.try_send(line) {
            Ok(()) => {
                let unlogged = self.unlogged.swap(0, Ordering::Relaxed);
                if unlogged > 0 {
                    self.say(format!(
                        "{unlogged} requests are missing from this log: it was written too slowly"
                    ));
                }
            }
            Err(_full) => {
                self.unlogged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

fn tls(args: &ServeArgs) -> Result<Option<ServerConfig>, Failure> {
    let (Some(certificate), Some(key)) = (&args.tls_cert, &args.tls_key) else {
        return Ok(None);
    };
    let config = tls_config(
        &read_option(certificate, "--tls-cert")?,
        &read_option(key, "--tls-key")?,
    );
    config.map(Some).map_err(|error| {
        let (certificate, key) = (certificate.display(), key.display());
        let message = format!(
            "--tls-cert {certificate} --tls-key {key}: {}",
            with_causes(&error)
        );
        Failure::new(Exit::Usage, message)
    })
}

fn users(path: &Path) -> Result<Htpasswd, Failure> {
    let text = read_option(path, "--auth")?;
    String::from_utf8_lossy(&text).parse().map_err(|error| {
        let message = format!("--auth {}: {error}", path.display());
        Failure::new(Exit::Usage, message)
    })
}
