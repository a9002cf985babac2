use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use oci_content::{Registry, RepositoryName};
use tokio::sync::OnceCell;
use url::Url;

use crate::auth::Auth;
use crate::call::{Call, Mode, Reply};
use crate::error::{BoxError, Error, ErrorKind, Failure};
use crate::exchange::MAX_ERROR_BODY;
use crate::host::Host;
use crate::observer::{Endpoint, WaitEvent};
use crate::options::{ClientOptions, Http2, ProxyOptions};
use crate::origin::base_url;
use crate::realm::{self, Guard, Space};
use crate::repository::Repository;
use crate::response::Response;

const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Speaks to any number of registries.
///
/// Cheap to clone; clones share connections, tokens, the limit of requests in flight and rate limit gates,
/// so one per process is right.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) options: ClientOptions,
    /// For the registries themselves: with the client certificate.
    pub(crate) home: Pools,
    pub(crate) auth: Auth,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    outsides: Mutex<HashMap<String, Arc<OnceCell<Outside>>>>,
}

/// Connections, apart for what is small and what is not.
#[derive(Clone)]
pub(crate) struct Pools {
    small: reqwest::Client,
    blobs: reqwest::Client,
}

impl Pools {
    fn new(
        options: &ClientOptions,
        with: impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
    ) -> Result<Self, BuildError> {
        let shared = || build(with(http_builder(options)?));
        let apart = || build(with(http_builder(options)?.http1_only()));
        Ok(match options.http2 {
            Http2::SmallRequests => Self {
                small: shared()?,
                blobs: apart()?,
            },
            http2 => {
                let all = match http2 {
                    Http2::Nothing => apart()?,
                    _ => shared()?,
                };
                Self {
                    small: all.clone(),
                    blobs: all,
                }
            }
        })
    }

    /// Returns the connections for a request.
    pub(crate) fn of(&self, endpoint: Endpoint, method: &Method) -> &reqwest::Client {
        match endpoint {
            Endpoint::Blob if method == Method::HEAD => &self.small,
            Endpoint::Blob | Endpoint::Upload => &self.blobs,
            _ => &self.small,
        }
    }
}

/// What asks the other origins that one registry leads to, by a redirect or as its token service.
#[derive(Clone)]
pub(crate) struct Outside {
    /// Without the client certificate; they connect to no address that only the registry's network may reach.
    pub(crate) pools: Pools,
    /// Where the registry is.
    pub(crate) located: Space,
}

/// Why a [`Client`] cannot be made: an option is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct BuildError {
    text: String,
    source: Option<BoxError>,
}

impl BuildError {
    fn new(text: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self {
            text: text.into(),
            source: Some(source.into()),
        }
    }
}

impl Client {
    /// Creates a client. Nothing is sent yet.
    ///
    /// # Errors
    /// When a certificate, a key or a proxy's URL among the options cannot be read, or the platform's root
    /// certificates cannot be loaded.
    pub fn new(options: ClientOptions) -> Result<Self, BuildError> {
        let home = match &options.client_identity {
            Some(pem) => {
                let identity = reqwest::Identity::from_pem(pem)
                    .map_err(|e| BuildError::new("the client certificate cannot be read", e))?;
                Pools::new(&options, |builder| builder.identity(identity.clone()))?
            }
            None => Pools::new(&options, |builder| builder)?,
        };
        Ok(Self(Arc::new(Inner {
            options,
            home,
            auth: Auth::default(),
            hosts: Mutex::default(),
            outsides: Mutex::default(),
        })))
    }

    /// Names a repository. Nothing is sent.
    pub fn repository(&self, registry: &Registry, name: &RepositoryName) -> Repository {
        Repository::new(self.clone(), registry.clone(), name.clone())
    }

    /// Asks `GET /v2/`: whether the registry implements the specification, and what it says of itself
    /// (end-1). Its body is cut at 64 KiB.
    ///
    /// # Errors
    /// When there is no usable answer; a 401 is one.
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#determining-support>
    pub async fn ping(&self, registry: &Registry) -> Result<Response, Error> {
        let url = self.url(registry, "/v2/")?;
        let call = Call {
            endpoint: Endpoint::Ping,
            ..Call::new(&self.0, registry, None, Method::GET, url)
        };
        match call.run(Mode::Collect(MAX_ERROR_BODY, "64 KiB")).await? {
            Reply::Response(response) => Ok(response),
            Reply::Stream(head, _) => Ok(head),
        }
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    pub(crate) fn url(&self, registry: &Registry, path: &str) -> Result<Url, Error> {
        let mut url = base_url(&self.0.options, registry).map_err(|error| {
            Error::new(
                registry,
                Failure::new(ErrorKind::Protocol, "its name does not stand in a URL")
                    .caused_by(error),
            )
        })?;
        url.set_path(path);
        Ok(url)
    }
}

impl Inner {
    /// Returns what all requests to the origin of `url` share. `name` is what options call it.
    pub(crate) fn host(&self, url: &Url, name: &str) -> Arc<Host> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = hosts
            .entry(url.origin().ascii_serialization())
            .or_insert_with(|| Arc::new(Host::new(self.options.in_flight_limit(name))));
        Arc::clone(host)
    }

    /// Waits before another try, and tells the observer.
    pub(crate) async fn wait(
        &self,
        registry: &Registry,
        wait: Duration,
        status: Option<StatusCode>,
    ) {
        tracing::debug!(%registry, ?wait, ?status, "waiting before another try");
        if let Some(observer) = &self.options.observer {
            observer.waiting(&WaitEvent {
                registry,
                wait,
                status,
            });
        }
        tokio::time::sleep(wait).await;
    }

    /// Returns what asks the other origins that the registry at `registry_url` leads to.
    pub(crate) async fn outside(&self, registry_url: &Url) -> Result<Outside, Failure> {
        let cell = {
            let mut outsides = self.outsides.lock().unwrap_or_else(PoisonError::into_inner);
            let origin = registry_url.origin().ascii_serialization();
            Arc::clone(outsides.entry(origin).or_default())
        };
        let make = async || {
            let located = realm::locate(registry_url).await;
            let mut known = self.options.proxy.as_ref().map_or(Vec::new(), proxy_hosts);
            known.extend(registry_url.host_str().map(str::to_ascii_lowercase));
            let guard = Guard { known, located };
            let pools = Pools::new(&self.options, |builder| builder.dns_resolver(guard.clone()))
                .map_err(|error| Failure::new(ErrorKind::Protocol, "").caused_by(error))?;
            Ok(Outside { pools, located })
        };
        cell.get_or_try_init(make).await.cloned()
    }
}

fn http_builder(options: &ClientOptions) -> Result<reqwest::ClientBuilder, BuildError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(&options.user_agent)
        .connect_timeout(options.connect_timeout)
        // Below what servers and load balancers keep idle connections for, so that a write, which is not
        // repeated, does not go out on one that is being closed.
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        // Redirects and retries are this crate's own: each hop is checked, and each request counted.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy();
    if let Some(proxy) = &options.proxy {
        for proxy in proxies(proxy)? {
            builder = builder.proxy(proxy);
        }
    }
    for pem in &options.extra_roots {
        let roots = reqwest::Certificate::from_pem_bundle(pem)
            .map_err(|e| BuildError::new("a root certificate cannot be read", e))?;
        if roots.is_empty() {
            return Err(BuildError {
                text: "a file of root certificates holds none".into(),
                source: None,
            });
        }
        builder = builder.tls_certs_merge(roots);
    }
    Ok(builder)
}

fn proxies(options: &ProxyOptions) -> Result<Vec<reqwest::Proxy>, BuildError> {
    let direct = format!("localhost,127.0.0.0/8,::1,{}", options.no_proxy);
    let with = |proxy: reqwest::Result<reqwest::Proxy>, scheme: &str| {
        proxy
            .map(|proxy| proxy.no_proxy(reqwest::NoProxy::from_string(&direct)))
            .map_err(|e| {
                // The URL may hold a password.
                BuildError::new(
                    format!("the proxy for {scheme} cannot be used"),
                    e.without_url(),
                )
            })
    };
    let mut proxies = Vec::new();
    if let Some(url) = &options.https {
        proxies.push(with(reqwest::Proxy::https(url), "https")?);
    }
    if let Some(url) = &options.http {
        proxies.push(with(reqwest::Proxy::http(url), "http")?);
    }
    Ok(proxies)
}

fn proxy_hosts(options: &ProxyOptions) -> Vec<String> {
    [&options.https, &options.http]
        .into_iter()
        .flatten()
        .filter_map(|url| {
            Url::parse(url)
                .ok()?
                .host_str()
                .map(str::to_ascii_lowercase)
        })
        .collect()
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, BuildError> {
    builder
        .build()
        .map_err(|e| BuildError::new("the HTTP client cannot be set up", e))
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("options", &self.0.options)
            .finish_non_exhaustive()
    }
}
