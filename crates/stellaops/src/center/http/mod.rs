//! The API and the page of the service over HTTP.

mod access;
mod download;
mod error;
mod events;
mod health;
mod openapi;
mod pages;
mod query;
mod resource;
mod runs;
mod secrets;
mod yaml;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use oci_content::Registry;
use registry_server::{AnsweredRequest, ConnectionLimits, Exchange, RunningServer, ServerObserver};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, spawn_blocking};

use self::error::{ApiError, TraceId};
use self::secrets::{NewestTls, Secrets};
use super::center::Center;
use crate::exit::{Exit, Failure};
use crate::log::Log;
use crate::render::foreign;

pub(crate) use self::resource::{Output, RunLinks, RunResource, percent};

/// The connections that are served at once.
const MAX_CONNECTIONS: usize = 1024;
/// The clients that wait for events at once.
const MAX_WATCHERS: usize = 512;
/// The files that are downloaded at once.
const MAX_DOWNLOADS: usize = 64;
/// How often the token and certificate files are checked for changes.
const LOOK: Duration = Duration::from_secs(10);
/// The time that unfinished answers have when the service stops.
const FAREWELL: Duration = Duration::from_secs(25);

/// The running server.
#[derive(Debug)]
pub(crate) struct Http {
    running: RunningServer,
    secrets: Arc<Secrets>,
    looking: AbortHandle,
    is_tls: bool,
}

impl Http {
    /// Listens where the configuration says, for loopback and the hosts that are named.
    pub(crate) async fn start(center: Center, allowed_hosts: &[Registry]) -> Result<Self, Failure> {
        let config = center.config();
        let listen = config.center.listen;
        let has_tokens = config.center.tokens.is_some();
        let is_tls = config.center.tls.is_some();
        if !has_tokens && !allowed_hosts.is_empty() {
            let message = "--allow-host without center.tokens: every client that the proxy lets through may do everything";
            center.log().warn(message);
        }
        let (secrets, tls) = Secrets::read(&center, allowed_hosts)?;
        let secrets = Arc::new(secrets);
        let failed = |error: std::io::Error| {
            Failure::new(Exit::LocalIo, format!("center.listen: {listen}: {error}"))
        };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let api = Api {
            secrets: Arc::clone(&secrets),
            limits: ConnectionLimits::default()
                .max_connections(NonZeroUsize::new(MAX_CONNECTIONS).unwrap_or(NonZeroUsize::MIN))
                .shutdown_timeout(FAREWELL)
                .guarded(has_tokens),
            observer: Arc::new(Requests(Arc::clone(center.log()))),
            watchers: Arc::new(Semaphore::new(MAX_WATCHERS)),
            files: Arc::new(Semaphore::new(MAX_DOWNLOADS)),
            center,
        };
        let running = api.serve(listener, tls).map_err(failed)?;
        let own = Arc::clone(&secrets);
        let looking = tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                own.look();
            }
        });
        Ok(Self {
            running,
            secrets,
            looking: looking.abort_handle(),
            is_tls,
        })
    }

    /// Returns the address that the server listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.running.addr()
    }

    /// Returns where the page is.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{}/", self.address())
    }

    /// Reads the token and certificate files of the current configuration again. If any of them cannot be used, those in
    /// force stay.
    pub(crate) fn reload(&self) {
        self.secrets.reload();
    }

    /// Stops accepting connections, and lets open answers finish within 25 seconds.
    pub(crate) async fn shutdown(self) {
        self.looking.abort();
        self.running.shutdown().await;
    }
}

/// What handlers share.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    center: Center,
    secrets: Arc<Secrets>,
    limits: ConnectionLimits,
    observer: Arc<dyn ServerObserver>,
    watchers: Arc<Semaphore>,
    files: Arc<Semaphore>,
}

impl Api {
    /// Returns the reasons why the service is not ready.
    fn problems(&self) -> Vec<String> {
        let mut problems = self.center.ready().err().unwrap_or_default();
        problems.extend(self.secrets.fault());
        problems
    }

    fn serve(
        self,
        listener: TcpListener,
        tls: Option<NewestTls>,
    ) -> std::io::Result<RunningServer> {
        let (limits, router) = (self.limits, self.router());
        match tls {
            Some(config) => limits.serve_tls(listener, router, config),
            None => limits.serve(listener, router),
        }
    }

    fn router(self) -> Router {
        let run = "/v1/exports/runs/{run}";
        let below = |name: &str| format!("{run}/{name}");
        let routes = Router::new()
            .route("/v1/exports/profiles", get(runs::profiles))
            .route("/v1/exports/runs", get(runs::list).post(runs::submit))
            .route(run, get(runs::read).post(runs::act))
            .route(&below("events"), get(events::watch))
            .route(&below("download"), get(download::bundle))
            .route(&below("manifest"), get(download::manifest))
            .route(&below("report"), get(download::report))
            .route("/.well-known/openapi", get(openapi::document))
            .route("/healthz", get(health::live))
            .route("/readyz", get(health::ready))
            .route("/metrics", get(health::metrics))
            .route("/", get(pages::status))
            .route("/runs/{run}", get(pages::run))
            .route("/style.css", get(pages::style))
            .route("/live.js", get(pages::script))
            .route("/icon.svg", get(pages::icon))
            .fallback(nothing)
            .method_not_allowed_fallback(wrong_method)
            .with_state(self.clone());
        // Around the routes, so that a refused request does not reveal which of them exist.
        Router::new()
            .fallback_service(routes)
            .layer(middleware::from_fn_with_state(self, exchange))
    }
}

/// Marks an answer that may pause and may never end.
#[derive(Clone, Copy, Debug)]
struct Endless;

/// Admits a request, and completes its answer.
async fn exchange(State(api): State<Api>, request: Request, next: Next) -> Response {
    let observer = Some(Arc::clone(&api.observer));
    let (mut exchange, mut request) = Exchange::begin(request, &api.limits, observer);
    let trace = TraceId::of(request.headers());
    let path = request.uri().path();
    let is_page = path == "/" || path.starts_with("/runs/");
    let (parts, body) = request.into_parts();
    let admitted = api.secrets.access().admit(&parts);
    request = Request::from_parts(parts, body);
    let response = match admitted {
        Ok(caller) => {
            if let Some(caller) = caller {
                exchange.admitted(Arc::clone(&caller.0));
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
        Err(error) => error.into_response(),
    };
    let mut response = error::complete(response, trace, is_page);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, pages::POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    let same_origin = HeaderValue::from_static("same-origin");
    headers.insert("cross-origin-resource-policy", same_origin);
    if response.extensions().get::<Endless>().is_some() {
        exchange.stream(response)
    } else {
        exchange.answer(response)
    }
}

async fn nothing() -> ApiError {
    ApiError::not_found(
        "there is nothing at this path; /.well-known/openapi describes what there is",
    )
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    // Two resources of the API are one route here.
    let path = uri.path();
    let allowed = match path.strip_prefix("/v1/exports/runs/") {
        Some(run) if runs::is_cancel(run) => Some("POST"),
        Some(run) if !run.contains('/') => Some("GET,HEAD"),
        _ => None,
    };
    ApiError::method(&method, allowed)
}

/// Runs a call that may wait for the disk.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match spawn_blocking(call).await {
        Ok(result) => result,
        Err(panicked) => Err(ApiError::internal(&panicked)),
    }
}

fn json(status: StatusCode, body: &impl Serialize) -> Result<Response, ApiError> {
    let text = serde_json::to_string(body).map_err(|error| ApiError::internal(&error))?;
    let content_type = [(header::CONTENT_TYPE, "application/json; charset=utf-8")];
    Ok((status, content_type, text).into_response())
}

/// Returns whether `If-None-Match` names this tag.
fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let given = headers.get_all(header::IF_NONE_MATCH).iter();
    let mut tags = given
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','));
    tags.any(|given| {
        let given = given.trim();
        given == "*" || given.strip_prefix("W/").unwrap_or(given) == tag
    })
}

/// Logs each request at the level `debug`.
#[derive(Debug)]
struct Requests(Arc<Log>);

impl ServerObserver for Requests {
    fn answered(&self, request: &AnsweredRequest<'_>) {
        if !self.0.is_debug() {
            return;
        }
        let status = request
            .status
            .map_or_else(|| "none".to_owned(), |status| status.to_string());
        self.0.debug(&format!(
            "Request method={} path={} status={status} bytes={} ms={} caller={}",
            foreign(request.method.as_str()),
            foreign(request.path),
            request.bytes,
            request.elapsed.as_millis(),
            request.user.map_or_else(|| "-".to_owned(), foreign),
        ));
    }
}

#[cfg(test)]
mod tests;
