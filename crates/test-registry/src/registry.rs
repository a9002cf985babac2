use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::num::NonZeroUsize;
use std::panic::Location;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use oci_content::{Registry, RepositoryName};
use registry_server::{MemoryStore, RegistryServer};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::oneshot;

use crate::connection::{BreakableListener, Connection};
use crate::fault::{Fault, status_code};
use crate::late::{Late, Lateness};
use crate::limiter::Limiter;
use crate::list_cache::ListCache;
use crate::persona::{Persona, Variant};
use crate::pipeline;
use crate::plan::Faults;
use crate::profile::Profile;
use crate::record::{RecordedRequest, Recorder};
use crate::route::{Host, Route};
use crate::shared::Shared;
use crate::token::{Accounts, SeveralScopes, TokenRules, Tokens};
use crate::unused::UnusedFault;

/// A registry on a port of 127.0.0.1, for one test.
///
/// - It runs on its own threads, so the test may block. Dropping it stops it.
/// - Dropping it panics while [faults are unused](Self::unused_faults).
/// - It starts empty. Content is inserted [directly](Self::image) or pushed.
/// - Personas that demand a token issue one to anybody, unless
///   [credentials](TestRegistryBuilder::credentials) are set.
#[derive(Debug)]
pub struct TestRegistry {
    pub(crate) shared: Arc<Shared>,
    address: SocketAddr,
    name: Registry,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Configures a [`TestRegistry`].
#[derive(Debug)]
pub struct TestRegistryBuilder {
    persona: Persona,
    variant: Option<Variant>,
    accounts: Accounts,
    token_rules: TokenRules,
    open: bool,
    page_size: Option<NonZeroUsize>,
    page_bytes: Option<u64>,
    pull_limit: Option<u64>,
    cache_ttl: Option<Duration>,
    latency: Duration,
    max_body_bytes: Option<u64>,
    chunk_min_bytes: Option<u64>,
    tag_index: bool,
    conditional_writes: bool,
    late: Late,
}

impl TestRegistry {
    /// Starts a registry that behaves like `persona`.
    ///
    /// # Panics
    ///
    /// When the machine has no port or thread left.
    pub async fn start(persona: Persona) -> Self {
        Self::builder(persona).start().await
    }

    /// Starts the configuration of a registry that behaves like `persona`.
    pub fn builder(persona: Persona) -> TestRegistryBuilder {
        TestRegistryBuilder {
            persona,
            variant: None,
            accounts: Accounts::default(),
            token_rules: TokenRules::default(),
            open: false,
            page_size: None,
            page_bytes: None,
            pull_limit: None,
            cache_ttl: None,
            latency: Duration::ZERO,
            max_body_bytes: None,
            chunk_min_bytes: None,
            tag_index: true,
            conditional_writes: false,
            late: Late::default(),
        }
    }

    /// Returns the persona.
    pub fn persona(&self) -> Persona {
        self.shared.persona
    }

    /// Returns host and port, in the form of references.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Returns the registry in references to it.
    pub fn registry(&self) -> Registry {
        self.name.clone()
    }

    /// Returns the URL of `path`: `http://`, host and port, then `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns the requests that have arrived, in the order of their arrival.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.recorder.requests()
    }

    /// Forgets the recorded requests and the maximum in flight.
    pub fn clear_requests(&self) {
        self.shared.recorder.clear();
        self.shared.foreign_recorder.clear();
    }

    /// Returns the maximum number of requests in flight: between their head and the last byte of
    /// their answer.
    pub fn max_in_flight_seen(&self) -> usize {
        self.shared.recorder.max_in_flight()
    }

    /// Returns host and port of the second host, which has the same content and never asks for
    /// credentials.
    ///
    /// [A fault](Fault::redirect_elsewhere) sends clients there as to a storage. With some
    /// personas, it is the token service, the target of a redirect, or the upstream of a proxy.
    pub fn foreign_host(&self) -> String {
        self.shared.foreign_host.clone()
    }

    /// Returns the requests that have arrived at the second host, in the order of their arrival.
    pub fn foreign_requests(&self) -> Vec<RecordedRequest> {
        self.shared.foreign_recorder.requests()
    }

    /// Plans a fault. If several match a request, the first that is not used up happens.
    #[track_caller]
    pub fn fault(&self, route: Route, fault: Fault) {
        self.shared.faults.plan(route, fault, Location::caller());
    }

    /// Forgets the planned faults.
    ///
    /// # Panics
    ///
    /// When one of them is [unused](Self::unused_faults) and that is not
    /// [allowed](Self::allow_unused_faults).
    #[track_caller]
    pub fn clear_faults(&self) {
        self.shared.faults.verify();
        self.shared.faults.clear();
    }

    /// Returns the faults that have not happened often enough: once for each status of their list,
    /// [as often as they say](Fault::times), or once if they happen [forever](Fault::forever). For
    /// a fault [per path](Fault::per_path), one path is enough.
    ///
    /// A test with an unused fault did not test what it claims. Dropping the registry and
    /// [clearing](Self::clear_faults) its faults therefore panic and name them.
    pub fn unused_faults(&self) -> Vec<UnusedFault> {
        self.shared.faults.unused()
    }

    /// Allows unused faults, for tests that plan faults at random.
    pub fn allow_unused_faults(&self) {
        self.shared.faults.allow_unused();
    }

    /// Expires every token that was issued so far.
    pub fn expire_tokens(&self) {
        self.shared.tokens.expire_all();
    }

    /// Issues a token for scopes such as `repository:app:pull,push`, without a request to the token
    /// service.
    pub fn issue_token(&self, scopes: &[&str]) -> String {
        const HOUR: Duration = Duration::from_secs(3600);
        self.shared
            .tokens
            .issue(scopes.iter().copied(), HOUR, false)
    }

    /// Resets the pulls that a [limit](TestRegistryBuilder::pull_limit) has counted.
    pub fn reset_pull_limit(&self) {
        self.shared.limiter.reset();
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic on that thread was printed, and the test saw its connection break.
            let _panicked = thread.join();
        }
        // A test that is already failing has a better message.
        if !std::thread::panicking() {
            self.shared.faults.verify();
        }
    }
}

impl TestRegistryBuilder {
    /// Admits only users with a set name and password. Can be called several times.
    #[must_use]
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.accounts.passwords.push((user.into(), password.into()));
        self
    }

    /// Admits only clients that send a set refresh token to the token service (OAuth2). Can be
    /// called several times.
    #[must_use]
    pub fn refresh_token(mut self, token: impl Into<String>) -> Self {
        self.accounts.refresh_tokens.push(token.into());
        self
    }

    /// Allows everybody to pull although credentials are set.
    #[must_use]
    pub fn anonymous_pull(mut self) -> Self {
        self.accounts.anonymous_pull = true;
        self
    }

    /// Hides a repository from anonymous users.
    #[must_use]
    pub fn private_repository(mut self, repository: impl Into<String>) -> Self {
        self.accounts.private.insert(repository.into());
        self
    }

    /// Never asks for credentials, whatever the persona does.
    #[must_use]
    pub fn without_auth(mut self) -> Self {
        self.open = true;
        self
    }

    /// Sets the lifetime of tokens, in whole seconds. The token service reports it if that of the
    /// persona does.
    #[must_use]
    pub fn token_ttl(mut self, ttl: Duration) -> Self {
        self.token_rules.ttl = Some(ttl);
        self
    }

    /// Prefixes repositories in scopes with `prefix`, like a front end that renames them: the
    /// challenge for `team/app` names `mirror/team/app` for example, and a token for `team/app` is
    /// not accepted.
    #[must_use]
    pub fn scope_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.token_rules.scope_prefix = prefix.into();
        self
    }

    /// Sets the status of the answer to a token with insufficient scope, which has a challenge with
    /// `insufficient_scope`. Default: 401.
    ///
    /// # Panics
    ///
    /// When `status` is not a valid status.
    #[must_use]
    pub fn insufficient_scope_status(mut self, status: u16) -> Self {
        self.token_rules.insufficient = Some(status_code(status));
        self
    }

    /// Refuses requests for a token with several scopes with this status.
    ///
    /// # Panics
    ///
    /// When `status` is not a valid status.
    #[must_use]
    pub fn refuse_several_scopes(mut self, status: u16) -> Self {
        self.token_rules.several_scopes = SeveralScopes::Refused(status_code(status));
        self
    }

    /// Grants only the first of several scopes, without saying so.
    #[must_use]
    pub fn grant_first_scope(mut self) -> Self {
        self.token_rules.several_scopes = SeveralScopes::FirstGranted;
        self
    }

    /// Grants only these actions, whatever is asked for, without saying so.
    #[must_use]
    pub fn grant_actions(mut self, actions: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let actions = actions.into_iter().map(Into::into).collect();
        self.token_rules.actions = Some(actions);
        self
    }

    /// Accepts each refresh token once and answers with the next one. A login with
    /// `access_type=offline` returns the first.
    #[must_use]
    pub fn rotate_refresh_tokens(mut self) -> Self {
        self.token_rules.rotates = true;
        self
    }

    /// Delays the appearance of pushed referrers in the list of their subject.
    #[must_use]
    pub fn late_referrers(mut self, lateness: Lateness) -> Self {
        self.late.referrers = Some(lateness);
        self
    }

    /// Delays the appearance of pushed tags, both by name and in the list of tags. Until then, an
    /// existing tag keeps its old value.
    #[must_use]
    pub fn late_tags(mut self, lateness: Lateness) -> Self {
        self.late.tags = Some(lateness);
        self
    }

    /// Limits the entries on a page of tags or referrers, if the persona has pages.
    ///
    /// # Panics
    ///
    /// When it is 0.
    #[must_use]
    pub fn page_size(mut self, entries: usize) -> Self {
        self.page_size = Some(NonZeroUsize::new(entries).expect("a page has entries"));
        self
    }

    /// Limits the bytes of a page of referrers, if the persona has pages.
    #[must_use]
    pub fn page_bytes(mut self, bytes: u64) -> Self {
        self.page_bytes = Some(bytes);
        self
    }

    /// Sets the variant of the persona.
    #[must_use]
    pub fn variant(mut self, variant: Variant) -> Self {
        self.variant = Some(variant);
        self
    }

    /// Limits the number of manifests that can be pulled before the registry answers 429. Default:
    /// 100 for the personas of Docker Hub, no limit for the others.
    #[must_use]
    pub fn pull_limit(mut self, manifests: u64) -> Self {
        self.pull_limit = Some(manifests);
        self
    }

    /// Sets how long a referrers list is cached, if the persona has a cache. Default: 0 for
    /// [`Quay`](Persona::Quay), 7 days for [`EdgeCachedIndex`](Variant::EdgeCachedIndex).
    #[must_use]
    pub fn cache_ttl(mut self, time: Duration) -> Self {
        self.cache_ttl = Some(time);
        self
    }

    /// Obeys `If-Match` and `If-None-Match` on a push. By default only
    /// [`SpecFull`](Persona::SpecFull) does, although most of the others send an `ETag`.
    #[must_use]
    pub fn conditional_writes(mut self) -> Self {
        self.conditional_writes = true;
        self
    }

    /// Delays each answer by this time.
    #[must_use]
    pub fn latency(mut self, time: Duration) -> Self {
        self.latency = time;
        self
    }

    /// Answers 413 to a request with a larger body, like a proxy in front of the registry.
    #[must_use]
    pub fn max_body_bytes(mut self, bytes: u64) -> Self {
        self.max_body_bytes = Some(bytes);
        self
    }

    /// Sends this minimum size of a chunk in `OCI-Chunk-Min-Length`.
    #[must_use]
    pub fn chunk_min_bytes(mut self, bytes: u64) -> Self {
        self.chunk_min_bytes = Some(bytes);
        self
    }

    /// Does not maintain the referrers tag when a referrer is inserted, like a client that expects
    /// the API.
    #[must_use]
    pub fn without_tag_index(mut self) -> Self {
        self.tag_index = false;
        self
    }

    /// Starts the registry.
    ///
    /// # Panics
    ///
    /// When the variant belongs to another persona, and when the machine has no port or thread
    /// left.
    pub async fn start(self) -> TestRegistry {
        self.start_blocking()
    }

    /// Starts the registry from a test that is not async.
    ///
    /// # Panics
    ///
    /// When the variant belongs to another persona, and when the machine has no port or thread
    /// left.
    pub fn start_blocking(self) -> TestRegistry {
        if let Some(variant) = self.variant {
            assert_eq!(
                variant.persona(),
                self.persona,
                "{variant:?} is no variant of it"
            );
        }
        self.try_start()
            .expect("a port of 127.0.0.1 and a thread are to be had")
    }

    fn try_start(self) -> io::Result<TestRegistry> {
        let listener = bind()?;
        let address = listener.local_addr()?;
        let name = address.to_string().parse().map_err(io::Error::other)?;
        let profile = Profile::of(self.persona, self.variant);
        let foreign = bind()?;
        let foreign_host = foreign.local_addr()?.to_string();
        let store = MemoryStore::new();
        let mut server = RegistryServer::builder(Arc::new(store.clone()))
            .referrers_api(profile.referrers.is_there())
            .read_only(profile.read_only)
            .sparse_manifests(profile.manifests.unchecked);
        if let Some(entries) = self.page_size {
            server = server.page_size(entries);
        }
        if let Some(bytes) = self.page_bytes {
            server = server.page_bytes(bytes);
        }
        if let Some(bytes) = self.chunk_min_bytes {
            server = server.chunk_min_bytes(bytes);
        }
        let shared = Arc::new(Shared {
            persona: self.persona,
            variant: self.variant,
            profile,
            open: self.open,
            tag_index: self.tag_index,
            conditional_writes: self.conditional_writes,
            page_size: self.page_size.map(NonZeroUsize::get),
            page_bytes: self.page_bytes,
            pull_limit: self.pull_limit,
            cache_ttl: self.cache_ttl,
            latency: self.latency,
            max_body_bytes: self.max_body_bytes,
            host: address.to_string(),
            foreign_host,
            store,
            server: server.build(),
            tokens: Tokens::new(self.accounts, self.token_rules),
            late: self.late,
            faults: Faults::default(),
            recorder: Recorder::default(),
            foreign_recorder: Recorder::default(),
            limiter: Limiter::default(),
            lists: ListCache::default(),
            lost: Mutex::default(),
        });
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let served = Arc::clone(&shared);
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, &served, Host::Own) => {}
                    () = serve(foreign, &served, Host::Foreign) => {}
                    _stopped = stopped => {}
                }
            });
            // Unfinished work ends here, and with it every connection.
            drop(runtime);
        };
        let thread = std::thread::Builder::new()
            .name(format!("test-registry-{}", self.persona))
            .spawn(serve)?;
        Ok(TestRegistry {
            shared,
            address,
            name,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

async fn serve(listener: StdListener, shared: &Arc<Shared>, host: Host) {
    let Ok(listener) = TcpListener::from_std(listener) else {
        return;
    };
    let service = pipeline::router(Arc::clone(shared), host)
        .into_make_service_with_connect_info::<Connection>();
    // It never ends, so there is no error.
    let _ended = axum::serve(BreakableListener(listener), service).await;
}

fn bind() -> io::Result<StdListener> {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Parses the name of a repository from a test.
#[track_caller]
pub(crate) fn repository_name(text: &str) -> RepositoryName {
    match text.parse() {
        Ok(name) => name,
        Err(error) => panic!("{error}"),
    }
}
