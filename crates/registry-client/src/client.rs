use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use oci_content::{Registry, RepositoryName};
use url::Url;

use crate::auth::Auth;
use crate::build_error::BuildError;
use crate::call::{Call, Mode, Reply};
use crate::error::{Error, ErrorKind};
use crate::exchange::MAX_ERROR_BODY;
use crate::failure::Failure;
use crate::link;
use crate::network::Network;
use crate::observer::{self, Endpoint, RequestObserver};
use crate::options::ClientOptions;
use crate::origin::same_origin;
use crate::response::Response;
use crate::stopwatch::Stopwatch;
use crate::window::Window;

/// A client for any number of registries.
///
/// Nothing runs in the background: dropping a future ends its request. Reads then leave nothing
/// behind; the docs of each write say under *Cancellation* what may be left at the registry. If
/// others wait for a token request that is dropped, the next of them makes it.
///
/// It is cheap to clone. Clones share connections, tokens, budgets, the limit of requests in flight
/// and rate limit gates, so one client per process is enough.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    observer: Option<Arc<dyn RequestObserver>>,
    window: Option<Arc<dyn Window>>,
}

struct Shared {
    network: Network,
    auth: Auth,
}

impl Client {
    /// Creates a client. Nothing is sent yet.
    ///
    /// # Errors
    /// When a certificate, a key or a proxy's URL among the options cannot be read, or the
    /// platform's root certificates cannot be loaded.
    pub fn new(options: ClientOptions) -> Result<Self, BuildError> {
        Ok(Self {
            observer: options.observer.clone(),
            window: None,
            shared: Arc::new(Shared {
                network: Network::new(options)?,
                auth: Auth::default(),
            }),
        })
    }

    /// Returns a clone whose requests are reported to `observer` instead of the one in the options.
    ///
    /// A service can share one client between jobs and still attribute each request, by giving
    /// every job a clone of its own. A token request that several jobs wait for is reported to the
    /// one that makes it, and a rate limit gate to the one whose call closed it.
    #[must_use]
    pub fn with_observer(&self, observer: Arc<dyn RequestObserver>) -> Self {
        Self {
            observer: Some(observer),
            ..self.clone()
        }
    }

    /// Returns a clone whose requests are sent only while `window` is open, in addition to the
    /// [windows of the registries](crate::HostOptions::window), and under the same conditions.
    ///
    /// A service can share one client between jobs that may each work at their own times.
    #[must_use]
    pub fn with_window(&self, window: Arc<dyn Window>) -> Self {
        Self {
            window: Some(window),
            ..self.clone()
        }
    }

    /// Starts a stopwatch for calls to a registry, which leaves out the time that requests to it
    /// wait for its budget.
    pub fn stopwatch(&self, registry: &Registry) -> Stopwatch {
        let home = self.options().base_url(registry);
        // There are no requests to a registry that has no URL.
        let held = home.map(|home| Arc::clone(&self.network().host(&home).allowance.held));
        Stopwatch::start(held.unwrap_or_default())
    }

    /// Requests `GET /v2/` (end-1), which tells whether the registry implements the specification.
    /// The body is cut at 64 KiB.
    ///
    /// # Errors
    /// When there is no usable answer; a 401 is one.
    /// <https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#determining-support>
    pub async fn ping(&self, registry: &Registry) -> Result<Response, Error> {
        let url = self.url(registry, "/v2/")?;
        let call = Call {
            endpoint: Endpoint::Ping,
            ..self.call(registry, None, Method::GET, url)
        };
        let mode = Mode::Collect(MAX_ERROR_BODY, "64 KiB");
        self.run(&call, mode).await.map(Reply::into_head)
    }

    pub(crate) fn network(&self) -> &Network {
        &self.shared.network
    }

    pub(crate) fn options(&self) -> &ClientOptions {
        &self.shared.network.options
    }

    pub(crate) fn call<'a>(
        &'a self,
        registry: &'a Registry,
        repository: Option<&'a RepositoryName>,
        method: Method,
        url: Url,
    ) -> Call<'a> {
        let observer = self.observer.as_ref();
        Call {
            window: self.window.as_ref(),
            ..Call::new(self.network(), observer, registry, repository, method, url)
        }
    }

    /// Makes requests until a call has its final answer.
    pub(crate) async fn run(&self, call: &Call<'_>, mode: Mode) -> Result<Reply, Error> {
        call.run(&self.shared.auth, mode).await
    }

    /// Waits before the next try.
    pub(crate) async fn wait(
        &self,
        registry: &Registry,
        wait: Duration,
        status: Option<StatusCode>,
    ) {
        observer::wait(self.observer.as_ref(), registry, wait, status).await;
    }

    /// Returns the URL of the page after `page`; see
    /// [`Repository::next_link`](crate::Repository::next_link).
    pub(crate) fn next_link(
        &self,
        registry: &Registry,
        page: &Response,
    ) -> Result<Option<Url>, Error> {
        let base = self.url(registry, "/")?;
        link::next(page.headers(), page.url(), &base).map_err(|failure| {
            let failure = failure.at(&Method::GET, page.url()).answered(page.clone());
            Error::new(registry, failure)
        })
    }

    /// Refuses the URL of a page that is not within the registry's `/v2/`.
    pub(crate) fn check_page(&self, registry: &Registry, url: &Url) -> Result<(), Error> {
        let base = self.url(registry, "/")?;
        let plain = url.username().is_empty() && url.password().is_none();
        if plain && same_origin(url, &base) && url.path().starts_with("/v2/") {
            return Ok(());
        }
        let failure = Failure::new(ErrorKind::UntrustedLink, "the page is not the registry's");
        Err(Error::new(registry, failure.at(&Method::GET, url)))
    }

    pub(crate) fn url(&self, registry: &Registry, path: &str) -> Result<Url, Error> {
        let mut url = self.options().base_url(registry).map_err(|error| {
            Error::new(
                registry,
                Failure::new(ErrorKind::Protocol, "its name cannot be used in a URL")
                    .caused_by(error),
            )
        })?;
        url.set_path(path);
        Ok(url)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("options", self.options())
            .finish_non_exhaustive()
    }
}
