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

/// Serve the local store as a registry: on loopback and read-only, unless told otherwise
#[derive(Debug, Args)]
#[command(long_about = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Where to listen; elsewhere than on loopback only with --tls-cert and --auth
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5000")]
    pub(crate) listen: SocketAddr,
    /// The layout folder to serve [default: the local store]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Take pushes and deletions as well; what is pushed is kept as localhost/REPOSITORY, unless ?ns=HOST names the host
    #[arg(long)]
    pub(crate) writable: bool,
    /// Speak TLS with this certificate, followed by those of the authorities between it and the root (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM, without a passphrase)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Answer the users of this file only: lines as `htpasswd -nB USER` prints them
    #[arg(long, value_name = "FILE")]
    pub(crate) auth: Option<PathBuf>,
    /// Answer requests for this host as well, as a proxy before the store passes them on; on loopback others than
    /// localhost are refused
    #[arg(long, value_name = "HOST")]
    pub(crate) allow_host: Vec<Registry>,
}

/// The host of what is pushed without `?ns=`. Not the address that is listened on: its port may be another one at the next start,
/// and the tag then a second one.
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
            "{} is not a loopback address: a store is served there with --tls-cert, --tls-key and --auth only, or listen on 127.0.0.1",
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
            "; `stellaops bundle import` makes it"
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
    requests.say(
        "Stopping: requests that are under way are finished; a second signal ends them".into(),
    );
    let ended = tokio::select! {
        () = running.shutdown() => Ok(()),
        number = signals.next() => Err(Failure::with_code(
            128 + number,
            "stopped by a second signal; requests that were under way are cut off",
        )),
    };
    requests.flush();
    ended
}

/// What the server can make use of: 1024 connections, and for each a session, a file and a call of the store.
const MOST_FILES: u64 = 8192;

/// Returns how many files the process may have open, having raised the number as far as it is of use and allowed.
fn open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(MOST_FILES).min(MOST_FILES);
    if limit.current.is_some_and(|current| current < wanted) {
        let raised = Rlimit {
            current: Some(wanted),
            maximum: limit.maximum,
        };
        // Where it is refused, the server makes do with what there is.
        setrlimit(Resource::Nofile, raised).ok();
    }
    getrlimit(Resource::Nofile).current.unwrap_or(MOST_FILES)
}

/// Leaves the port away, which differs before and behind a proxy.
fn host_of(host: &str) -> String {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name.to_owned(),
        _ => host.to_owned(),
    }
}

/// Lines that wait to be written. Beyond, requests are counted and not logged: whoever reads the log slowly must not hold up those
/// who are served.
const MAX_LINES: usize = 4096;
/// How long the last lines may take at the end.
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

    /// Waits until what was said is written.
    fn flush(&self) {
        let (done, written) = sync_channel(0);
        if self.lines.try_send(Line::Flush(done)).is_ok() {
            // It is never sent, only dropped.
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
                        "{unlogged} requests are not in this log: it was written too slowly"
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
