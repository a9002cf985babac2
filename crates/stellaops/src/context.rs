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

use crate::answer_headers;
use crate::cli::{Connections, Global};
use crate::commands::run::{ConfigUse, Run};
use crate::config::{ApiConfig, Config, RegistryConfig, Secret};
use crate::environment::Environment;
use crate::exit::{Exit, Failure};
use crate::findings::Findings;
use crate::log::{Log, LogLevel};
use crate::metrics::Metrics;
use crate::progress::Progress;
use crate::receipts::{FolderReceipts, ReceiptStore, Receipts};
use crate::registry_board::RegistryBoard;
use crate::render;
use crate::small_file::read_option;
use crate::window::DailyWindow;

/// What every command works with: configuration, registries, log and metrics.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The file that `--config` names, or the one that the command reads otherwise.
    pub(crate) config_file: Option<PathBuf>,
    pub(crate) config: Arc<Config>,
    pub(crate) client: Client,
    /// The options of `client`.
    pub(crate) options: ClientOptions,
    pub(crate) log: Arc<Log>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) progress: Progress,
    pub(crate) board: Arc<RegistryBoard>,
    /// Collects what discoveries find, for a run that has to say so at its end.
    pub(crate) findings: Option<Arc<Findings>>,
    /// What the file systems that are written to cannot do.
    pub(crate) gaps: FileSystemGaps,
    receipts: Option<Arc<dyn ReceiptStore>>,
    cache: Option<PathBuf>,
    manifests: Option<Arc<ManifestFolder>>,
    /// The files that may hold logins, whether or not they exist.
    logins: Vec<PathBuf>,
    /// Whether a denied request is explained by where logins were looked for.
    explains_logins: bool,
    observer: Arc<Observer>,
}

/// What a process has once, whatever its configuration says.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) log: Arc<Log>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) progress: Progress,
    pub(crate) board: Arc<RegistryBoard>,
    pub(crate) gaps: FileSystemGaps,
    /// Where the receipts of jobs are kept, if there is a place.
    pub(crate) receipts: Option<Arc<dyn ReceiptStore>>,
    /// The folder of the caches, if there is a place.
    pub(crate) cache: Option<PathBuf>,
}

/// What a command does, as far as its context has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Purpose {
    /// Whether it talks to registries other than its own.
    pub(crate) network: bool,
    /// Whether it changes the file of logins, which then need not be there.
    pub(crate) changes_logins: bool,
}

impl Purpose {
    pub(crate) const SERVICE: Self = Self {
        network: true,
        changes_logins: false,
    };
}

impl Context {
    /// Creates the context of a command.
    pub(crate) fn new(global: &Global, log: Arc<Log>, command: &dyn Run) -> Result<Self, Failure> {
        let config_file = command.config_use().file(global.config.as_deref());
        let config = match (&config_file, command.config_use()) {
            (Some(path), ConfigUse::Demanded) => Config::read(path)?,
            (Some(path), ConfigUse::IfRight) => Config::read(path).unwrap_or_else(|failure| {
                log.quoted(LogLevel::Warn, &failure);
                Config::default()
            }),
            _ => Config::default(),
        };
        let gaps = FileSystemGaps::default();
        let receipts = state("receipts").map(|folder| {
            let store = FolderReceipts::new(folder, gaps.clone());
            Arc::new(store) as Arc<dyn ReceiptStore>
        });
        let process = Process {
            progress: Progress::new(!global.no_progress, Arc::clone(&log)),
            log,
            metrics: Arc::default(),
            board: Arc::default(),
            gaps,
            receipts,
            cache: cache_folder(),
        };
        let purpose = Purpose {
            network: command.registries().is_some(),
            changes_logins: command.changes_logins(),
        };
        let context = Self::of_process(&process, &global.connections, config, purpose);
        let context = match (context, command.config_use()) {
            (Err(failure), ConfigUse::IfRight) => {
                process.log.quoted(LogLevel::Warn, &failure);
                let config = Config::default();
                Self::of_process(&process, &global.connections, config, purpose)
            }
            (context, _) => context,
        };
        Ok(Self {
            config_file,
            ..context?
        })
    }

    /// Creates the context of a process. If its purpose is only to talk to its own registry, proxies and certificate folders
    /// are not read and nothing is warned about.
    pub(crate) fn of_process(
        process: &Process,
        connections: &Connections,
        config: Config,
        purpose: Purpose,
    ) -> Result<Self, Failure> {
        let Purpose {
            network,
            changes_logins,
        } = purpose;
        let log = Arc::clone(&process.log);
        let observer = Arc::new(Observer::new(process));
        let environment = Environment::of_process();
        let logins = match &connections.registry_config {
            Some(path) if path.is_file() || changes_logins => vec![path.clone()],
            Some(path) => {
                let path = path.display();
                let message = format!("--registry-config {path}: there is no such file");
                return Err(Failure::new(Exit::Usage, message));
            }
            None => environment.credential_files(),
        };
        let mut options = client_options(connections, &config)?;
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
            config_file: None,
            config: Arc::new(config),
            client,
            options,
            log,
            metrics: Arc::clone(&process.metrics),
            progress: process.progress.clone(),
            board: Arc::clone(&process.board),
            findings: None,
            gaps: process.gaps.clone(),
            receipts: process.receipts.clone(),
            cache: process.cache.clone(),
            manifests: process
                .cache
                .as_ref()
                .map(|folder| Arc::new(ManifestFolder::new(folder.join("manifests")))),
            logins,
            explains_logins: !changes_logins,
            observer,
        })
    }

    /// Returns the number of HTTP requests sent so far.
    pub(crate) fn requests(&self) -> u64 {
        self.observer.requests.load(Ordering::Relaxed)
    }

    /// Returns a context whose requests another observer sees, which is made from the one that sees them now.
    pub(crate) fn observed_by<O: RequestObserver + 'static>(
        &self,
        observer: impl FnOnce(Arc<dyn RequestObserver>) -> Arc<O>,
    ) -> Self {
        let inner: Arc<dyn RequestObserver> = Arc::<Observer>::clone(&self.observer);
        let observer: Arc<dyn RequestObserver> = observer(inner);
        Self {
            client: self.client.with_observer(observer),
            ..self.clone()
        }
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

    /// Returns a context whose log lines and progress are those of one run, which collects its own findings and gaps.
    pub(crate) fn for_run(&self, log: Arc<Log>, progress: Progress) -> Self {
        let process = Process {
            log: Arc::clone(&log),
            metrics: Arc::clone(&self.metrics),
            progress: progress.clone(),
            board: Arc::clone(&self.board),
            gaps: FileSystemGaps::default(),
            receipts: self.receipts.clone(),
            cache: self.cache.clone(),
        };
        let observer = Arc::new(Observer::new(&process));
        let told: Arc<dyn RequestObserver> = Arc::<Observer>::clone(&observer);
        Self {
            client: self.client.with_observer(told),
            log,
            progress,
            findings: Some(Arc::default()),
            gaps: process.gaps,
            observer,
            ..self.clone()
        }
    }

    /// Returns the receipts of a job.
    pub(crate) fn receipts_of(&self, job: &str) -> Result<Receipts, Failure> {
        let store = self.receipts.clone().ok_or_else(|| {
            let message = "there is no place for receipts: set XDG_STATE_HOME or HOME";
            Failure::new(Exit::Usage, message)
        })?;
        Receipts::of_job(job, store)
    }

    /// Returns the names of all jobs that have receipts, sorted.
    pub(crate) fn jobs_with_receipts(&self) -> Result<Vec<String>, Failure> {
        self.receipts
            .as_ref()
            .map_or(Ok(Vec::new()), |receipts| receipts.jobs())
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

    /// Returns the cache of probe results: shared with other runs in the folder of the caches if there is one, in memory
    /// otherwise.
    pub(crate) fn probe_cache(&self) -> ProbeCache {
        match &self.cache {
            Some(folder) => ProbeCache::open(folder).with_gaps(self.gaps.clone()),
            None => ProbeCache::in_memory(),
        }
    }

    /// Returns the cache of manifests in the folder of the caches, if there is one.
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

fn client_options(connections: &Connections, config: &Config) -> Result<ClientOptions, Failure> {
    let mut options = ClientOptions::default();
    options.user_agent = concat!("stellaops/", env!("CARGO_PKG_VERSION")).to_owned();
    for registry in &connections.plain_http {
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
    for registry in &connections.insecure {
        let host = options.hosts.entry(registry.as_str().to_owned());
        host.or_default().insecure = true;
    }
    if let Some(path) = &connections.ca_file {
        options.extra_roots.push(roots(path, "--ca-file")?);
    }
    if let (Some(certificate), Some(key)) = (&connections.client_cert, &connections.client_key) {
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
    board: Arc<RegistryBoard>,
    requests: AtomicU64,
    /// Requests whose last answer was 401 or 403, up to [`MAX_DENIED`].
    denied: Mutex<BTreeSet<String>>,
    /// When each registry was last reported as waited for, by what is waited for.
    told: Mutex<BTreeMap<(Registry, &'static str), Instant>>,
}

/// Bounds the memory: what matters is whether there are any.
const MAX_DENIED: usize = 1000;

impl Observer {
    fn new(process: &Process) -> Self {
        Self {
            log: Arc::clone(&process.log),
            progress: process.progress.clone(),
            metrics: Arc::clone(&process.metrics),
            board: Arc::clone(&process.board),
            requests: AtomicU64::new(0),
            denied: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// Shows what requests to a registry wait for.
    fn show_wait(&self, registry: &Registry, what: String, time: Option<Duration>) {
        self.board.waits(registry, &what, time);
        self.progress.waits(what, time);
    }

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
        self.show_wait(registry, what, Some(event.wait));
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
        self.show_wait(registry, what, None);
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

    fn wants_headers(&self) -> bool {
        self.inner.wants_headers()
    }

    fn waiting(&self, event: &WaitEvent<'_>) {
        self.inner.waiting(event);
    }

    fn silent(&self, event: &SilenceEvent<'_>) {
        self.inner.silent(event);
    }
}

impl RequestObserver for Observer {
    fn wants_headers(&self) -> bool {
        self.log.is_debug()
    }

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
            let retry = match event.attempt {
                0 | 1 => String::new(),
                more => format!(", try {more}"),
            };
            let headers = event.headers.map(answer_headers::shown).unwrap_or_default();
            let headers: String = headers
                .iter()
                .map(|(name, value)| format!("; {name}: {value}"))
                .collect();
            self.log.debug(&format!(
                "{} {} -> {answer} ({millis} ms{retry}){headers}",
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
        self.show_wait(event.registry, what, Some(event.wait));
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
