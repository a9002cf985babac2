use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oci_content::{MAX_MANIFEST_BYTES, Registry};
use url::Url;

use crate::build_error::BuildError;
use crate::credentials::CredentialSource;
use crate::observer::RequestObserver;
use crate::origin::same_origin;
use crate::proxy::{Proxies, ProxyOptions};
use crate::request_rate::RequestRate;
use crate::retry::RetryPolicy;
use crate::window::Window;

/// The options of a [`Client`](crate::Client).
///
/// Start from the default and change what differs:
///
/// ```
/// let mut options = registry_client::ClientOptions::default();
/// options.plain_http.insert("registry.lab:5000".into());
/// # let _client = registry_client::Client::new(options)?;
/// # Ok::<(), registry_client::BuildError>(())
/// ```
///
/// `Debug` shows neither the client identity nor credentials.
#[derive(Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// The `User-Agent`. Default: `registry-client/` and this crate's version.
    pub user_agent: String,
    /// Requests in flight to one host; fewer while it throttles. At least 1. Default: 16.
    pub max_in_flight: NonZeroUsize,
    /// How often and for how long a call is retried. Default: 6 tries, with at most 120 s of
    /// waiting.
    pub retry: RetryPolicy,
    /// Time to set up one connection, including TLS. Default: 10 s.
    pub connect_timeout: Duration,
    /// Time from sending a request to the head of its answer, including the connection. For an
    /// upload it starts with the last byte and is at least `idle_timeout`. Default: 30 s.
    pub response_timeout: Duration,
    /// The window over which [`min_bytes_per_second`](Self::min_bytes_per_second) is averaged. A
    /// body that is slower, and has not ended, counts as stalled. Only time spent waiting for the
    /// network counts, not time spent in the sink of a blob. Default: 60 s.
    ///
    /// An upload counts as stalled when the connection accepts none of its pieces, of 256 KiB each,
    /// in that time.
    pub idle_timeout: Duration,
    /// Bytes per second, averaged over `idle_timeout`, below which a body counts as stalled. It is
    /// then requested again, a blob from where it stopped, until the tries of
    /// [`retry`](Self::retry) are used up. With 0, one byte is enough. Default: 1 KiB.
    ///
    /// Transfers share the line: if 16 at once are slower than that on a very slow one, lower
    /// `max_in_flight` first.
    pub min_bytes_per_second: u64,
    /// Registries, as references name them (`host` or `host:port`), that speak plain HTTP. Default:
    /// none; loopback speaks plain HTTP without being listed.
    pub plain_http: BTreeSet<String>,
    /// Root certificates in addition to the platform's: PEM, one or more in each. Default: none.
    pub extra_roots: Vec<Vec<u8>>,
    /// A client certificate, its chain and its private key in PEM. Shown to registries only, never
    /// to the target of a redirect or a token service on another host. Default: none.
    pub client_identity: Option<Vec<u8>>,
    /// Folders laid out like the `certs.d` of docker and containers: `HOST[:PORT]/*.crt` are root
    /// certificates for that registry, `*.cert` with `*.key` are client certificates for it. The
    /// first folder that has one for a registry is read, at the first request to it; a file that
    /// cannot be used is then an error. A file has at most 1 MiB. Default: none.
    pub certs_folders: Vec<PathBuf>,
    /// Proxies; `None`, the default, connects directly. The environment is not read.
    pub proxy: Option<ProxyOptions>,
    /// The largest manifest, in bytes. Default: 4 MiB, what the specification asks registries to
    /// accept.
    pub max_manifest_bytes: u64,
    /// The largest page of a list of tags or referrers, in bytes. Default: 32 MiB.
    pub max_list_bytes: u64,
    /// The largest answer of a token service, in bytes. Default: 64 KiB.
    pub max_token_bytes: u64,
    /// Redirects that one request follows. Default: 5.
    pub max_redirects: u32,
    /// Where credentials come from; `None`, the default, is anonymous.
    pub credentials: Option<Arc<dyn CredentialSource>>,
    /// The observer of every request and wait, unless a clone of the client has [its
    /// own](crate::Client::with_observer). Default: none.
    pub observer: Option<Arc<dyn RequestObserver>>,
    /// Which requests share a connection where the server supports HTTP/2. Default:
    /// [`Http2::SmallRequests`].
    pub http2: Http2,
    /// Settings for single registries, by the name that references give them. Default: none.
    pub hosts: BTreeMap<String, HostOptions>,
}

/// Which requests share a connection over HTTP/2.
///
/// HTTP/2 is negotiated by ALPN within TLS; plain HTTP is always HTTP/1.1, with one connection for
/// each request in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Http2 {
    /// All requests.
    Everything,
    /// All but the transfer of blobs, each of which has a connection of its own. Blobs cannot be
    /// fetched from a server that only speaks HTTP/2 then.
    #[default]
    SmallRequests,
    /// None.
    Nothing,
}

/// The settings for one registry. `Debug` does not show the client identity.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct HostOptions {
    /// Whether to use plain HTTP. `None`, the default, leaves it to [`ClientOptions::plain_http`];
    /// loopback then uses plain HTTP unless something about TLS is set here.
    pub plain_http: Option<bool>,
    /// Whether to accept any certificate, so that anybody who answers at the address of the
    /// registry is trusted. This applies to this host and port only, not to redirect targets or
    /// token services elsewhere. Default: no.
    pub insecure: bool,
    /// Root certificates in addition to [`ClientOptions::extra_roots`], for this registry and for
    /// the redirect targets and token services that it leads to: PEM, one or more in each. Default:
    /// none.
    pub extra_roots: Vec<Vec<u8>>,
    /// A client certificate, its chain and its private key in PEM, shown only to this registry and
    /// instead of [`ClientOptions::client_identity`]. Default: none.
    pub client_identity: Option<Vec<u8>>,
    /// The limit of requests in flight; `None`, the default, is [`ClientOptions::max_in_flight`].
    pub max_in_flight: Option<NonZeroUsize>,
    /// The limit of requests per second to this host and port, over all clones of a client.
    /// Default: none.
    ///
    /// Every single request counts: retries, pages, token requests and redirects that go there as
    /// well. A token service or a blob store at another host does not; it has settings under its
    /// own name. Requests are sent in the order in which they arrive.
    pub requests_per_second: Option<RequestRate>,
    /// The limit of the bytes of blobs per second from and to this registry, over all clones of a
    /// client and all transfers together. Default: none.
    ///
    /// Blobs that the registry redirects to another host count as well. After a pause, a tenth of a
    /// second's worth passes at once. A transfer that waits is not stalled.
    pub bytes_per_second: Option<NonZeroU64>,
    /// The times in which requests may go to this registry. Default: always.
    ///
    /// It is looked at before each try of a call; a request that was sent in time is finished, with
    /// its redirects and the token that it needs.
    pub window: Option<Arc<dyn Window>>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        const SIXTEEN: NonZeroUsize = NonZeroUsize::new(16).unwrap();
        Self {
            user_agent: concat!("registry-client/", env!("CARGO_PKG_VERSION")).to_owned(),
            max_in_flight: SIXTEEN,
            retry: RetryPolicy::default(),
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            min_bytes_per_second: 1024,
            plain_http: BTreeSet::new(),
            extra_roots: Vec::new(),
            client_identity: None,
            certs_folders: Vec::new(),
            proxy: None,
            max_manifest_bytes: MAX_MANIFEST_BYTES,
            max_list_bytes: 32 << 20,
            max_token_bytes: 64 << 10,
            max_redirects: 5,
            credentials: None,
            observer: None,
            http2: Http2::default(),
            hosts: BTreeMap::new(),
        }
    }
}

impl ClientOptions {
    /// Returns whether plain HTTP is used for a registry: the setting of its host decides, else it
    /// must be listed, or be loopback without any TLS settings.
    pub fn speaks_plain_http(&self, registry: &Registry) -> bool {
        let host = self.host(registry);
        host.and_then(|host| host.plain_http).unwrap_or_else(|| {
            self.plain_http.contains(registry.as_str())
                || (registry.is_loopback() && !host.is_some_and(HostOptions::has_tls))
        })
    }

    /// Returns the proxy for requests to `url`; `None` is a direct connection.
    ///
    /// # Errors
    /// When a proxy's URL cannot be used.
    pub fn proxy_for(&self, url: &Url) -> Result<Option<Url>, BuildError> {
        let Some(options) = &self.proxy else {
            return Ok(None);
        };
        Ok(Proxies::new(options)?.of(url).cloned())
    }

    /// Returns the URL of a registry's root, with `/` as its path.
    pub(crate) fn base_url(&self, registry: &Registry) -> Result<Url, url::ParseError> {
        let scheme = if self.speaks_plain_http(registry) {
            "http"
        } else {
            "https"
        };
        Url::parse(&format!("{scheme}://{}/", registry.api_host()))
    }

    pub(crate) fn host(&self, registry: &Registry) -> Option<&HostOptions> {
        self.hosts.get(registry.as_str())
    }

    /// Returns the number of bytes of a body that must arrive in `time`.
    pub(crate) fn min_bytes(&self, time: Duration) -> u64 {
        let bytes = u128::from(self.min_bytes_per_second) * time.as_millis() / 1000;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// Returns the settings of the registry at the origin of `url`, if it has any.
    pub(crate) fn host_at(&self, url: &Url) -> Option<&HostOptions> {
        let at = |name: &str| {
            let registry = name.parse::<Registry>().ok()?;
            self.base_url(&registry).ok()
        };
        let mut hosts = self.hosts.iter();
        let (_, host) =
            hosts.find(|(name, _)| at(name).is_some_and(|home| same_origin(&home, url)))?;
        Some(host)
    }
}

impl HostOptions {
    /// Returns whether something about TLS is set.
    pub(crate) fn has_tls(&self) -> bool {
        self.insecure || !self.extra_roots.is_empty() || self.client_identity.is_some()
    }
}

impl fmt::Debug for HostOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostOptions")
            .field("plain_http", &self.plain_http)
            .field("insecure", &self.insecure)
            .field("extra_roots", &self.extra_roots.len())
            .field("client_identity", &self.client_identity.is_some())
            .field("max_in_flight", &self.max_in_flight)
            .field("requests_per_second", &self.requests_per_second)
            .field("bytes_per_second", &self.bytes_per_second)
            .field("window", &self.window)
            .finish()
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("user_agent", &self.user_agent)
            .field("max_in_flight", &self.max_in_flight)
            .field("retry", &self.retry)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .field("idle_timeout", &self.idle_timeout)
            .field("min_bytes_per_second", &self.min_bytes_per_second)
            .field("plain_http", &self.plain_http)
            .field("extra_roots", &self.extra_roots.len())
            .field("client_identity", &self.client_identity.is_some())
            .field("certs_folders", &self.certs_folders)
            .field("proxy", &self.proxy)
            .field("max_manifest_bytes", &self.max_manifest_bytes)
            .field("max_list_bytes", &self.max_list_bytes)
            .field("max_token_bytes", &self.max_token_bytes)
            .field("max_redirects", &self.max_redirects)
            .field("credentials", &self.credentials)
            .field("observer", &self.observer)
            .field("http2", &self.http2)
            .field("hosts", &self.hosts)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_apply_to_a_host_and_port_under_any_of_its_names() {
        let mut options = ClientOptions::default();
        for (name, requests) in [("docker.io", 5.0), ("r.test:443", 7.0)] {
            let host = options.hosts.entry(name.to_owned()).or_default();
            host.requests_per_second = RequestRate::per_second(requests);
        }
        for (url, expected) in [
            ("https://registry-1.docker.io/v2/", Some(5.0)),
            ("https://r.test/v2/", Some(7.0)),
            ("https://r.test:444/v2/", None),
            ("http://r.test/v2/", None),
            ("https://auth.docker.io/token", None),
        ] {
            let host = options.host_at(&Url::parse(url).unwrap());
            let rate = host.and_then(|host| host.requests_per_second);
            assert_eq!(rate, expected.and_then(RequestRate::per_second), "{url}");
        }
    }
}
