use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oci_content::{Capability, Registry};
use registry_client::{
    Client, ClientOptions, DockerConfig, HostOptions, ProxyOptions, RequestEvent, RequestObserver,
    WaitEvent,
};
use registry_probe::ProbeCache;
use serde_json::json;

use crate::cli::{Global, LogLevel};
use crate::config::{ApiConfig, Config};
use crate::exit::{Exit, Failure, chain};
use crate::log::Log;
use crate::metrics::Metrics;

/// What every command works with: configuration, registries, log and metrics.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) config: Arc<Config>,
    pub(crate) client: Client,
    /// What `client` was made with.
    pub(crate) options: ClientOptions,
    pub(crate) log: Arc<Log>,
    pub(crate) metrics: Arc<Metrics>,
    requests: Arc<AtomicU64>,
}

impl Context {
    pub(crate) fn new(global: &Global, log: Arc<Log>) -> Result<Self, Failure> {
        let config = match &global.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        let metrics = Arc::new(Metrics::new());
        let requests = Arc::new(AtomicU64::new(0));
        let observer = Observer {
            log: Arc::clone(&log),
            metrics: Arc::clone(&metrics),
            requests: Arc::clone(&requests),
        };
        let options = client_options(global, &config, observer)?;
        let client = Client::new(options.clone())
            .map_err(|error| Failure::new(Exit::Usage, chain(&error)))?;
        Ok(Self {
            config: Arc::new(config),
            client,
            options,
            log,
            metrics,
            requests,
        })
    }

    /// Returns how many HTTP requests were sent so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns the cache of what registries can do, for the user's other runs as well where there is a place for it:
    /// `$XDG_CACHE_HOME/stellaops`.
    pub(crate) fn probe_cache(&self) -> ProbeCache {
        let folder = variable("XDG_CACHE_HOME")
            .or_else(|| variable("HOME").map(|home| home.join(".cache")))
            .map(|cache| cache.join("stellaops"));
        match folder {
            Some(folder) => ProbeCache::open(&folder),
            None => ProbeCache::in_memory(),
        }
    }

    /// Returns what the configuration says about a registry's referrers API.
    pub(crate) fn configured_api(&self, registry: &Registry) -> Option<Capability> {
        match self
            .config
            .registries
            .get(registry.as_str())?
            .referrers_api?
        {
            ApiConfig::Supported => Some(Capability::Supported),
            ApiConfig::Unsupported => Some(Capability::Unsupported),
        }
    }
}

fn client_options(
    global: &Global,
    config: &Config,
    observer: Observer,
) -> Result<ClientOptions, Failure> {
    let mut options = ClientOptions::default();
    options.user_agent = concat!("stellaops/", env!("CARGO_PKG_VERSION")).to_owned();
    options.observer = Some(Arc::new(observer));
    options.credentials = Some(Arc::new(DockerConfig::from_files(credential_files(
        global,
    )?)));
    for registry in &global.plain_http {
        options.plain_http.insert(registry.as_str().to_owned());
    }
    for (host, registry) in &config.registries {
        let mut host_options = HostOptions::default();
        host_options.plain_http = registry.plain_http;
        host_options.max_in_flight = registry.max_in_flight;
        options.hosts.insert(host.clone(), host_options);
    }
    if let Some(path) = &global.ca_file {
        options.extra_roots.push(read(path, "--ca-file")?);
    }
    if let (Some(certificate), Some(key)) = (&global.client_cert, &global.client_key) {
        let mut identity = read(certificate, "--client-cert")?;
        identity.push(b'\n');
        identity.extend(read(key, "--client-key")?);
        options.client_identity = Some(identity);
    }
    options.proxy = proxy();
    Ok(options)
}

/// Reads the proxies that the environment names, as curl and docker do: lower case goes first.
fn proxy() -> Option<ProxyOptions> {
    let variable = |name: &str| {
        let named = [name.to_lowercase(), name.to_uppercase()];
        let values = named.iter().filter_map(|name| std::env::var(name).ok());
        values.into_iter().find(|value| !value.is_empty())
    };
    let mut proxy = ProxyOptions::default();
    proxy.https = variable("https_proxy").or_else(|| variable("all_proxy"));
    proxy.http = variable("http_proxy").or_else(|| variable("all_proxy"));
    proxy.no_proxy = variable("no_proxy").unwrap_or_default();
    (proxy.https.is_some() || proxy.http.is_some()).then_some(proxy)
}

/// Reads a file that an option names, of at most 16 MiB: a device without an end is not read for ever.
pub(crate) fn read(path: &Path, option: &str) -> Result<Vec<u8>, Failure> {
    const MAX_BYTES: u64 = 16 << 20;
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    let reason = match read {
        Ok(_) if bytes.len() as u64 <= MAX_BYTES => return Ok(bytes),
        Ok(_) => "it is larger than 16 MiB".to_owned(),
        Err(error) => error.to_string(),
    };
    let message = format!("{option} {}: {reason}", path.display());
    Err(Failure::new(Exit::Usage, message))
}

/// Returns a path from the environment; an empty variable is as good as none.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// Finds the credentials files: the one that is named, else those that podman and docker use.
fn credential_files(global: &Global) -> Result<Vec<PathBuf>, Failure> {
    if let Some(path) = &global.registry_config {
        if !path.is_file() {
            let message = format!(
                "--registry-config {}: there is no such file",
                path.display()
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        return Ok(vec![path.clone()]);
    }
    let home = variable("HOME");
    let candidates = [
        variable("REGISTRY_AUTH_FILE"),
        variable("XDG_RUNTIME_DIR").map(|folder| folder.join("containers/auth.json")),
        variable("DOCKER_CONFIG")
            .or_else(|| home.as_ref().map(|home| home.join(".docker")))
            .map(|folder| folder.join("config.json")),
        home.map(|home| home.join(".config/containers/auth.json")),
    ];
    Ok(candidates
        .into_iter()
        .flatten()
        .filter(|path| path.is_file())
        .collect())
}

/// Returns the folder of the local store: `$XDG_DATA_HOME/stellaops/store`.
pub(crate) fn local_store() -> Result<PathBuf, Failure> {
    variable("XDG_DATA_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("stellaops/store"))
        .ok_or_else(|| {
            let message = "there is no place for the local store: set XDG_DATA_HOME or HOME, or name a target with --to";
            Failure::new(Exit::Usage, message)
        })
}

/// Returns the folder of the ledger: `$XDG_STATE_HOME/stellaops/ledger`.
pub(crate) fn ledger() -> Option<PathBuf> {
    variable("XDG_STATE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("stellaops/ledger"))
}

/// Counts and logs what the registry client does.
#[derive(Debug)]
struct Observer {
    log: Arc<Log>,
    metrics: Arc<Metrics>,
    requests: Arc<AtomicU64>,
}

impl RequestObserver for Observer {
    fn request(&self, event: &RequestEvent<'_>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let answer = match (event.status, event.error) {
            (Some(status), _) => status.as_u16().to_string(),
            (None, Some(error)) => format!("{error:?}"),
            (None, None) => "no answer".to_owned(),
        };
        let status = event
            .status
            .map_or("none".to_owned(), |status| status.as_u16().to_string());
        self.metrics
            .request(event.registry, &status, event.elapsed.as_secs_f64());
        if self.log.is_debug() {
            let millis = event.elapsed.as_millis();
            self.log.debug(&format!(
                "{} {} -> {answer} ({millis} ms)",
                event.method, event.url
            ));
        }
    }

    fn waiting(&self, event: &WaitEvent<'_>) {
        let status = event
            .status
            .map_or("none".to_owned(), |status| status.as_u16().to_string());
        self.metrics.waiting(event.registry, &status);
        if event.status.is_some_and(|status| status.as_u16() == 429) {
            let seconds = event.wait.as_secs_f64().ceil();
            let message = format!(
                "Rate limited by registry {}, waiting {seconds} s",
                event.registry
            );
            let fields = json!({ "registry": event.registry, "wait_seconds": seconds });
            let fields = fields.as_object().cloned().unwrap_or_default();
            self.log.write(LogLevel::Warn, &message, fields);
        } else if self.log.is_debug() {
            self.log.debug(&format!(
                "retrying {} in {} ms",
                event.registry,
                event.wait.as_millis()
            ));
        }
    }
}
