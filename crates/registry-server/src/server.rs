use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::serve::{Listener, ListenerExt as _};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use oci_content::{Digest, MAX_MANIFEST_BYTES, Registry, RepositoryName};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use url::form_urlencoded;

use crate::connections::{self, Connection, ConnectionLimits};
use crate::endpoint::Endpoint;
use crate::error::{ApiError, ErrorCode};
use crate::store::{Repository, Store, StoreError};
use crate::traffic::{Incoming, Outgoing, Record, ServerObserver};
use crate::uploads::Sessions;
use crate::{blobs, lists, manifests, origin, uploads};

/// How long an answer waits for a file.
const FILE_WAIT: Duration = Duration::from_secs(10);

/// A registry over a [`Store`].
///
/// Cheap to clone; clones share the store and the upload sessions.
#[derive(Clone, Debug)]
pub struct RegistryServer {
    shared: Arc<Shared>,
}

/// What every request needs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) options: Options,
    connections: ConnectionLimits,
    pub(crate) sessions: Sessions,
    observer: Option<Arc<dyn ServerObserver>>,
    /// For the files that answers read from.
    files: Arc<Semaphore>,
    /// For calls of the store that wait, each of which may open a file.
    calls: Semaphore,
    #[cfg(feature = "basic-auth")]
    users: Option<crate::Htpasswd>,
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) read_only: bool,
    pub(crate) referrers_api: bool,
    pub(crate) page_size: Option<NonZeroUsize>,
    pub(crate) page_bytes: u64,
    pub(crate) max_manifest_bytes: u64,
    pub(crate) max_blob_bytes: u64,
    pub(crate) sparse_manifests: bool,
    pub(crate) chunk_min_bytes: Option<u64>,
    /// `None` for every host.
    hosts: Option<Vec<String>>,
}

/// Configures a [`RegistryServer`].
#[derive(Debug)]
pub struct RegistryServerBuilder {
    store: Arc<dyn Store>,
    options: Options,
    connections: ConnectionLimits,
    max_sessions: usize,
    max_files: usize,
    observer: Option<Arc<dyn ServerObserver>>,
    #[cfg(feature = "basic-auth")]
    users: Option<crate::Htpasswd>,
}

impl RegistryServer {
    /// Starts to configure a registry.
    pub fn builder(store: Arc<dyn Store>) -> RegistryServerBuilder {
        RegistryServerBuilder {
            store,
            options: Options {
                read_only: false,
                referrers_api: true,
                page_size: None,
                page_bytes: MAX_MANIFEST_BYTES,
                max_manifest_bytes: MAX_MANIFEST_BYTES,
                max_blob_bytes: 64 << 30,
                sparse_manifests: false,
                chunk_min_bytes: None,
                hosts: None,
            },
            connections: ConnectionLimits::default(),
            max_sessions: 1024,
            max_files: 1024,
            observer: None,
            #[cfg(feature = "basic-auth")]
            users: None,
        }
    }

    /// Returns the registry as a router, to be put behind middleware or beside other routes.
    ///
    /// It answers every path, and expects paths to begin with `/v2/`.
    pub fn router(&self) -> Router {
        Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&self.shared))
    }

    /// Answers one request, for whoever has the connection.
    pub async fn respond(&self, request: Request) -> Response {
        answer(State(Arc::clone(&self.shared)), request).await
    }

    /// Serves on `listener` until the handle is shut down or dropped.
    ///
    /// # Errors
    ///
    /// When the listener's own address cannot be had.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn serve(&self, listener: TcpListener) -> io::Result<RunningServer> {
        let address = listener.local_addr()?;
        let listener = listener.tap_io(|connection| {
            // Without it a small answer can wait for the client's next acknowledgement; refused, it only waits.
            let _refused = connection.set_nodelay(true);
        });
        Ok(self.run(address, listener))
    }

    /// Serves over TLS on `listener` until the handle is shut down or dropped.
    ///
    /// HTTP/2 is spoken where the client and `alpn_protocols` of the configuration agree on it, as they do with
    /// [`tls_config`](crate::tls_config). Handshakes are made beside each other, at most 256 at once; one that takes longer
    /// than 10 seconds is given up, and the oldest when there are more.
    ///
    /// # Errors
    ///
    /// When the listener's own address cannot be had.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[cfg(feature = "tls")]
    pub fn serve_tls(
        &self,
        listener: TcpListener,
        config: Arc<rustls::ServerConfig>,
    ) -> io::Result<RunningServer> {
        let address = listener.local_addr()?;
        let most = self.shared.connections.max_connections;
        let listener = crate::tls::TlsListener::new(listener, config, most);
        Ok(self.run(address, listener))
    }

    fn run<L>(&self, address: SocketAddr, listener: L) -> RunningServer
    where
        L: Listener<Addr = SocketAddr>,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let service = self.router();
        let limits = self.shared.connections;
        let task = tokio::spawn(async move {
            let stopped = async move {
                // Sent or dropped, both say stop.
                let _sent = stopped.await;
            };
            connections::serve(listener, service, limits, stopped).await;
        });
        RunningServer {
            address,
            stop: Some(stop),
            task: Some(task),
        }
    }
}

impl RegistryServerBuilder {
    /// Refuses every request that would change the store, with 405. Default: `false`.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.options.read_only = read_only;
        self
    }

    /// Offers the referrers API. Without it the endpoint answers 404 and a pushed subject is not acknowledged, so
    /// that clients keep the referrers tag. Default: `true`.
    #[must_use]
    pub fn referrers_api(mut self, offered: bool) -> Self {
        self.options.referrers_api = offered;
        self
    }

    /// Ends a page of tags or referrers after this many entries. Default: a page ends at 4 MiB only.
    #[must_use]
    pub fn page_size(mut self, entries: NonZeroUsize) -> Self {
        self.options.page_size = Some(entries);
        self
    }

    /// Ends a page of tags or referrers before it grows over this many bytes; an entry that is larger by itself
    /// has a page of its own. Default: 4 MiB, which is what clients read of a manifest.
    #[must_use]
    pub fn page_bytes(mut self, bytes: u64) -> Self {
        self.options.page_bytes = bytes;
        self
    }

    /// Refuses larger manifests with 413. Default: 4 MiB.
    #[must_use]
    pub fn max_manifest_bytes(mut self, bytes: u64) -> Self {
        self.options.max_manifest_bytes = bytes;
        self
    }

    /// Refuses larger blobs with 413. Default: 64 GiB.
    #[must_use]
    pub fn max_blob_bytes(mut self, bytes: u64) -> Self {
        self.options.max_blob_bytes = bytes;
        self
    }

    /// Takes manifests whose blobs or children are not there. Default: `false`.
    #[must_use]
    pub fn sparse_manifests(mut self, taken: bool) -> Self {
        self.options.sparse_manifests = taken;
        self
    }

    /// Tells clients in `OCI-Chunk-Min-Length` how small a chunk may be; smaller ones are taken all the same.
    #[must_use]
    pub fn chunk_min_bytes(mut self, bytes: u64) -> Self {
        self.options.chunk_min_bytes = Some(bytes);
        self
    }

    /// Keeps at most this many upload sessions. For a further one, the user who has the most loses the one that was idle
    /// longest. Default: 1024.
    #[must_use]
    pub fn max_upload_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// Keeps at most this many connections open. For a further one, the connection is closed on which nothing has moved for
    /// the longest time, if that is 5 seconds and not the server's own work; otherwise it waits. Where there are
    /// [users](Self::users), connections without a right password have half of the places, and the oldest of them gives
    /// way to the next. Default: 1024.
    #[must_use]
    pub fn max_connections(mut self, connections: NonZeroUsize) -> Self {
        self.connections.max_connections = connections.get();
        self
    }

    /// Closes a connection on which the head of a request has not come after this time, from the opening of the connection or
    /// from the last answer; also one that is idle. Over HTTP/2, one whose client does not answer a ping. Default: 60 seconds.
    #[must_use]
    pub fn head_timeout(mut self, time: Duration) -> Self {
        self.connections.head_timeout = time;
        self
    }

    /// Gives up a body that does not come on, and closes a connection whose client does not take an answer: when fewer than
    /// 16 KiB have moved in this time, unless they were the last. A request is answered with 408, and what came of an upload
    /// is kept. Default: 60 seconds.
    #[must_use]
    pub fn stall_timeout(mut self, time: Duration) -> Self {
        self.connections.stall_timeout = time;
        self
    }

    /// Closes a connection that has not shown a right password this long after it was opened, where there are
    /// [users](Self::users). Default: 30 seconds.
    #[must_use]
    pub fn sign_in_timeout(mut self, time: Duration) -> Self {
        self.connections.sign_in_timeout = time;
        self
    }

    /// Lowers the limits to what a process can do that may have this many files open: a few are left to the process, the
    /// rest is shared by connections, upload sessions, answers out of files (beyond, after 10 seconds, 503) and calls of the
    /// store. Default: 1024 of each.
    #[must_use]
    pub fn open_files(mut self, files: u64) -> Self {
        let own = (files / 4).min(64);
        let each = usize::try_from((files - own) / 4).unwrap_or(usize::MAX);
        let lowered = |limit: usize| limit.min(each).max(1);
        self.connections.max_connections = lowered(self.connections.max_connections);
        self.max_sessions = lowered(self.max_sessions);
        self.max_files = lowered(self.max_files);
        self
    }

    /// Answers requests to loopback hosts and to these only, without regard to port and case; others get 403. So no
    /// page that a browser shows can reach a server on loopback by a name of its own. Default: every host.
    #[must_use]
    pub fn allowed_hosts(mut self, hosts: impl IntoIterator<Item = String>) -> Self {
        let hosts = hosts.into_iter().map(|host| host.to_ascii_lowercase());
        self.options.hosts = Some(hosts.collect());
        self
    }

    /// Tells `observer` of each request.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn ServerObserver>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Cuts off answers that are not finished this long after the server was stopped. Default: 30 seconds.
    #[must_use]
    pub fn shutdown_timeout(mut self, time: Duration) -> Self {
        self.connections.shutdown_timeout = time;
        self
    }

    /// Answers these users only, by basic authentication. Default: everybody.
    #[cfg(feature = "basic-auth")]
    #[must_use]
    pub fn users(mut self, users: crate::Htpasswd) -> Self {
        self.users = Some(users);
        self.connections.guarded = true;
        self
    }

    /// Builds the registry.
    pub fn build(self) -> RegistryServer {
        RegistryServer {
            shared: Arc::new(Shared {
                store: self.store,
                options: self.options,
                connections: self.connections,
                sessions: Sessions::new(self.max_sessions),
                observer: self.observer,
                files: Arc::new(Semaphore::new(self.max_files)),
                calls: Semaphore::new(self.max_files),
                #[cfg(feature = "basic-auth")]
                users: self.users,
            }),
        }
    }
}

/// A registry that is being served. Dropping it stops it: no new connection is taken, answers under way are
/// finished, if that takes no longer than [they may](RegistryServerBuilder::shutdown_timeout).
#[derive(Debug)]
pub struct RunningServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl RunningServer {
    /// Returns the address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Stops, and waits for the answers that are under way.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves those answers to finish on their own.
    pub async fn shutdown(mut self) {
        drop(self.stop.take());
        if let Some(task) = self.task.take() {
            // A panic in a connection is not one of this task.
            let _ended = task.await;
        }
    }
}

/// A request's query.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    fn of(parts: &Parts) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        Self(
            form_urlencoded::parse(query.as_bytes())
                .into_owned()
                .collect(),
        )
    }

    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Reads a digest parameter.
    pub(crate) fn digest(&self, name: &str) -> Result<Option<Digest>, ApiError> {
        self.first(name).map(parse_digest).transpose()
    }
}

/// A request whose path has been understood.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) parts: Parts,
    pub(crate) query: Query,
    pub(crate) repository: Repository,
    pub(crate) user: Option<Arc<str>>,
}

pub(crate) fn parse_digest(text: &str) -> Result<Digest, ApiError> {
    text.parse().map_err(|error: oci_content::DigestError| {
        ApiError::bad_request(ErrorCode::DigestInvalid, error.to_string())
    })
}

pub(crate) fn parse_repository(text: &str) -> Result<RepositoryName, ApiError> {
    text.parse().map_err(|error: oci_content::ReferenceError| {
        ApiError::bad_request(ErrorCode::NameInvalid, error.to_string())
    })
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let connection = parts.extensions.get::<Arc<Connection>>().cloned();
    let handled = connection.as_ref().map(Connection::request);
    let observer = shared.observer.clone();
    let mut record = Record::new(observer, parts.method.clone(), parts.uri.path());
    let time = shared.connections.stall_timeout;
    let body = Body::new(Incoming::new(body, time, connection.clone()));
    let answered = match admit(&shared, &parts, connection.as_deref()).await {
        Ok(user) => {
            record.user.clone_from(&user);
            dispatch(&shared, parts, user, body).await
        }
        Err(error) => Err(error),
    };
    let mut response = answered.unwrap_or_else(IntoResponse::into_response);
    record.status = Some(response.status());
    let running = connection.as_ref().map(Connection::answer);
    drop(handled);
    response = response.map(|body| {
        Body::new(Outgoing {
            body,
            record,
            running,
        })
    });
    // Not in the specification, but what clients of the docker lineage look for:
    // https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#legacy-docker-support-http-headers
    response.headers_mut().insert(
        "docker-distribution-api-version",
        HeaderValue::from_static("registry/2.0"),
    );
    response
}

/// Lets a request pass that may ask; returns the user, where there are users.
#[cfg_attr(
    not(feature = "basic-auth"),
    expect(unused_variables, reason = "there are no users")
)]
async fn admit(
    shared: &Shared,
    parts: &Parts,
    connection: Option<&Connection>,
) -> Result<Option<Arc<str>>, ApiError> {
    origin::check(parts, shared.options.hosts.as_deref())?;
    #[cfg(feature = "basic-auth")]
    if let Some(users) = &shared.users {
        let user = users.admit(&parts.headers).await?;
        if let Some(connection) = connection {
            connection.admitted();
        }
        return Ok(Some(user));
    }
    Ok(None)
}

async fn dispatch(
    shared: &Arc<Shared>,
    parts: Parts,
    user: Option<Arc<str>>,
    body: Body,
) -> Result<Response, ApiError> {
    let Some(endpoint) = Endpoint::of(parts.uri.path()) else {
        let message = "no endpoint of the distribution API has this path";
        return Err(ApiError::not_found(ErrorCode::Unsupported, message));
    };
    let reads = [Method::GET, Method::HEAD].contains(&parts.method);
    if shared.options.read_only && !reads {
        return Err(ApiError::not_allowed(
            "this registry is read-only",
            "GET, HEAD",
        ));
    }
    let query = Query::of(&parts);
    let namespace =
        match query.first("ns") {
            Some(host) => Some(host.parse::<Registry>().map_err(|error| {
                ApiError::bad_request(ErrorCode::NameInvalid, error.to_string())
            })?),
            None => None,
        };
    let Some(name) = endpoint.repository() else {
        return match (reads, endpoint) {
            (false, _) => Err(ApiError::not_allowed("only GET and HEAD", "GET, HEAD")),
            (true, Endpoint::Catalog) => lists::catalog(shared, &query, namespace).await,
            (true, _) => Ok(json(StatusCode::OK, "application/json", "{}".into())),
        };
    };
    let repository = Repository::new(parse_repository(name)?).with_namespace(namespace);
    let method = parts.method.clone();
    let call = Call {
        parts,
        query,
        repository,
        user,
    };
    match (endpoint, method) {
        (Endpoint::Blob { digest, .. }, Method::GET | Method::HEAD) => {
            blobs::read(shared, call, &digest).await
        }
        (Endpoint::Blob { digest, .. }, Method::DELETE) => {
            blobs::remove(shared, call, &digest).await
        }
        (Endpoint::Blob { .. }, _) => Err(ApiError::not_allowed(
            "a blob is read and deleted here, and uploaded under blobs/uploads/",
            "GET, HEAD, DELETE",
        )),
        (Endpoint::Uploads { .. }, Method::POST) => uploads::start(shared, call, body).await,
        (Endpoint::Uploads { .. }, _) => {
            Err(ApiError::not_allowed("an upload begins with POST", "POST"))
        }
        (Endpoint::Upload { session, .. }, method) => match method {
            Method::GET => uploads::status(shared, &call, &session),
            Method::PATCH => uploads::append(shared, call, &session, body).await,
            Method::PUT => uploads::finish(shared, call, &session, body).await,
            Method::DELETE => uploads::cancel(shared, &call, &session),
            _ => Err(ApiError::not_allowed(
                "an upload session takes GET, PATCH, PUT and DELETE",
                "GET, PATCH, PUT, DELETE",
            )),
        },
        (Endpoint::Manifest { reference, .. }, method) => match method {
            Method::GET | Method::HEAD => manifests::read(shared, call, &reference).await,
            Method::PUT => manifests::write(shared, call, &reference, body).await,
            Method::DELETE => manifests::remove(shared, call, &reference).await,
            _ => Err(ApiError::not_allowed(
                "a manifest takes GET, HEAD, PUT and DELETE",
                "GET, HEAD, PUT, DELETE",
            )),
        },
        (Endpoint::Tags { .. }, Method::GET | Method::HEAD) => lists::tags(shared, call).await,
        (Endpoint::Referrers { digest, .. }, Method::GET | Method::HEAD) => {
            lists::referrers(shared, call, &digest).await
        }
        (Endpoint::Tags { .. } | Endpoint::Referrers { .. }, _) => {
            Err(ApiError::not_allowed("a list is read only", "GET, HEAD"))
        }
        (Endpoint::Ping | Endpoint::Catalog, _) => {
            unreachable!("they name no repository and were answered above")
        }
    }
}

impl Shared {
    /// Calls the store, on a thread that may wait if it does.
    pub(crate) async fn store<T, F>(&self, call: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        let _place = match self.store.blocks() {
            true => self.calls.acquire().await.ok(),
            false => None,
        };
        let store = Arc::clone(&self.store);
        let answer = run(self.store.blocks(), move || call(&*store)).await?;
        Ok(answer?)
    }

    /// Waits for a place among the files that answers read from.
    pub(crate) async fn file_place(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let place = Arc::clone(&self.files).acquire_owned();
        match timeout(FILE_WAIT, place).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) | Err(_) => {
                let message = "too many answers are being read from files";
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let error = ApiError::new(status, ErrorCode::TooManyRequests, message);
                Err(error.header(header::RETRY_AFTER, HeaderValue::from_static("10")))
            }
        }
    }

    /// Returns how many entries a page may have for a client that asked for so many.
    pub(crate) fn most(&self, asked: Option<usize>) -> Option<usize> {
        match (asked, self.options.page_size) {
            (Some(asked), Some(most)) => Some(asked.min(most.get())),
            (asked, most) => asked.or(most.map(NonZeroUsize::get)),
        }
    }

    /// Answers for a repository that does not exist, and for something that it does not have.
    pub(crate) async fn unknown(
        &self,
        repository: Repository,
        code: ErrorCode,
        message: String,
    ) -> ApiError {
        let known = repository.clone();
        match self.store(move |store| store.contains(&known)).await {
            Ok(true) => ApiError::not_found(code, message),
            Ok(false) => {
                let message = format!("there is no repository {}", repository.name());
                ApiError::not_found(ErrorCode::NameUnknown, message)
            }
            Err(error) => error,
        }
    }
}

/// Runs `call` here, or on a thread that may wait.
pub(crate) async fn run<T: Send + 'static>(
    blocks: bool,
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    if !blocks {
        return Ok(call());
    }
    spawn_blocking(call).await.map_err(|_panicked| {
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            ErrorCode::Unknown,
            "the store failed",
        )
    })
}

pub(crate) fn json(status: StatusCode, content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = (status, body).into_response();
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Makes a header value of text that this server made: a digest, a path of checked names, a number.
pub(crate) fn value(text: impl AsRef<str>) -> HeaderValue {
    // What cannot stand in a header is left out instead of sent wrong; the types above have none of it.
    HeaderValue::from_str(text.as_ref()).unwrap_or(HeaderValue::from_static(""))
}
