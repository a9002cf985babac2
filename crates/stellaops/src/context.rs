use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use mirror_plan::JobName;
use oci_content::{Capability, FileSystemGaps, Registry, with_causes};
use oci_referrers::{ManifestCache, ManifestFolder};
use registry_client::{
    Client, ClientOptions, DockerConfig, Endpoint, RequestEvent, RequestObserver, SilenceEvent,
    WaitEvent, WaitReason,
};
use registry_probe::ProbeCache;
use serde_json::json;

use crate::cli::Global;
use crate::commands::run::Run;
use crate::config::{ApiConfig, Config, RegistryConfig, Secret};
use crate::environment::Environment;
use crate::exit::{Exit, Failure};
use crate::log::{Log, LogLevel};
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::render;
use crate::small_file::read_option;
use crate::window::DailyWindow;

/// What every command works with: configuration, registries, log and metrics.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) config: Arc<Config>,
    pub(crate) client: Client,
    /// The options of `client`.
    pub(crate) options: ClientOptions,
    pub(crate) log: Arc<Log>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) progress: Progress,
    /// What the file systems that are written to cannot do.
    pub(crate) gaps: FileSystemGaps,
    manifests: Option<Arc<ManifestFolder>>,
    /// The files that may hold logins, whether or not they exist.
    logins: Vec<PathBuf>,
    /// Whether a denied request is explained by where logins were looked for.
    explains_logins: bool,
    observer: Arc<Observer>,
}

impl Context {
    /// Creates the context of a command. If the command talks only to its own registry, proxies and certificate folders
    /// are not read and nothing is warned about.
    pub(crate) fn new(global: &Global, log: Arc<Log>, command: &dyn Run) -> Result<Self, Failure> {
        let network = command.registries().is_some();
        let config = match &global.config {
            Some(path) => Config::read(path)?,
            None => Config::default(),
        };
        let metrics = Arc::new(Metrics::new());
        let progress = Progress::new(!global.no_progress, Arc::clone(&log));
        let observer = Arc::new(Observer {
            log: Arc::clone(&log),
            progress: progress.clone(),
            metrics: Arc::clone(&metrics),
            requests: AtomicU64::new(0),
            denied: Mutex::default(),
            told: Mutex::default(),
        });
        let environment = Environment::of_process();
        let logins = match &global.registry_config {
            Some(path) if path.is_file() || command.changes_logins() => vec![path.clone()],
            Some(path) => {
                let path = path.display();
                let message = format!("--registry-config {path}: there is no such file");
                return Err(Failure::new(Exit::Usage, message));
            }
            None => environment.credential_files(),
        };
        let mut options = client_options(global, &config)?;
        options.credentials = Some(Arc::new(DockerConfig::from_files(logins.clone())));
        let told: Arc<dyn RequestObserver> = Arc::<Observer>::clone(&observer);
        options.observer = Some(told);
        if network {
            options.certs_folders = environment.certs_folders();
            options.proxy = environment.proxy();
        }
        let insecure = options.hosts.iter().filter(|(_, host)| host.insecure);
        for (host, _) in insecure.filter(|_| network) {
            log.warn(&format!(
                "TLS is not verified for registry {host}: anyone who answers at its address is trusted and sees what is sent"
            ));
        }
        let client = Client::new(options.clone())
            .map_err(|error| Failure::new(Exit::Usage, with_causes(&error)))?;
        Ok(Self {
            config: Arc::new(config),
            client,
            options,
            log,
            metrics,
            progress,
            gaps: FileSystemGaps::default(),
            manifests: cache_folder()
                .map(|folder| Arc::new(ManifestFolder::new(folder.join("manifests")))),
            logins,
            explains_logins: !command.changes_logins(),
            observer,
        })
    }

    /// Returns the number of HTTP requests sent so far.
    pub(crate) fn requests(&self) -> u64 {
        self.observer.requests.load(Ordering::Relaxed)
    }

    /// Returns a context whose requests are also counted for a job, and sent in its window.
    pub(crate) fn for_job(&self, job: &JobName, window: Option<DailyWindow>) -> Self {
        let counted = Counted {
            inner: Arc::clone(&self.observer),
            metrics: Arc::clone(&self.metrics),
            job: job.clone(),
        };
        let mut client = self.client.with_observer(Arc::new(counted));
        if let Some(window) = window {
            client = client.with_window(Arc::new(window));
        }
        Self {
            client,
            ..self.clone()
        }
    }

    /// Returns the files that may hold logins, in the order in which they are read; the first one is written to.
    pub(crate) fn login_files(&self) -> &[PathBuf] {
        &self.logins
    }

    /// Describes where logins were looked for.
    pub(crate) fn logins(&self) -> String {
        let file = |path: &PathBuf| match path.symlink_metadata() {
            Ok(_) => path.display().to_string(),
            Err(_) => format!("{} (not there)", path.display()),
        };
        let files: Vec<_> = self.logins.iter().map(file).collect();
        format!("logins were looked for in {}", files.join(", "))
    }

    /// Adds where logins were looked for to a failure, if a registry denied access.
    pub(crate) fn explained(&self, failure: Failure) -> Failure {
        if self.explains_logins && failure.is(Exit::Access) && self.observer.was_denied() {
            failure.and(&self.logins())
        } else {
            failure
        }
    }

    /// Logs the registry that is waited for while `answer` is pending, as happens for every request of the client.
    pub(crate) async fn waiting_for<T>(
        &self,
        registry: &Registry,
        answer: impl Future<Output = T>,
    ) -> T {
        let started = Instant::now();
        let mut answer = std::pin::pin!(answer);
        loop {
            match tokio::time::timeout(Duration::from_secs(5), &mut answer).await {
                Ok(answer) => return answer,
                Err(_) => self.observer.waits(registry, None, started.elapsed()),
            }
        }
    }

    /// Returns the cache of probe results: shared with other runs in `$XDG_CACHE_HOME/stellaops` if there is such a
    /// place, in memory otherwise.
    pub(crate) fn probe_cache(&self) -> ProbeCache {
        match cache_folder() {
            Some(folder) => ProbeCache::open(&folder).with_gaps(self.gaps.clone()),
            None => ProbeCache::in_memory(),
        }
    }

    /// Returns the cache of manifests in `$XDG_CACHE_HOME/stellaops/manifests`, if there is such a place.
    pub(crate) fn manifest_cache(&self) -> Option<Arc<dyn ManifestCache>> {
        let manifests = self.manifests.clone()?;
        Some(manifests)
    }

    /// Warns once if the cache of manifests could not be used.
    pub(crate) fn warn_of_caches(&self) {
        for note in self
            .manifests
            .iter()
            .flat_map(|manifests| manifests.notes())
        {
            self.log.warn(&note);
        }
    }

    /// Returns the configured capability of a registry's referrers API.
    pub(crate) fn configured_api(&self, registry: &Registry) -> Option<Capability> {
        match self.config.registries.get(registry)?.referrers_api? {
            ApiConfig::Unsupported => Some(Capability::Unsupported),
        }
    }
}

/// Returns the folder of the caches: `$XDG_CACHE_HOME/stellaops`.
fn cache_folder() -> Option<PathBuf> {
    variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("stellaops"))
}

fn client_options(global: &Global, config: &Config) -> Result<ClientOptions, Failure> {
    let mut options = ClientOptions::default();
    options.user_agent = concat!("stellaops/", env!("CARGO_PKG_VERSION")).to_owned();
    for registry in &global.plain_http {
        options.plain_http.insert(registry.as_str().to_owned());
    }
    for (name, registry) in &config.registries {
        let host = options.hosts.entry(name.as_str().to_owned()).or_default();
        host.plain_http = registry.plain_http;
        host.max_in_flight = registry.max_in_flight;
        host.insecure = registry.insecure_skip_verify;
        host.requests_per_second = registry.requests_per_second;
        host.bytes_per_second = registry.bytes_per_second;
        let key = |key: &str| format!("configuration: registries: {name}: {key}");
        host.window = match (registry.window, &registry.time_zone) {
            (Some(hours), zone) => Some(Arc::new(DailyWindow::new(hours, zone.clone()))),
            (None, None) => None,
            (None, Some(_)) => {
                let message = key("time_zone is that of the window, and there is no window");
                return Err(Failure::new(Exit::Usage, message));
            }
        };
        if let Some(path) = &registry.ca_file {
            host.extra_roots.push(roots(path, &key("ca_file"))?);
        }
        host.client_identity = match registry {
            RegistryConfig {
                client_cert: Some(certificate),
                client_key: Some(file),
                ..
            } => Some(identity(
                (certificate, &key("client_cert")),
                (file, &key("client_key")),
            )?),
            RegistryConfig {
                client_cert: None,
                client_key: None,
                ..
            } => None,
            _ => {
                let message = key("client_cert and client_key go together, and one is missing");
                return Err(Failure::new(Exit::Usage, message));
            }
        };
    }
    for registry in &global.insecure {
        let host = options.hosts.entry(registry.as_str().to_owned());
        host.or_default().insecure = true;
    }
    if let Some(path) = &global.ca_file {
        options.extra_roots.push(roots(path, "--ca-file")?);
    }
    if let (Some(certificate), Some(key)) = (&global.client_cert, &global.client_key) {
        let key = Secret::File(key.clone());
        let identity = identity((certificate, "--client-cert"), (&key, "--client-key"))?;
        options.client_identity = Some(identity);
    }
    Ok(options)
}

/// Reads a file of root certificates.
fn roots(path: &Path, option: &str) -> Result<Vec<u8>, Failure> {
    let pem = read_option(path, option)?;
    ClientOptions::check_roots(&pem).map_err(|error| {
        let message = format!("{option} {}: {}", path.display(), with_causes(&error));
        Failure::new(Exit::Usage, message)
    })?;
    Ok(pem)
}

/// Reads a client certificate from its file, and its key.
fn identity(
    (certificate, certificate_option): (&Path, &str),
    (key, key_option): (&Secret, &str),
) -> Result<Vec<u8>, Failure> {
    let mut pem = read_option(certificate, certificate_option)?;
    let value = key
        .read()
        .map_err(|error| Failure::new(Exit::Usage, format!("{key_option} {error}")))?;
    pem.push(b'\n');
    pem.extend(value.as_bytes());
    pem.push(b'\n');
    ClientOptions::check_identity(&pem).map_err(|error| {
        let certificate = certificate.display();
        let message = format!(
            "{certificate_option} {certificate}, {key_option} {key}: {}",
            with_causes(&error)
        );
        Failure::new(Exit::Usage, message)
    })?;
    Ok(pem)
}

/// Returns a path from the environment; an empty variable counts as unset.
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
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
    state("ledger")
}

/// Returns a folder of what outlives a run: `$XDG_STATE_HOME/stellaops/NAME`.
pub(crate) fn state(name: &str) -> Option<PathBuf> {
    variable("XDG_STATE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("stellaops").join(name))
}

/// Counts and logs what the registry client does.
#[derive(Debug)]
struct Observer {
    log: Arc<Log>,
    progress: Progress,
    metrics: Arc<Metrics>,
    requests: AtomicU64,
    /// Requests whose last answer was 401 or 403, up to [`MAX_DENIED`].
    denied: Mutex<BTreeSet<String>>,
    /// When each registry was last reported as waited for, by what is waited for.
    told: Mutex<BTreeMap<(Registry, &'static str), Instant>>,
}

/// Bounds the memory: what matters is whether there are any.
const MAX_DENIED: usize = 1000;

impl Observer {
    /// Counts a request for the progress of a discovery: the subject it was about, or the manifest it read.
    fn show(&self, event: &RequestEvent<'_>) {
        let name = event.url.path_segments().and_then(Iterator::last);
        let (Some(name), Some(repository)) = (name, event.repository) else {
            return;
        };
        let subject = match event.endpoint {
            Endpoint::Referrers => Some(name.to_owned()),
            // The referrers tag of a subject.
            Endpoint::Manifest => name
                .split_once('-')
                .filter(|(_, hex)| hex.len() >= 64 && !hex.contains('.'))
                .map(|(algorithm, hex)| format!("{algorithm}:{hex}")),
            _ => return,
        };
        match subject {
            Some(subject) => {
                let subject = format!("{}/{repository}@{subject}", event.registry);
                self.progress.asked_for_referrers(&subject);
            }
            None if event.status.is_some_and(|status| status.is_success()) => {
                self.progress.read_manifest();
            }
            None => {}
        }
    }

    fn was_denied(&self) -> bool {
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        !denied.is_empty()
    }

    /// Returns whether a wait is to be logged, as it was not within `interval`; it then counts as logged.
    fn is_due(&self, registry: &Registry, what: &'static str, interval: Duration) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (registry.clone(), what);
        if told.get(&key).is_some_and(|last| last.elapsed() < interval) {
            return false;
        }
        told.insert(key, Instant::now());
        true
    }

    /// Counts and shows a wait for a registry's budget, and logs it once in ten minutes.
    fn held(&self, event: &WaitEvent<'_>) {
        // A little less than the time after which the client reports a wait again.
        const INTERVAL: Duration = Duration::from_secs(590);
        let registry = event.registry;
        let seconds = event.wait.as_secs_f64().ceil();
        let (budget, what, message) = match event.reason {
            WaitReason::Requests(rate) => (
                "requests",
                format!("limit of {registry}, {rate} requests per second"),
                format!("Requests to registry {registry} wait for its limit of {rate} per second"),
            ),
            WaitReason::Bytes(rate) => (
                "bytes",
                format!("limit of {registry}, {rate} bytes per second"),
                format!(
                    "Blobs of registry {registry} wait for its limit of {rate} bytes per second"
                ),
            ),
            WaitReason::Window(window) => (
                "window",
                format!("window of {registry}"),
                format!("Waiting {seconds} s for the window of registry {registry} ({window})"),
            ),
            _ => return,
        };
        if event.waited.is_zero() {
            self.metrics.held(registry, budget);
        }
        self.progress.waits(what, Some(event.wait));
        if self.is_due(registry, budget, INTERVAL) {
            let fields = json!({ "registry": registry, "budget": budget, "wait_seconds": seconds });
            let fields = fields.as_object().cloned().unwrap_or_default();
            self.log.write(LogLevel::Info, &message, fields);
        }
    }

    /// Logs that a registry, or another host in its place, has been silent for a while; once every 10 s.
    fn waits(&self, registry: &Registry, host: Option<&str>, silence: Duration) {
        const INTERVAL: Duration = Duration::from_secs(9);
        let seconds = silence.as_secs();
        let what = format!("no answer from {registry} for {seconds} s");
        self.progress.waits(what, None);
        if !self.is_due(registry, "answer", INTERVAL) {
            return;
        }
        let at = host.map_or(String::new(), |host| format!(" (at {host})"));
        let message =
            format!("Still waiting for registry {registry}{at}: nothing has come for {seconds} s");
        let fields = json!({ "registry": registry, "silent_seconds": seconds });
        let fields = fields.as_object().cloned().unwrap_or_default();
        self.log.write(LogLevel::Info, &message, fields);
    }
}

/// Counts the bytes of a job, and passes everything on.
#[derive(Debug)]
struct Counted {
    inner: Arc<Observer>,
    metrics: Arc<Metrics>,
    job: JobName,
}

impl RequestObserver for Counted {
    fn request(&self, event: &RequestEvent<'_>) {
        self.metrics
            .job_bytes(&self.job, event.body_bytes, event.sent_bytes);
        self.inner.request(event);
    }

    fn waiting(&self, event: &WaitEvent<'_>) {
        self.inner.waiting(event);
    }

    fn silent(&self, event: &SilenceEvent<'_>) {
        self.inner.silent(event);
    }
}

impl RequestObserver for Observer {
    fn silent(&self, event: &SilenceEvent<'_>) {
        let host = event.url.host_str().unwrap_or_default();
        let own = event.registry.api_host().starts_with(host);
        self.waits(event.registry, (!own).then_some(host), event.silence);
    }

    fn request(&self, event: &RequestEvent<'_>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.show(event);
        if let Some(status) = event.status {
            let request = format!("{} {}", event.method, event.url);
            let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
            if !matches!(status.as_u16(), 401 | 403) {
                denied.remove(&request);
            } else if denied.len() < MAX_DENIED {
                denied.insert(request);
            }
        }
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
                event.method,
                render::foreign(event.url.as_str())
            ));
        }
    }

    fn waiting(&self, event: &WaitEvent<'_>) {
        if !matches!(event.reason, WaitReason::Retry) {
            return self.held(event);
        }
        let status = event
            .status
            .map_or("none".to_owned(), |status| status.as_u16().to_string());
        self.metrics.waiting(event.registry, &status);
        let what = match event.status.map(|status| status.as_u16()) {
            Some(429) => format!("rate limit of {}", event.registry),
            _ => format!("retrying {}", event.registry),
        };
        self.progress.waits(what, Some(event.wait));
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
