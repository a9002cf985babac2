use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::Method;
use oci_content::Registry;
use rustls::ClientConfig;
use tokio::sync::OnceCell;
use url::Url;

use crate::allowance::Allowance;
use crate::build_error::BuildError;
use crate::error::ErrorKind;
use crate::failure::Failure;
use crate::host::Host;
use crate::observer::Endpoint;
use crate::options::{ClientOptions, Http2};
use crate::origin::same_origin;
use crate::proxy::Proxies;
use crate::realm::{self, Guard, Space};
use crate::tls::TlsSettings;

const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The state that all requests of a client and its clones share: connections, and what is known
/// about hosts.
pub(crate) struct Network {
    pub(crate) options: ClientOptions,
    proxies: Proxies,
    /// For registries without settings of their own.
    general: Connections,
    registries: Mutex<HashMap<Registry, Arc<Special>>>,
    hosts: Mutex<HashMap<String, Arc<Host>>>,
    outsides: Mutex<HashMap<String, Arc<OnceCell<Outside>>>>,
}

/// The connections of a registry with settings of its own; `None` if it has none.
type Special = OnceLock<Result<Option<Connections>, Arc<BuildError>>>;

/// The connections for requests about one registry.
#[derive(Clone)]
struct Connections {
    /// To the registry itself, with the client certificate.
    home: Pools,
    /// For every other origin that the registry leads to.
    foreign_tls: ClientConfig,
    /// For the registry as the redirect target or token service of another one, if its certificate
    /// is not verified.
    unverified_tls: Option<ClientConfig>,
}

impl Connections {
    fn new(
        options: &ClientOptions,
        proxies: &Proxies,
        settings: &TlsSettings,
    ) -> Result<Self, BuildError> {
        let proxy_speaks_tls = proxies.urls().any(|url| url.scheme() == "https");
        let config = |identities: bool, unverified: bool| {
            let settings = TlsSettings {
                roots: settings.roots.clone(),
                identities: settings
                    .identities
                    .iter()
                    .filter(|_| identities)
                    .cloned()
                    .collect(),
                unverified: settings.unverified.clone().filter(|_| unverified),
            };
            settings.config(settings.verifier(proxy_speaks_tls)?)
        };
        let unverified = settings.unverified.is_some();
        Ok(Self {
            home: Pools::new(options, proxies, &config(true, true)?, None)?,
            foreign_tls: config(false, false)?,
            unverified_tls: unverified.then(|| config(false, true)).transpose()?,
        })
    }
}

/// Separate connections for small requests and for blobs.
#[derive(Clone)]
pub(crate) struct Pools {
    small: reqwest::Client,
    blobs: reqwest::Client,
}

impl Pools {
    fn new(
        options: &ClientOptions,
        proxies: &Proxies,
        tls: &ClientConfig,
        guard: Option<&Guard>,
    ) -> Result<Self, BuildError> {
        let new = |http1_only| {
            let builder = http_builder(options, proxies, tls, http1_only);
            build(match guard {
                Some(guard) => builder.dns_resolver(guard.clone()),
                None => builder,
            })
        };
        let shared = || new(false);
        let apart = || new(true);
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

/// The connections to other origins that a registry leads to, by a redirect or as its token
/// service.
#[derive(Clone)]
pub(crate) struct Outside {
    /// Without the client certificate, and not to addresses outside the network of the registry
    /// that are not public.
    pub(crate) pools: Pools,
    /// The network of the registry.
    pub(crate) located: Space,
}

impl Network {
    pub(crate) fn new(options: ClientOptions) -> Result<Self, BuildError> {
        let proxies = match &options.proxy {
            Some(proxy) => Proxies::new(proxy)?,
            None => Proxies::default(),
        };
        let general = Connections::new(&options, &proxies, &TlsSettings::general(&options)?)?;
        Ok(Self {
            options,
            proxies,
            general,
            registries: Mutex::default(),
            hosts: Mutex::default(),
            outsides: Mutex::default(),
        })
    }

    /// Returns the shared state of the origin of `url`.
    pub(crate) fn host(&self, url: &Url) -> Arc<Host> {
        let new = || {
            let own = self.options.host_at(url);
            let max = own.and_then(|own| own.max_in_flight);
            let max = max.unwrap_or(self.options.max_in_flight);
            Arc::new(Host::new(max, own.map(Allowance::new).unwrap_or_default()))
        };
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let host = hosts.entry(url.origin().ascii_serialization());
        Arc::clone(host.or_insert_with(new))
    }

    /// Returns the connections to a registry itself.
    pub(crate) fn home(&self, registry: &Registry) -> Result<Pools, Failure> {
        Ok(self.connections(registry)?.home)
    }

    fn is_home(&self, registry: &Registry, url: &Url) -> bool {
        self.options
            .base_url(registry)
            .is_ok_and(|home| same_origin(&home, url))
    }

    fn connections(&self, registry: &Registry) -> Result<Connections, Failure> {
        let special = {
            let mut all = self
                .registries
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(registry.clone()).or_default())
        };
        let made = special.get_or_init(|| {
            let settings = TlsSettings::of(&self.options, registry)?;
            let new =
                |settings: TlsSettings| Connections::new(&self.options, &self.proxies, &settings);
            Ok(settings.map(new).transpose()?)
        });
        match made {
            Ok(Some(connections)) => Ok(connections.clone()),
            Ok(None) => Ok(self.general.clone()),
            Err(error) => {
                let text = format!("TLS with {registry} cannot be set up");
                Err(Failure::new(ErrorKind::Tls, text).caused_by(Arc::clone(error)))
            }
        }
    }

    /// Returns the TLS settings for `url` if the certificate of its host is not verified.
    fn unverified(&self, url: &Url) -> Result<Option<ClientConfig>, Failure> {
        let insecure = self.options.hosts.iter().filter(|(_, host)| host.insecure);
        for (name, _) in insecure {
            if let Ok(registry) = name.parse::<Registry>()
                && self.is_home(&registry, url)
            {
                return Ok(self.connections(&registry)?.unverified_tls);
            }
        }
        Ok(None)
    }

    /// Returns the connections to the other origin at `url`, which the registry at `registry_url`
    /// leads to.
    pub(crate) async fn outside(
        &self,
        registry: &Registry,
        registry_url: &Url,
        url: &Url,
    ) -> Result<Outside, Failure> {
        let unverified = self.unverified(url)?;
        let cell = {
            let mut outsides = self.outsides.lock().unwrap_or_else(PoisonError::into_inner);
            let mut key = registry_url.origin().ascii_serialization();
            if unverified.is_some() {
                key = format!("{key} {}", url.origin().ascii_serialization());
            }
            Arc::clone(outsides.entry(key).or_default())
        };
        let make = async || {
            let located = realm::locate(registry_url).await;
            let known = self.proxies.urls().chain([registry_url]);
            let known = known.filter_map(|url| url.host_str().map(str::to_ascii_lowercase));
            let guard = Guard {
                known: known.collect(),
                located,
            };
            let tls = match unverified {
                Some(tls) => tls,
                None => self.connections(registry)?.foreign_tls,
            };
            let pools = Pools::new(&self.options, &self.proxies, &tls, Some(&guard))
                .map_err(|error| Failure::new(ErrorKind::Protocol, "").caused_by(error))?;
            Ok(Outside { pools, located })
        };
        cell.get_or_try_init(make).await.cloned()
    }
}

fn http_builder(
    options: &ClientOptions,
    proxies: &Proxies,
    tls: &ClientConfig,
    http1_only: bool,
) -> reqwest::ClientBuilder {
    let mut tls = tls.clone();
    let mut builder = reqwest::Client::builder();
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    if http1_only {
        builder = builder.http1_only();
    } else {
        tls.alpn_protocols.insert(0, b"h2".to_vec());
    }
    builder = builder
        .tls_backend_preconfigured(tls)
        .user_agent(&options.user_agent)
        .connect_timeout(options.connect_timeout)
        // Shorter than servers and load balancers keep idle connections, so that a write, which is
        // not repeated, is not sent on one that is being closed.
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        // Redirects and retries are handled by this crate: each hop is checked and each request
        // counted.
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy();
    if proxies.urls().next().is_some() {
        let proxies = proxies.clone();
        builder = builder.proxy(reqwest::Proxy::custom(move |url| proxies.of(url).cloned()));
    }
    builder
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, BuildError> {
    builder
        .build()
        .map_err(|e| BuildError::new("the HTTP client cannot be set up", e))
}
