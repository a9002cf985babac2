//! Checks from the name to the first connection, which need no registry at the other end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_content::{Registry, with_causes};
use registry_client::ClientOptions;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

use super::exchange::{self, Connection, NoFirstAnswer};
use super::finding::Finding;
use crate::exit::Exit;
use crate::render;

/// The proxy that a registry is reached through.
#[derive(Clone)]
pub(super) struct Proxy {
    host: String,
    port: u16,
    /// The TLS connector for the proxy itself, if its URL is https.
    tls: Option<TlsConnector>,
    /// The `Proxy-Authorization` header with its line end; empty without a user.
    authorization: String,
}

impl Proxy {
    fn new(url: &Url, options: &ClientOptions) -> Result<Self, String> {
        let none = || "the URL of the proxy names no host".to_owned();
        let host = url.host_str().ok_or_else(none)?.to_owned();
        let port = url.port_or_known_default().ok_or_else(none)?;
        let tls = match url.scheme() {
            "https" => {
                // Settings for registries do not apply to a proxy.
                let mut options = options.clone();
                options.hosts.clear();
                options.certs_folders.clear();
                options.client_identity = None;
                let name: Registry = host.parse().map_err(|_| none())?;
                let config = options
                    .server_verifier(&name)
                    .and_then(|verifier| options.tls_config(&name, verifier));
                let config = config.map_err(|error| with_causes(&error))?;
                Some(TlsConnector::from(Arc::new(config)))
            }
            _ => None,
        };
        let authorization = match (decoded(url.username()), url.password().map(decoded)) {
            (user, None) if user.is_empty() => String::new(),
            (user, password) => {
                let pair = format!("{user}:{}", password.unwrap_or_default());
                format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(pair))
            }
        };
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            tls,
            authorization,
        })
    }

    /// Returns the name of the proxy without its password.
    pub(super) fn name(&self) -> String {
        format!("the proxy {}:{}", self.host, self.port)
    }
}

/// Percent-decodes a user or a password of a URL.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = match tail {
            [high, low, ..] if *first == b'%' => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Where to reach a registry.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) registry: Registry,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) speaks_tls: bool,
    pub(super) proxy: Option<Proxy>,
    /// Whether proxies are set but none applies to this registry.
    spared: bool,
    /// The time limit of each answer.
    pub(super) timeout: Duration,
}

impl Place {
    pub(super) fn new(
        registry: &Registry,
        options: &ClientOptions,
        timeout: Duration,
    ) -> Result<Self, String> {
        let plain = options.speaks_plain_http(registry);
        let scheme = if plain { "http" } else { "https" };
        let none = || format!("{registry} cannot be used in a URL");
        let url =
            Url::parse(&format!("{scheme}://{}/", registry.api_host())).map_err(|_| none())?;
        let host = url.host_str().ok_or_else(none)?;
        let proxy = options
            .proxy_for(&url)
            .map_err(|error| with_causes(&error))?;
        let proxy = proxy.map(|url| Proxy::new(&url, options)).transpose()?;
        Ok(Self {
            registry: registry.clone(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port_or_known_default().ok_or_else(none)?,
            speaks_tls: !plain,
            spared: options.proxy.is_some() && proxy.is_none(),
            proxy,
            timeout,
        })
    }

    /// Returns the host and port to connect to first, and a name for them.
    fn first_hop(&self) -> (&str, u16, &'static str) {
        match &self.proxy {
            Some(proxy) => (&proxy.host, proxy.port, "the proxy "),
            None => (&self.host, self.port, ""),
        }
    }

    /// Names the other end of a connection to `address`.
    pub(super) fn peer(&self, address: SocketAddr) -> String {
        match &self.proxy {
            Some(proxy) => format!("{}, through {},", self.authority(), proxy.name()),
            None => address.to_string(),
        }
    }

    /// Returns the head of the first request, `GET /v2/`, in the form for the next hop.
    pub(super) fn first_request(&self) -> String {
        let (mut target, mut more) = ("/v2/".to_owned(), String::new());
        if let Some(proxy) = self.proxy.as_ref().filter(|_| !self.speaks_tls) {
            target = format!("http://{}/v2/", self.authority());
            more.push_str(&proxy.authorization);
        }
        more.push_str("Accept: */*\r\nConnection: close\r\n");
        exchange::request("GET", &target, &self.authority(), &more)
    }

    pub(super) fn seconds(&self) -> String {
        format!("{} s", self.timeout.as_secs())
    }

    /// Formats host and port for the `Host` header.
    pub(super) fn authority(&self) -> String {
        self.registry.api_host().to_owned()
    }

    /// Resolves the host to addresses.
    pub(super) async fn resolve(&self) -> Result<(Vec<SocketAddr>, Finding), Finding> {
        const CHECK: &str = "name resolution";
        let (host, port, what) = self.first_hop();
        if let Ok(address) = host.parse::<IpAddr>() {
            let seen = format!("{what}{host} is already an address");
            return Ok((
                vec![SocketAddr::new(address, port)],
                Finding::good(CHECK, seen),
            ));
        }
        let failed = |seen: String| Finding::failed(CHECK, Exit::Network, seen);
        let found = match timeout(self.timeout, lookup_host((host, port))).await {
            Ok(found) => found,
            Err(_) => {
                let seen = format!(
                    "no name server answered for {host} within {}",
                    self.seconds()
                );
                return Err(failed(seen)
                    .cause("the name servers of this machine cannot be reached")
                    .remedy("check /etc/resolv.conf, the VPN and the firewall"));
            }
        };
        let mut addresses = match found {
            Ok(addresses) => addresses.collect::<Vec<_>>(),
            // `io::Error` keeps neither getaddrinfo's code nor a kind of its own: these are the texts of
            // EAI_AGAIN in glibc and musl.
            Err(error)
                if ["Temporary failure", "Try again"]
                    .iter()
                    .any(|text| error.to_string().contains(text)) =>
            {
                return Err(
                    failed(format!("no name server could say what {what}{host} is ({error})"))
                        .cause("the name servers of this machine cannot be reached, or do not know this domain")
                        .remedy(format!("check /etc/resolv.conf, the VPN and the spelling of {host}")),
                );
            }
            Err(error) => {
                return Err(failed(format!(
                    "there is no host {host} ({error}){}",
                    self.as_proxy()
                ))
                .cause("the name is misspelt, or known inside another network only")
                .remedy(
                    "check the spelling; inside a company, check the VPN and the search domain",
                ));
            }
        };
        addresses.dedup();
        let list: Vec<_> = addresses
            .iter()
            .map(|address| address.ip().to_string())
            .collect();
        let seen = format!("{what}{host} is {}", list.join(", "));
        Ok((addresses, Finding::good(CHECK, seen)))
    }

    /// Connects to the first address that accepts a connection.
    pub(super) async fn connect(
        &self,
        addresses: &[SocketAddr],
    ) -> Result<(SocketAddr, Finding), Finding> {
        const CHECK: &str = "connection";
        let mut failures = Vec::new();
        let mut last = None;
        for address in addresses {
            let started = Instant::now();
            match timeout(self.timeout, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    let millis = started.elapsed().as_millis();
                    let mut seen = format!("{address} accepted after {millis} ms");
                    if let Some(proxy) = &self.proxy {
                        self.through(proxy, stream)
                            .await
                            .map_err(|no| no.finding(self, proxy))?;
                        let name = proxy.name();
                        seen = format!("through {name}, which accepted after {millis} ms");
                    } else if self.spared {
                        seen.push_str(", without a proxy: NO_PROXY exempts it, or none applies");
                    }
                    return Ok((*address, Finding::good(CHECK, seen).details(failures)));
                }
                Ok(Err(error)) => {
                    failures.push(format!("{address}: {error}"));
                    last = Some(error.kind());
                }
                Err(_) => {
                    failures.push(format!("{address}: no answer within {}", self.seconds()));
                    last = Some(io::ErrorKind::TimedOut);
                }
            }
        }
        let (host, port, what) = self.first_hop();
        let host = format!("{what}{host}");
        let (seen, cause, remedy) = match last {
            Some(io::ErrorKind::ConnectionRefused) => (
                format!("{host} refuses connections at port {port}"),
                match self.proxy {
                    Some(_) => "the proxy is not running, or listens at another port",
                    None => "the registry is not running, or listens at another port",
                },
                match self.proxy {
                    Some(_) => {
                        "check HTTPS_PROXY and HTTP_PROXY; NO_PROXY names hosts that need none"
                    }
                    None => "check that the registry runs, and the port in the reference",
                },
            ),
            Some(io::ErrorKind::TimedOut) => (
                format!("{host} does not answer at port {port}"),
                "a firewall drops the packets, or the address is an old one",
                "ask the operator of the firewall in between; check the address",
            ),
            Some(io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable) => (
                format!("there is no route from here to {host}"),
                "this machine has no route to that network",
                "check the network connection, the VPN and IPv6",
            ),
            _ => (
                format!("no connection to {host} at port {port}"),
                "something in between breaks connections",
                "try from another machine in the same network",
            ),
        };
        let tried = match addresses.len() {
            0 | 1 => Vec::new(),
            count => {
                failures.push(format!("{} tried", render::count(count, "address")));
                failures
            }
        };
        Err(Finding::failed(CHECK, Exit::Network, seen)
            .details(tried)
            .cause(cause)
            .remedy(remedy))
    }

    /// Makes another connection to the registry through an address that accepted one.
    pub(super) async fn stream(&self, address: SocketAddr) -> io::Result<Box<dyn Connection>> {
        let stream = match timeout(self.timeout, TcpStream::connect(address)).await {
            Ok(stream) => stream?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        match &self.proxy {
            Some(proxy) => self
                .through(proxy, stream)
                .await
                .map_err(|no| io::Error::other(no.seen(self, proxy))),
            None => Ok(Box::new(stream)),
        }
    }

    /// Connects through a proxy like the client: for TLS, through a tunnel.
    async fn through(
        &self,
        proxy: &Proxy,
        stream: TcpStream,
    ) -> Result<Box<dyn Connection>, NoTunnel> {
        let mut stream: Box<dyn Connection> = match &proxy.tls {
            Some(connector) => {
                let broken = |why: String| NoTunnel::Tls(why);
                let name = ServerName::try_from(proxy.host.clone());
                let name = name.map_err(|error| broken(error.to_string()))?;
                match timeout(self.timeout, connector.connect(name, stream)).await {
                    Ok(Ok(stream)) => Box::new(stream),
                    Ok(Err(error)) => return Err(broken(error.to_string())),
                    Err(_) => return Err(NoTunnel::Answer(NoFirstAnswer::Silent)),
                }
            }
            None => Box::new(stream),
        };
        if self.speaks_tls {
            let host = if self.host.contains(':') {
                format!("[{}]:{}", self.host, self.port)
            } else {
                format!("{}:{}", self.host, self.port)
            };
            let request = exchange::request("CONNECT", &host, &host, &proxy.authorization);
            match exchange::tunnel(&mut stream, &request, self.timeout).await {
                Ok(200..300) => {}
                Ok(status) => return Err(NoTunnel::Refused(status)),
                Err(none) => return Err(NoTunnel::Answer(none)),
            }
        }
        Ok(stream)
    }

    fn as_proxy(&self) -> &'static str {
        self.proxy
            .as_ref()
            .map_or("", |_| "; it is named as the proxy")
    }
}

/// Why a connection through a proxy failed.
#[derive(Debug)]
enum NoTunnel {
    Refused(u16),
    Tls(String),
    Answer(NoFirstAnswer),
}

impl NoTunnel {
    fn seen(&self, place: &Place, proxy: &Proxy) -> String {
        let (name, to) = (proxy.name(), place.authority());
        match self {
            Self::Refused(407) => format!("{name} requires a login (407)"),
            Self::Refused(status) => {
                format!("{name} does not connect to {to}: it answers {status}")
            }
            Self::Tls(why) => format!("TLS with {name} failed: {why}"),
            Self::Answer(NoFirstAnswer::Silent) => {
                format!(
                    "{name} accepted the connection and sent nothing for {}",
                    place.seconds()
                )
            }
            Self::Answer(NoFirstAnswer::Closed(how)) => {
                format!("{name} closed the connection ({how}) instead of connecting to {to}")
            }
            Self::Answer(_) => format!("what answers as {name} is not an HTTP proxy"),
        }
    }

    fn finding(&self, place: &Place, proxy: &Proxy) -> Finding {
        let (cause, remedy) = match self {
            Self::Refused(407) => (
                "the URL of the proxy has no user and password, or wrong ones",
                "set HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT, with %40 for an @ in the password",
            ),
            Self::Refused(403 | 405) => (
                "the proxy does not allow connections to that host and port, at least not from this machine",
                "ask the proxy's operator to allow it; NO_PROXY names hosts that are connected directly",
            ),
            Self::Refused(_) => (
                "the proxy cannot resolve or reach the registry",
                "a registry inside the network must be named in NO_PROXY; otherwise ask the proxy's operator",
            ),
            Self::Tls(_) => (
                "the proxy does not speak TLS at this port, or its certificate is not trusted",
                "check whether HTTPS_PROXY must begin with http://; --ca-file trusts its authority",
            ),
            Self::Answer(_) => (
                "another service is at this port, or the proxy hangs",
                "check HTTPS_PROXY and HTTP_PROXY; NO_PROXY names hosts that need none",
            ),
        };
        Finding::failed("connection", Exit::Network, self.seen(place, proxy))
            .cause(cause)
            .remedy(remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_escapes_is_decoded() {
        for (text, expected) in [
            ("user", "user"),
            ("us%40er%3A", "us@er:"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%C3%BC+", "\u{fc}+"),
        ] {
            assert_eq!(decoded(text), expected);
        }
    }
}
